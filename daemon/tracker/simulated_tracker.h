// SPDX-License-Identifier: Apache-2.0
// A Tracker without a kernel, for unit tests and the simulator: a bounded ring, a dirty map, in-flight writes, losses,
// and the disks themselves, with the rules of the real one (capture_abi.h, tracker.h).
//
// SimulatedCapture is the kernel half: the test submits and completes writes, and it outlives agents. open() gives the
// agent's half, a Tracker; destroying that is the agent's death, opening again its restart. A disk's bytes change at
// apply() or, at the latest, complete(), never at submission: a copy that reads the disk without asking in_flight()
// gets stale bytes, as on a real one.
//
// Threads: all calls are safe from any thread (one lock); spans of events stay valid until released.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

struct SimulatedDisk {
  std::string path = "/dev/simulated";
  std::uint64_t size_bytes = 0;  // a multiple of 512
  std::uint32_t logical_block_bytes = 512;
  std::vector<std::byte> content = {};  // when capture begins; shorter than the disk = zeros behind it
};

struct SimulatedCaptureOptions {
  std::vector<SimulatedDisk> disks;  // slot = index
  std::uint64_t ring_bytes = 1024 * 1024;
  std::uint32_t granule_bytes = 64 * 1024;
  std::uint32_t in_flight_max = 16 * 1024;
  Clock* clock = nullptr;  // null = system_clock()
  Uuid capture_id;         // nil = random
  // true: wait() returns at once (the simulator owns time); false: it really sleeps until an event, wake() or timeout.
  bool virtual_time = false;
};

struct SimulatedWriteFlags {
  bool preflush = false;
  bool fua = false;
};

class SimulatedCapture {
 public:
  explicit SimulatedCapture(SimulatedCaptureOptions options);
  ~SimulatedCapture();
  SimulatedCapture(const SimulatedCapture&) = delete;
  SimulatedCapture& operator=(const SimulatedCapture&) = delete;

  // The agent's half. One at a time (CHECK); the capture must outlive it. cursor() starts at tail().
  std::unique_ptr<Tracker> open();

  // --- the application's side. Each returns the identity of the write for apply() and complete() ---
  // Offsets and lengths are multiples of 512 within the disk (CHECK).
  std::uint64_t submit_write(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const std::byte> data,
                             SimulatedWriteFlags flags = {});
  std::uint64_t submit_zero(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                            bool discard = false);
  std::uint64_t submit_flush(std::uint16_t disk);
  // The disk takes the bytes now although the write has not completed. Once per write; complete() does it otherwise.
  void apply(std::uint64_t write);
  void complete(std::uint64_t write);
  // Submits and completes.
  void write(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const std::byte> data,
             SimulatedWriteFlags flags = {});
  void zero(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, bool discard = false);
  void flush(std::uint16_t disk);
  // Submitted and not completed, in order of submission.
  std::vector<std::uint64_t> writes_in_flight() const;
  // What a read of the disk returns now.
  void read_disk(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) const;
  std::span<const std::byte> disk_bytes(std::uint16_t disk) const;

  // --- faults ---
  void skip_next(std::uint32_t count);           // the capturing program does not run for the next writes
  void fail_reads_next(std::uint32_t count);     // ... cannot read the pages of the next writes
  void miss_first_program(std::uint32_t count);  // the noting program is skipped: Losses::unprovable, no other trace
  void set_ring_bytes(std::uint64_t bytes);      // smaller or larger from now on; what is in the ring stays
  void fail_settle_next(std::uint32_t count);    // set_copy_mode(true) answers false that many times

  // The machine restarts while no agent is there: ring, dirty map, losses and writes in flight are gone, the disks keep
  // what was applied, and capture begins anew under another identity.
  void reboot();
  // While no agent is there: a disk is added, or grows; what is new holds `content` and is dirty. The slot.
  std::uint16_t add_disk(const std::string& path, std::span<const std::byte> content);
  void grow_disk(std::uint16_t disk, std::span<const std::byte> content);
  // A write that no capture sees, as before capture began after a reboot.
  void write_unseen(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const std::byte> data);

  std::uint64_t captured_writes() const;
  // As the Tracker says them, also while no agent lives.
  Losses losses() const;
  std::uint64_t head() const;
  Uuid capture_id() const;

  struct State;  // of simulated_tracker.cc

 private:
  std::unique_ptr<State> state_;
};

}  // namespace understudy
