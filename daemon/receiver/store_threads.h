// SPDX-License-Identifier: Apache-2.0
// A few threads for all stores of a receiver. Stores that have something to do take turns in the order in which they
// became ready, and one that wants more goes to the back: a greedy store cannot starve the others. Threads spend most
// of their time in fdatasync(2), so there are more of them than processors; their number does not grow with that of
// stores.
//
// Threads: any. Tasks must be forgotten before the object goes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "daemon/receiver/store_executor.h"

namespace understudy {

class StoreThreads final : public StoreExecutor {
 public:
  // kLow: threads that take the processor and the disk when others do not want them (nice 19, best-effort I/O of the
  // lowest level; not idle, which might wait for ever).
  enum class Priority : std::uint8_t { kNormal, kLow };
  explicit StoreThreads(unsigned thread_count, Priority priority = Priority::kNormal);
  ~StoreThreads() override;

  void wake(StoreTask& task) override;
  void forget(StoreTask& task) override;

 private:
  struct State {
    bool queued = false;
    bool running = false;
    bool again = false;                          // woken while it was running
    std::optional<std::uint64_t> due_ns;  // delayed until then
  };
  void run();
  void queue(StoreTask& task, State& state);     // under mutex_
  void queue_due(std::uint64_t now_ns);          // under mutex_

  std::mutex mutex_;
  std::condition_variable work_;                 // something is ready, due earlier, or stop
  std::condition_variable ended_;                // a turn ended
  std::map<StoreTask*, State> tasks_;            // those that are queued, running or delayed
  std::deque<StoreTask*> ready_;
  std::multimap<std::uint64_t, StoreTask*> delayed_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace understudy
