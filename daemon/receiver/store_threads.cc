// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/store_threads.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "daemon/base/check.h"
#include "daemon/base/clock.h"

namespace understudy {
namespace {

// Both are a favour to others: without the right to do it, or a kernel that knows it, the work goes on as it is.
void lower_priority() {
  constexpr int kWhoProcess = 1;                 // IOPRIO_WHO_PROCESS: a thread id, 0 = the caller (ioprio_set(2))
  constexpr int kBestEffortLowest = 2 << 13 | 7;  // IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7)
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 19);
  (void)::syscall(SYS_ioprio_set, kWhoProcess, 0, kBestEffortLowest);
}

}  // namespace

StoreThreads::StoreThreads(unsigned thread_count, Priority priority) {
  CHECK_GT(thread_count, 0u);
  for (unsigned i = 0; i < thread_count; ++i) {
    threads_.emplace_back([this, priority] {
      if (priority == Priority::kLow) lower_priority();
      run();
    });
  }
}

StoreThreads::~StoreThreads() {
  {
    const std::lock_guard lock(mutex_);
    CHECK(tasks_.empty());
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void StoreThreads::wake(StoreTask& task) {
  {
    const std::lock_guard lock(mutex_);
    State& state = tasks_[&task];
    if (state.running) {
      state.again = true;
      return;
    }
    queue(task, state);
  }
  work_.notify_one();
}

void StoreThreads::forget(StoreTask& task) {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] {
    const auto found = tasks_.find(&task);
    return found == tasks_.end() || !found->second.running;
  });
  std::erase(ready_, &task);
  std::erase_if(delayed_, [&](const auto& entry) { return entry.second == &task; });
  tasks_.erase(&task);
}

void StoreThreads::queue(StoreTask& task, State& state) {
  if (state.queued) return;
  if (state.due_ns) {
    std::erase_if(delayed_, [&](const auto& entry) { return entry.second == &task; });
    state.due_ns.reset();
  }
  state.queued = true;
  ready_.push_back(&task);
}

void StoreThreads::queue_due(std::uint64_t now_ns) {
  while (!delayed_.empty() && delayed_.begin()->first <= now_ns) {
    StoreTask* task = delayed_.begin()->second;
    queue(*task, tasks_.at(task));  // takes it out of delayed_
  }
}

void StoreThreads::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    queue_due(system_clock().boot_ns());
    if (stop_) return;
    if (ready_.empty()) {
      if (delayed_.empty()) {
        work_.wait(lock);
      } else {
        const std::uint64_t now_ns = system_clock().boot_ns();
        const std::uint64_t due_ns = delayed_.begin()->first;
        work_.wait_for(lock, std::chrono::nanoseconds(due_ns > now_ns ? due_ns - now_ns : 0));
      }
      continue;
    }
    StoreTask* task = ready_.front();
    ready_.pop_front();
    State& state = tasks_.at(task);  // stays where it is: forget() waits while the task is running
    state.queued = false;
    state.running = true;
    state.again = false;
    lock.unlock();
    const std::optional<std::uint64_t> next = task->turn();
    lock.lock();
    state.running = false;
    if (state.again || (next && *next == 0)) {
      queue(*task, state);
    } else if (next) {
      state.due_ns = system_clock().boot_ns() + *next;
      delayed_.emplace(*state.due_ns, task);
      work_.notify_one();  // whoever sleeps may have to wake earlier
    } else {
      tasks_.erase(task);
    }
    ended_.notify_all();
  }
}

}  // namespace understudy
