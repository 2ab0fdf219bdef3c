// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/ring_waiter.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>

#include "daemon/base/check.h"
#include "daemon/base/clock.h"

namespace understudy {

Result<RingWaiter> RingWaiter::make(int ring_fd) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll.valid() || !event.valid()) return Error::from_errno(errno, "make an epoll set for the capture ring");
  epoll_event wanted{};
  wanted.events = EPOLLIN;
  wanted.data.fd = event.get();
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event.get(), &wanted) != 0)
    return Error::from_errno(errno, "wait for an eventfd");
  // Edge-triggered: the ring is "readable" as long as anything in it is not released, which is nearly always.
  wanted.events = EPOLLIN | EPOLLET;
  wanted.data.fd = ring_fd;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, ring_fd, &wanted) != 0)
    return Error::from_errno(errno, "wait for the capture ring");
  return RingWaiter(std::move(epoll), std::move(event));
}

bool RingWaiter::sleep(std::uint64_t duration_ns) {
  const std::uint64_t duration_ms = (duration_ns + 999'999) / 1'000'000;
  const int timeout_ms = static_cast<int>(std::min<std::uint64_t>(duration_ms, std::numeric_limits<int>::max()));
  epoll_event events[2];
  const int count = ::epoll_wait(epoll_.get(), events, 2, timeout_ms);
  for (int i = 0; i < count; ++i) {
    std::uint64_t value = 0;
    if (events[i].data.fd == event_.get() && ::read(event_.get(), &value, sizeof(value)) == sizeof(value)) return true;
  }
  return false;
}

void RingWaiter::wait(std::chrono::nanoseconds timeout, bool drained, understudy_control& control,
                      const RingReader& reader) {
  const std::uint64_t start_ns = system_clock().boot_ns();
  const auto timeout_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(timeout.count(), 0));
  const auto has_event = [&] { return reader.head() != reader.cursor(); };
  std::uint64_t now_ns = start_ns;
  const auto finish = [&](bool event) {
    last_return_ns_ = system_clock().boot_ns();
    if (event) last_event_ns_ = last_return_ns_;
  };
  if (has_event()) {
    // Events gather a little while the load goes on; the first one after a pause is not held up.
    const std::uint64_t since_ns = now_ns - last_return_ns_;
    if (drained && since_ns < kPollNs) sleep(std::min(kPollNs - since_ns, timeout_ns));
    return finish(true);
  }
  while (now_ns - start_ns < timeout_ns) {
    const std::uint64_t left_ns = timeout_ns - (now_ns - start_ns);
    bool woken = false;
    if (now_ns - last_event_ns_ < kIdleNs) {
      woken = sleep(std::min(kPollNs, left_ns));
    } else {
      shared_store(control.consumer_asleep, __u32{1});
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (!has_event()) woken = sleep(left_ns);
      shared_store(control.consumer_asleep, __u32{0});
    }
    if (has_event()) return finish(true);
    if (woken) return finish(false);
    now_ns = system_clock().boot_ns();
  }
  finish(false);
}

void RingWaiter::wake() {
  const std::uint64_t one = 1;
  // Full (EAGAIN) means that it is readable: woken already.
  CHECK(::write(event_.get(), &one, sizeof(one)) == sizeof(one) || errno == EAGAIN);
}

}  // namespace understudy
