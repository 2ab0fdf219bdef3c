// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/event_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "daemon/base/clock.h"

namespace understudy {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Error::from_errno(errno, "create event loop");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(wake)));
}

void EventLoop::watch(int fd, Callback callback) {
  CHECK_GE(fd, 0);
  watched_[fd] = std::make_shared<Callback>(std::move(callback));
}

void EventLoop::unwatch(int fd) { watched_.erase(fd); }

EventLoop::TimerId EventLoop::every(std::uint64_t interval_ns, Callback callback) {
  CHECK_GE(interval_ns, 1'000'000u);
  timers_[next_timer_] = Timer{system_clock().boot_ns() + interval_ns, interval_ns, std::move(callback)};
  return next_timer_++;
}

EventLoop::TimerId EventLoop::after(std::uint64_t delay_ns, Callback callback) {
  timers_[next_timer_] = Timer{system_clock().boot_ns() + delay_ns, 0, std::move(callback)};
  return next_timer_++;
}

void EventLoop::cancel(TimerId id) { timers_.erase(id); }

void EventLoop::signal_wake() {
  const std::uint64_t one = 1;
  // Fails only when the counter is at its end, and then the loop is awake anyway.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

void EventLoop::post(Callback callback) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(callback));
  }
  signal_wake();
}

void EventLoop::stop() {
  stopped_.store(true);
  signal_wake();
}

void EventLoop::run_posted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = ::read(wake_.get(), &count, sizeof(count));
  std::vector<Callback> work;
  {
    const std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (Callback& callback : work) callback();
}

void EventLoop::run_timers() {
  const std::uint64_t now = system_clock().boot_ns();
  std::vector<TimerId> due;
  for (const auto& [id, timer] : timers_) {
    if (timer.due_ns <= now) due.push_back(id);
  }
  for (const TimerId id : due) {
    const auto found = timers_.find(id);
    if (found == timers_.end()) continue;  // cancelled by a callback before it
    Callback callback = found->second.callback;
    if (found->second.interval_ns == 0) {
      timers_.erase(found);
    } else {
      found->second.due_ns += found->second.interval_ns;
      if (found->second.due_ns <= now) found->second.due_ns = now + found->second.interval_ns;
    }
    callback();
  }
}

int EventLoop::timeout_ms() const {
  if (timers_.empty()) return -1;
  std::uint64_t due = std::numeric_limits<std::uint64_t>::max();
  for (const auto& [id, timer] : timers_) due = std::min(due, timer.due_ns);
  const std::uint64_t now = system_clock().boot_ns();
  if (due <= now) return 0;
  // Rounded up: waking early would only spin.
  return static_cast<int>(std::min<std::uint64_t>((due - now + 999'999u) / 1'000'000u, 3'600'000u));
}

Status EventLoop::poll_once() {
  std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}};
  for (const auto& [fd, callback] : watched_) polled.push_back({fd, POLLIN, 0});
  if (::poll(polled.data(), polled.size(), timeout_ms()) < 0 && errno != EINTR) {
    return Error::from_errno(errno, "wait for events");
  }
  run_posted();
  for (std::size_t i = 1; i < polled.size(); ++i) {
    if (polled[i].revents == 0) continue;
    CHECK((polled[i].revents & POLLNVAL) == 0);  // closed without unwatch()
    const auto found = watched_.find(polled[i].fd);
    if (found == watched_.end()) continue;                     // unwatched by a callback before it
    const std::shared_ptr<Callback> callback = found->second;  // survives an unwatch() of itself
    (*callback)();
  }
  run_timers();
  return ok_status();
}

Status EventLoop::run() {
  while (!stopped_.load()) RETURN_IF_ERROR(poll_once());
  return ok_status();
}

}  // namespace understudy
