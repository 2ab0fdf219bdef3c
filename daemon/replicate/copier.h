// SPDX-License-Identifier: Apache-2.0
// Reads dirty granules from the disks so that the bytes can go into the stream without ever overriding a captured
// write (invariant I4). Per chunk (consecutive granules, at most one buffer):
//
//   1. copy mode is on: the tracker knows every write in flight
//   2. head0 = head(); claim the granules (DIRTY -> CLAIMED); look at the writes in flight
//        overlapped by a lost one     -> those granules go back (DIRTY), they are read once it has completed
//        overlapped by a captured one -> those sectors are left out: the read may see old or new bytes
//   3. read the disk; head1 = head()
//   4. when the stream has every event up to head1: leave out the sectors of every event behind head0
//   5. the rest is handed out as fragments; their records stand behind those events in the stream
//   6. acknowledged -> CLEAN (acknowledgement.h); a write lost meanwhile made the granule DIRTY again and keeps it so
//
// A pass goes over all disks once. When a pass found nothing to do, verify_clean() proves that the stream may HEAL.
//
// A failed read is tried again a few times, then granule by granule; what still fails stays DIRTY, is reported, and is
// tried again after a while. It is never replaced by anything.
//
// No thread, no clock, no link inside; the caller drives it. Owned by the Replicator.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "daemon/replicate/disk_reader.h"
#include "daemon/replicate/interval_set.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

struct CopierOptions {
  std::uint64_t chunk_bytes_max = 1u << 20;               // also bounded by the reader's buffers
  std::uint32_t read_attempts_max = 3;
  std::uint64_t retry_ns = 100'000'000;                   // between attempts
  std::uint64_t bad_retry_ns = 60'000'000'000;            // for what failed all attempts
  std::uint64_t pass_pause_ns = 5'000'000;                // before looking again at what could not be read yet,
  std::uint64_t pass_pause_ns_max = 1'000'000'000;        // ... doubling up to this
  // How many chunks may be under way; the rest of the buffers stays unused. 0 = all buffers.
  std::uint32_t chunks_max = 0;
};

// A part of a chunk for the stream.
struct CopyFragment {
  std::uint16_t disk = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  bool zeros = false;
  std::span<const std::byte> data;  // empty for zeros
};

struct CopyChunk {
  GranuleRange range;
  std::uint64_t read_ns = 0;            // boot clock: not later than the read ended
  std::vector<CopyFragment> fragments;  // may be none: everything in it was captured
  std::shared_ptr<void> keepalive;      // owns the buffer that the fragments point into; null when none does
};

// A granule that cannot be read.
struct DiskReadFailure {
  std::uint16_t disk = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  int error_number = 0;  // 0 = the device ended before
};

class Copier {
 public:
  Copier(Tracker& tracker, DiskReader& reader, const CopierOptions& options);

  // Starts copying whatever is dirty. Settles copy mode anew, so that a write whose event is not in the stream any
  // more cannot be taken for a captured one.
  void begin();
  // The stream is gone or starts anew: chunks are given up (the caller unclaims or marks), copy mode goes off.
  void abort();
  // The same, but what was not handed out yet becomes dirty again by itself; what was handed out stays claimed.
  void give_up();
  bool active() const { return state_ != State::kIdle; }
  // Copy mode is on and settled since begin().
  bool settled() const { return state_ == State::kCopying; }

  // Every event that becomes a record, before or after it did.
  void note_event(const CaptureEvent& event);

  // Takes finished reads, starts new ones if `may_claim`. `on_claim` is called with every range that was claimed for
  // good. An error is one of the tracker: copy mode or in-flight writes cannot be had; called again it tries again.
  Status work(std::uint64_t now_ns, bool may_claim, const std::function<void(const GranuleRange&)>& on_claim);

