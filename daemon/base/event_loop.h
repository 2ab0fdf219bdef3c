// SPDX-License-Identifier: Apache-2.0
// A daemon's main loop: file descriptors, timers and work posted by other threads, one callback at a time.
//
// Threads: everything runs on the thread that calls run(); only post() and stop() may be called from others.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

class EventLoop {
 public:
  using Callback = std::function<void()>;
  using TimerId = std::uint64_t;

  static Result<std::unique_ptr<EventLoop>> create();

  // Calls `callback` whenever `fd` is readable, hung up or in error. The descriptor stays the caller's and must be
  // unwatched before it is closed. A second call for the same fd replaces the callback.
  void watch(int fd, Callback callback);
  void unwatch(int fd);

  // Every `interval_ns` (>= 1 ms), first after one interval. A late loop calls once, not once per missed interval.
  TimerId every(std::uint64_t interval_ns, Callback callback);
  // Once, after `delay_ns`.
  TimerId after(std::uint64_t delay_ns, Callback callback);
  // Unknown or finished ids are ignored.
  void cancel(TimerId id);

  // Runs `callback` on the loop's thread, in the order of posting. What is posted after run() ended is dropped with
  // the loop.
  void post(Callback callback);

  // Until stop(). An error is one of poll(2) itself.
  Status run();
  void stop();

 private:
  struct Timer {
    std::uint64_t due_ns = 0;       // CLOCK_BOOTTIME
    std::uint64_t interval_ns = 0;  // 0 = once
    Callback callback;
  };

  explicit EventLoop(UniqueFd wake) : wake_(std::move(wake)) {}
  void signal_wake();
  void run_posted();
  void run_timers();
  int timeout_ms() const;
  Status poll_once();

  UniqueFd wake_;  // eventfd
  std::atomic<bool> stopped_{false};
  std::map<int, std::shared_ptr<Callback>> watched_;
  std::map<TimerId, Timer> timers_;
  TimerId next_timer_ = 1;
  std::mutex mutex_;  // guards posted_
  std::vector<Callback> posted_;
};

}  // namespace understudy
