// SPDX-License-Identifier: Apache-2.0
// The protected machine: its disks and their capture, the applications that write, and the agent process with the
// production Replicator. The agent can die at every call it makes, the machine at any time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "daemon/replicate/replicator.h"
#include "daemon/tracker/simulated_tracker.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sim_link.h"
#include "tests/unit/replicate/interrupted_tracker.h"
#include "tests/unit/replicate/memory_disk_reader.h"

namespace understudy::sim {

class SourceHost {
 public:
  SourceHost(World& world, Oracle& oracle, Dial dial);
  ~SourceHost();

  // --- faults ---
  void kill_agent_soon(std::uint64_t away_ns);
  void stop_agent(std::uint64_t away_ns);  // SIGTERM
  void crash(std::uint64_t away_ns);       // of the machine
  void shrink_ring(std::uint64_t for_ns);
  void fail_reads(std::uint64_t for_ns);
  void skip_write() {
    if (up_) capture_->skip_next(1);
  }
  void fail_page_read() {
    if (up_) capture_->fail_reads_next(1);
  }
  void miss_program();
  void unsettle() {
    if (up_) capture_->fail_settle_next(1);
  }
  void flip_bit();
  MachineClock& clock() { return clock_; }
  // An agent that begins after this knows nothing of what an older store had acknowledged.
  std::function<void()> on_agent_start;

  // No more writes; those in flight complete, the disks are well. Again after each event: the machine may just boot.
  void calm_down();
  // Nothing is to be done any more: the agent is in real time and everything is acknowledged.
  bool settled() const;
  bool agent_runs() const { return replicator_ != nullptr; }
  Seq acknowledged() const { return link_ ? link_->acknowledged() : 0; }
  std::vector<std::vector<std::byte>> disks() const;
  std::string status() { return replicator_ ? status_line(replicator_->status()) : "no agent"; }

 private:
  struct Killed {};  // thrown out of the agent's calls
  struct InFlight {
    std::uint16_t disk = 0;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
  };

  void boot(std::vector<std::vector<std::byte>> content);
  void start_agent();
  void end_agent();
  void restart_agent_after(std::uint64_t away_ns);
  void interrupted();
  void run_step();
  void check_bounds();
  void wake_agent(std::uint64_t delay_ns);
  bool reads_wait() const;
  void read_disks();

  // --- applications ---
  void run_application();
  void submit();
  void log_submitted(const LoggedEvent& model, std::span<const std::byte> data, std::uint64_t head_before,
                     const Losses& losses_before);
  void complete_later(std::uint64_t id, const InFlight& write);
  void complete(std::uint64_t id);
  bool overlaps_in_flight(std::uint16_t disk, std::uint64_t offset, std::uint64_t length) const;
  std::vector<std::byte> stamped(std::uint16_t disk, std::uint64_t offset, std::uint64_t length);
  void request_mark();

  World& world_;
  Oracle& oracle_;
  const Dial dial_;
  MachineClock clock_;
  std::vector<std::uint64_t> sizes_;
  std::uint64_t ring_bytes_ = 0;
  std::uint32_t granule_bytes_ = 0;
  std::uint32_t buffers_ = 0;
  std::uint32_t buffer_bytes_ = 0;
  bool digests_ = false;
  bool repairs_ = false;
  ReplicatorOptions options_;
  std::uint32_t write_pause_us_ = 0;  // between bursts of the applications, on average
  std::uint32_t read_pause_us_ = 0;   // between pieces of reads of the disks, on average
  std::uint32_t read_pieces_ = 0;     // so many of them at a time, at most

  std::uint64_t boots_ = 0;
  std::unique_ptr<SimulatedCapture> capture_;
  std::unique_ptr<InterruptedTracker> tracker_;
  std::unique_ptr<MemoryDiskReader> reader_;
  std::unique_ptr<MemoryDiskReader> digest_reader_;  // null: this source cannot compare
  std::unique_ptr<SimLink> link_;
  std::unique_ptr<Replicator> replicator_;
  std::uint64_t agent_ = 0;           // counts agent processes
  Scheduler::EventId step_event_ = 0;
  Scheduler::Time step_at_ = 0;
  bool in_step_ = false;
  bool reading_ = false;              // read_disks() is on its way
  bool stopping_ = false;
  std::uint64_t calls_to_live_ = 0;   // of the agent; 0 = no death is near
  bool up_ = false;                   // the machine
  std::uint64_t away_ns_ = 0;

  std::map<std::uint64_t, InFlight> in_flight_;
  std::uint64_t write_number_ = 0;
  std::uint64_t next_mark_ = 1;
  std::uint32_t misses_left_ = 2;
  bool quiet_ = false;
};

}  // namespace understudy::sim
