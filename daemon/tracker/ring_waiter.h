// SPDX-License-Identifier: Apache-2.0
// Waiting for the ring: no wake-up per event under load, none at all while idle.
//
// While events keep coming the consumer looks every kPollNs and the kernel side never wakes it. After kIdleNs without
// one it sets control.consumer_asleep, looks once more, and sleeps on the ring's descriptor; the kernel side, which
// looks at the flag after it has reserved a record (a full barrier on both sides), clears it and wakes once.
#pragma once

#include <chrono>
#include <cstdint>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"
#include "daemon/tracker/kernel_side.h"
#include "daemon/tracker/ring_reader.h"

namespace understudy {

class RingWaiter {
 public:
  static constexpr std::uint64_t kPollNs = 1'000'000;
  static constexpr std::uint64_t kIdleNs = 50'000'000;

  static Result<RingWaiter> make(int ring_fd);

  // As Tracker::wait(). `drained` = next() answered nullopt since the last call: then the next look comes no sooner
  // than kPollNs after the last one, so that events gather.
  void wait(std::chrono::nanoseconds timeout, bool drained, understudy_control& control, const RingReader& reader);
  // From any thread; kept until the next wait().
  void wake();

 private:
  RingWaiter(UniqueFd epoll, UniqueFd event) : epoll_(std::move(epoll)), event_(std::move(event)) {}
  // true = wake() was called.
  bool sleep(std::uint64_t duration_ns);

  UniqueFd epoll_;
  UniqueFd event_;
  std::uint64_t last_event_ns_ = 0;
  std::uint64_t last_return_ns_ = 0;
};

}  // namespace understudy
