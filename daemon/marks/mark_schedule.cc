// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/mark_schedule.h"

#include <ctime>

#include <algorithm>

namespace understudy {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

// The instant at which the local day that is `days` after that of `time` reaches `minutes`; mktime() moves what does
// not exist.
std::time_t local_instant(std::time_t time, int days, std::uint32_t minutes) {
  std::tm day{};
  ::localtime_r(&time, &day);
  day.tm_mday += days;
  day.tm_hour = static_cast<int>(minutes / 60);
  day.tm_min = static_cast<int>(minutes % 60);
  day.tm_sec = 0;
  day.tm_isdst = -1;
  return std::mktime(&day);
}

}  // namespace

std::uint64_t next_slot_ns(const MarkTimes& times, std::uint64_t after_ns) {
  const auto after = static_cast<std::time_t>(after_ns / kSecondNs);  // a slot is a whole second: later means > after
  std::uint64_t best = 0;
  const auto offer = [&](std::time_t slot) {
    if (slot > after && (best == 0 || static_cast<std::uint64_t>(slot) < best)) best = static_cast<std::uint64_t>(slot);
  };
  for (const std::uint32_t minutes : times.at_minutes) {
    // Yesterday's may have been moved behind now by a clock change at midnight.
    for (int day = -1; day <= 1; ++day) offer(local_instant(after, day, minutes));
  }
  if (times.every_ns != 0) {
    const auto every = static_cast<std::time_t>(times.every_ns / kSecondNs);
    std::time_t midnight = local_instant(after, 0, 0);
    if (midnight > after) midnight = local_instant(after, -1, 0);  // where a day begins at 01:00
    offer(midnight + ((after - midnight) / every + 1) * every);
    offer(local_instant(after, 1, 0));  // where it begins again
  }
  return best * kSecondNs;
}

bool MarkSchedule::due(std::uint64_t wall_ns, std::uint64_t boot_ns) {
  if (!times_.any()) return false;
  const std::uint64_t next_from_now_ns = next_slot_ns(times_, wall_ns);
  if (wall_ns < next_ns_) {
    next_ns_ = std::min(next_ns_, next_from_now_ns);  // sooner, when the clock was put back
    return false;
  }
  next_ns_ = next_from_now_ns;
  if (last_boot_ns_ != 0 && boot_ns - last_boot_ns_ < kMarkDistanceNsMin) return false;
  last_boot_ns_ = boot_ns;
  return true;
}

}  // namespace understudy
