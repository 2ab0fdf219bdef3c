// SPDX-License-Identifier: Apache-2.0
// What the agent needs from a kernel write tracker, whichever rung of the ladder it is (BPF, module, simulated).
//
// The tracker keeps an ordered ring of captured writes of all disks of the server, and beside it a dirty map that
// takes what the ring could not. The ring is also the replication queue: an event stays in it, readable in place and
// surviving the agent's death, until release() is called because the receiver acknowledged it. That is what makes
// kill -9 of the agent harmless without ever copying the data.
//
// Threads: one thread uses a Tracker, except losses() and wake(), which any thread may call.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/uuid.h"

namespace understudy {

enum class CaptureKind : std::uint8_t { kWrite = 1, kZero = 2, kBarrier = 3 };

// A disk under capture.
struct TrackedDisk {
  std::uint16_t slot = 0;           // its number in events and in the stream
  std::string path;                 // as configured, e.g. /dev/vdb
  std::uint32_t device = 0;         // kernel dev_t of the whole disk
  std::uint64_t size_bytes = 0;     // when it was attached
  std::uint32_t logical_block_bytes = 512;
  std::uint32_t granule_bytes = 0;  // granule of the dirty map
};

// One captured event. `data` points into the ring: valid until release() of a position at or above `position`.
struct CaptureEvent {
  CaptureKind kind = CaptureKind::kWrite;
  bool preflush = false;            // a flush acts before this event
  bool fua = false;                 // this event is durable when its bio completes
  bool discard = false;             // a ZERO that came from a discard
  std::uint16_t disk = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::uint64_t boot_time_ns = 0;   // CLOCK_BOOTTIME at submission
  std::uint64_t loss_count = 0;     // Losses::total() when it was captured
  std::uint64_t position = 0;       // ring position just behind this event
  std::span<const std::byte> data;  // length_bytes for a write, else empty
};

// Writes that did not become events in full. Their extents are in the dirty map before the figures move.
struct Losses {
  std::uint64_t total = 0;
  std::uint64_t ring_full = 0;
  std::uint64_t skipped = 0;
  std::uint64_t unreadable = 0;
  std::uint64_t too_long = 0;
  std::uint64_t untracked = 0;
  // Runs of the first program that the kernel skipped: no extent is known, so the capture identity must change.
  std::uint64_t unprovable = 0;
};

struct GranuleRange {
  std::uint16_t disk = 0;
  std::uint64_t first = 0;  // granule number; offset in bytes = first * granule_bytes
  std::uint64_t count = 0;
};

// A write that was submitted and has not completed.
struct InFlightWrite {
  std::uint16_t disk = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  bool lost = false;  // its data is not in the ring
};

// The map of what must be read from disk again: a byte per granule, DIRTY -> CLAIMED -> CLEAN (capture_abi.h). It
// cannot overflow, and like the ring it outlives the agent.
class DirtyMap {
 public:
  virtual ~DirtyMap() = default;
  // Marks every granule touching the extent. For the first full copy: the whole disk.
  virtual void mark(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) = 0;
  // The next run of dirty granules of `disk` at or after granule `from`, at most `count_max` long; they become
  // CLAIMED. nullopt = no dirty granule from there to the end of the disk.
  virtual std::optional<GranuleRange> claim_next(std::uint16_t disk, std::uint64_t from, std::uint64_t count_max) = 0;
  // CLAIMED -> CLEAN, for what was acknowledged; granules that became DIRTY meanwhile stay so.
  virtual void finish(const GranuleRange& range) = 0;
  // CLAIMED -> DIRTY, for what was read but will not be acknowledged.
  virtual void unclaim(const GranuleRange& range) = 0;
  // Every CLAIMED of every disk -> DIRTY: after a start of the agent and after a lost connection.
  virtual void unclaim_all() = 0;
  // Granules that are DIRTY or CLAIMED.
  virtual std::uint64_t pending_count(std::uint16_t disk) const = 0;
  virtual std::uint64_t dirty_count(std::uint16_t disk) const = 0;
};

class Tracker {
 public:
  virtual ~Tracker() = default;

  // "bpf", "module-queue", "module-dm", "simulated".
  virtual std::string_view rung() const = 0;
  // Identity of this unbroken capture: as long as it is the same, every write is an event or dirty.
  virtual Uuid capture_id() const = 0;
  // Takes a new identity because completeness can no longer be proved (Losses::unprovable moved).
  virtual Status renew_capture_id() = 0;

  virtual const std::vector<TrackedDisk>& disks() const = 0;

  // --- events ---
  // The next event at the cursor, which moves behind it; nullopt = the ring is drained up to its head.
  virtual std::optional<CaptureEvent> next() = 0;
  // Ring positions: bytes that only grow. tail <= cursor <= head.
  virtual std::uint64_t tail() const = 0;    // released up to here
  virtual std::uint64_t cursor() const = 0;  // read up to here
  virtual std::uint64_t head() const = 0;    // captured up to here
  virtual std::uint64_t ring_bytes() const = 0;
  // Moves the cursor to an event boundary between tail() and head(): after a reconnect, to what is acknowledged.
  virtual Status seek(std::uint64_t position) = 0;
  // The last seq that a receiver has acknowledged. Kept with the ring, so that it outlives the agent: a receiver that
  // comes back with less was set back, and what it lacks may have been released here. 0 = not known.
  virtual void keep_acknowledged(std::uint64_t /*seq*/) {}
  virtual std::uint64_t acknowledged() const { return 0; }
  // Gives everything before `position` back to the kernel side.
  virtual void release(std::uint64_t position) = 0;
  // Sleeps until there is an event at the cursor, wake() is called or the time is over. Costs nothing while idle and
  // no wake-up per event under load.
  virtual void wait(std::chrono::nanoseconds timeout) = 0;
  virtual void wake() = 0;

  // --- what the ring could not take ---
  virtual Losses losses() const = 0;
  virtual DirtyMap& dirty() = 0;

  // --- reading disks under writes (I4) ---
  // While on, writes in flight are known. Turning it on waits until no write submitted before is in flight any more
  // (bounded; false = could not be settled in time, ask again).
  virtual Result<bool> set_copy_mode(bool on) = 0;
  // Writes in flight now: everything submitted and not completed since copy mode was settled, and every lost write.
  virtual Result<std::vector<InFlightWrite>> in_flight() = 0;

  // Ends capture for good and gives the kernel's memory back. Otherwise capture goes on without the agent.
  virtual Status detach() = 0;
};

}  // namespace understudy
