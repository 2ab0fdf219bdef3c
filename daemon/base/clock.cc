// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/clock.h"

#include <ctime>

#include "daemon/base/check.h"

namespace understudy {

namespace {

std::uint64_t read_ns(clockid_t id) {
  timespec now{};
  CHECK_EQ(clock_gettime(id, &now), 0);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

class SystemClock final : public Clock {
 public:
  std::uint64_t boot_ns() const override { return read_ns(CLOCK_BOOTTIME); }
  std::uint64_t wall_ns() const override { return read_ns(CLOCK_REALTIME); }
};

}  // namespace

Clock& system_clock() {
  static SystemClock clock;
  return clock;
}

}  // namespace understudy
