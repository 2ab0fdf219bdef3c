// SPDX-License-Identifier: Apache-2.0
// The one thread on which the replicator, the tracker, the disk reader and the link live. Others talk to it by post().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "daemon/agent/engine_disk_reader.h"
#include "daemon/base/unique_fd.h"
#include "daemon/replicate/replicator.h"

namespace understudy {

class ReplicationThread {
 public:
  struct Parts {
    std::unique_ptr<Tracker> tracker;
    std::unique_ptr<EngineDiskReader> reader;
    std::unique_ptr<EngineDiskReader> digest_reader;  // null = no digest scans
    std::unique_ptr<Link> link;
    ReplicatorOptions options;
    // On the thread: what should be logged; and, about once a second, how things stand.
    std::function<void(const ReplicatorEvent&)> on_event;
    std::function<void(const ReplicationStatus&)> on_status;
    // A survey of the disks is wanted, to be answered by Replicator::leave_out(). May be empty.
    std::function<void(std::uint64_t request)> on_survey_wanted;
    // On the thread, whenever the state of replication changed: the number counts the changes.
    std::function<void(std::uint64_t, const ReplicationState&)> on_state;
  };

  static Result<std::unique_ptr<ReplicationThread>> start(Parts parts);
  // Stops at once. Capture goes on in the kernel.
  ~ReplicationThread();
  ReplicationThread(const ReplicationThread&) = delete;
  ReplicationThread& operator=(const ReplicationThread&) = delete;

  // Runs `work` on the thread between two steps. Thread-safe; dropped after the thread ended.
  void post(std::function<void(Replicator&)> work);
  // The status as of now; when the thread does not answer within `timeout_ns`, the last one it made, aged.
  ReplicationStatus status(std::uint64_t timeout_ns = 1'000'000'000);
  // Stops, restarts or repairs replication. The state after it, with the number of its change. kTimeout when the thread
  // does not answer: it may still be done.
  struct Commanded {
    std::uint64_t number = 0;
    ReplicationState state;
  };
  Result<Commanded> command(ReplicationCommand command, std::uint64_t timeout_ns = 5'000'000'000);
  // Sends what is captured and waits for its acknowledgement, at most `timeout_ns`; the thread ends. True = all of it
  // was acknowledged. Not thread-safe, once.
  bool drain_and_stop(std::uint64_t timeout_ns);
  // After drain_and_stop(): ends capture for good.
  Status detach();

  // Boot clock of the last step: at most a good second old while the thread turns.
  std::uint64_t last_step_ns() const { return last_step_ns_.load(std::memory_order_relaxed); }

 private:
  ReplicationThread(Parts parts, UniqueFd wake);
  void run();
  void run_posted();
  void watch_state();
  void sleep(const StepResult& result);
  void wake();

  Parts parts_;
  UniqueFd wake_fd_;
  std::unique_ptr<Replicator> replicator_;
  std::atomic<bool> stop_now_{false};
  std::atomic<std::uint64_t> last_step_ns_{0};
  std::uint64_t stop_deadline_ns_ = 0;         // thread only; 0 = not stopping
  std::atomic<bool> drained_{false};
  std::mutex mutex_;                           // guards posted_, last_status_ and last_status_ns_
  std::vector<std::function<void(Replicator&)>> posted_;
  ReplicationStatus last_status_;
  std::uint64_t last_status_ns_ = 0;
  std::uint64_t state_changes_ = 0;            // thread only
  ReplicationState told_state_;                // thread only
  std::thread thread_;
};

}  // namespace understudy
