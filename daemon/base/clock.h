// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace understudy {

// Time behind an interface so that the simulator can own it. All values are nanoseconds. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // CLOCK_BOOTTIME: steady, counts suspend; the clock of captured events and of every duration.
  virtual std::uint64_t boot_ns() const = 0;
  // CLOCK_REALTIME since 1970: what people see; may jump.
  virtual std::uint64_t wall_ns() const = 0;
};

// The machine's clock.
Clock& system_clock();

}  // namespace understudy