  // The chunk claimed first among those that are read and whose events are in the stream up to `stream_position` (ring
  // position): the oldest, so that none waits for ever.
  std::optional<CopyChunk> take_ready(std::uint64_t stream_position);
  bool has_ready(std::uint64_t stream_position) const { return oldest_ready(stream_position).has_value(); }

  // True when nothing is under way and the last pass found nothing: time for verify_clean().
  bool pass_found_nothing() const;
  // Looks over all disks once more, at one instant: no dirty granule, no lost write in flight. False starts a pass.
  Result<bool> verify_clean(std::uint64_t now_ns);

  // When work() has something to do that no completion or event announces; nullopt = nothing.
  std::optional<std::uint64_t> wake_at_ns() const;

  std::uint32_t chunks_in_use() const;
  void set_chunks_max(std::uint32_t chunks_max) { options_.chunks_max = chunks_max; }
  // What cannot be read at the moment.
  std::uint64_t unreadable_bytes() const;
  std::optional<DiskReadFailure> take_failure();

 private:
  enum class State : std::uint8_t { kIdle, kSettling, kCopying };
  enum class ChunkState : std::uint8_t { kFree, kReading, kRetry, kRead, kGivenUp };
  struct Chunk {
    ChunkState state = ChunkState::kFree;
    GranuleRange range;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    std::uint64_t head_before = 0;
    std::uint64_t head_after = 0;
    std::uint64_t read_ns = 0;
    std::uint64_t claim = 0;  // counts claims
    IntervalSet captured;
    std::uint32_t attempts = 0;
    std::uint64_t retry_at_ns = 0;
  };
  struct DiskState {
    TrackedDisk disk;
    std::uint64_t granules = 0;
    IntervalSet fragile;               // granules to be read one at a time after a failure
    IntervalSet bad;                   // granules that cannot be read, until bad_retry_at_ns
    std::uint64_t bad_retry_at_ns = 0;
  };

  void start_pass();
  void reap(std::uint64_t now_ns);
  void read_finished(Chunk& chunk, const ReadCompletion& completion, std::uint64_t now_ns);
  void read_failed(Chunk& chunk, int error_number, std::uint64_t now_ns);
  void submit(std::uint32_t index, std::uint64_t now_ns);
  Status claim_round(std::uint64_t now_ns, const std::function<void(const GranuleRange&)>& on_claim);
  std::optional<GranuleRange> claim_next(std::uint64_t now_ns);
  std::optional<GranuleRange> trim_claim(DiskState& disk, GranuleRange range, std::uint64_t now_ns);
  void respect_in_flight(Chunk& chunk, const std::vector<InFlightWrite>& writes);
  void give_back(const GranuleRange& range);
  void make_fragments(const Chunk& chunk, std::uint32_t index, CopyChunk& out);
  std::optional<std::uint32_t> oldest_ready(std::uint64_t stream_position) const;
  bool buffer_free(std::uint32_t index) const;
  DiskState& disk_state(std::uint16_t slot);

  Tracker& tracker_;
  DiskReader& reader_;
  CopierOptions options_;
  State state_ = State::kIdle;
  bool settle_asked_ = false;        // copy mode was switched off and on again since begin()
  std::vector<DiskState> disks_;
  std::vector<Chunk> chunks_;        // one per buffer of the reader
  std::vector<std::uint32_t> claimed_now_;
  std::uint64_t claims_ = 0;
  // Set while a batch somewhere still points into the buffer; shared with the keepalives, which end on any thread.
  std::shared_ptr<std::vector<std::atomic<bool>>> leased_;

  std::size_t pass_disk_ = 0;        // where the pass stands
  std::uint64_t pass_granule_ = 0;
  bool pass_scanned_ = false;        // it reached the end
  bool pass_found_ = false;          // it claimed something
  bool pass_postponed_ = false;      // something dirty could not be claimed now
  std::uint64_t not_before_ns_ = 0;  // of the next settling or pass
  std::uint64_t pass_pause_ns_ = 0;
  std::vector<DiskReadFailure> failures_;
};

}  // namespace understudy
