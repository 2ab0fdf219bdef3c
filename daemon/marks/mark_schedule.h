// SPDX-License-Identifier: Apache-2.0
// When the next mark of a policy is due. Pure but for the time zone (TZ, as localtime(3) sees it). Not thread-safe.
//
// Slots lie on the wall clock: `every` counts real time from local midnight on and begins again at the next one, so
// that two slots are never further apart than it says, also on days of 23 or 25 hours. `at` is local time; on the day
// on which such a time does not exist it is moved by the missing hour, and a time that comes twice counts once.
//
// However many slots were missed (suspend, a clock put forward, a long mark), one late mark is due and no more. When
// the clock is put back, the slots that come again are used again.
#pragma once

#include <cstdint>

#include "daemon/marks/mark_policy.h"

namespace understudy {

// Two marks of one schedule are never closer than this, however the clock jumps.
inline constexpr std::uint64_t kMarkDistanceNsMin = 30'000'000'000;

// The first slot later than `after_ns` (nanoseconds since 1970); 0 = there is none.
std::uint64_t next_slot_ns(const MarkTimes& times, std::uint64_t after_ns);

class MarkSchedule {
 public:
  // The first slot is the next one from now on: what passed while nobody ran is not made up for.
  MarkSchedule(MarkTimes times, std::uint64_t wall_ns)
      : times_(std::move(times)), next_ns_(next_slot_ns(times_, wall_ns)) {}

  // Whether a mark is due now; then the slot is used up. To be asked often: clocks jump.
  bool due(std::uint64_t wall_ns, std::uint64_t boot_ns);
  // A mark that satisfies this schedule, too, was made.
  void satisfied(std::uint64_t boot_ns) { last_boot_ns_ = boot_ns; }
  std::uint64_t next_ns() const { return next_ns_; }  // 0 = never
  const MarkTimes& times() const { return times_; }

 private:
  MarkTimes times_;
  std::uint64_t next_ns_ = 0;
  std::uint64_t last_boot_ns_ = 0;  // of the last mark; 0 = none yet
};

}  // namespace understudy
