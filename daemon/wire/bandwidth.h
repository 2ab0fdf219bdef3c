// SPDX-License-Identifier: Apache-2.0
// How fast a link may be, by time of day, and a token bucket that holds it to that. Pure: no clock inside.
// Threads: one at a time for each object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <vector>

namespace understudy {

// From `from_minute` (of the day, local time) until just before `to_minute`; over midnight when that is not later.
struct BandwidthWindow {
  unsigned from_minute = 0;
  unsigned to_minute = 24 * 60;
  unsigned days = 0x7f;     // bit 0 = Monday ... bit 6 = Sunday: the day on which it begins
  std::uint64_t limit = 0;  // bytes a second
  bool operator==(const BandwidthWindow&) const = default;
};

struct BandwidthPlan {
  std::uint64_t limit = 0;  // bytes a second outside the windows; 0 = none
  std::vector<BandwidthWindow> windows;

  // At this local time: of the first window it lies in, else the general one. 0 = none.
  std::uint64_t limit_at(const std::tm& local) const;
  bool operator==(const BandwidthPlan&) const = default;
};

// Bytes come in at the rate, and not more than 1/20 s of them are kept for a burst (16 KiB at least). What was taken
// beyond what was there is a debt that has to be worked off first.
class TokenBucket {
 public:
  // 0 = no limit. The bucket begins full when there was no limit before.
  void set_rate(std::uint64_t bytes_per_second, std::uint64_t now_ns);
  std::uint64_t rate() const { return rate_; }
  bool is_limited() const { return rate_ != 0; }

  // What may be sent now; SIZE_MAX without a limit.
  std::size_t available(std::uint64_t now_ns);
  void take(std::uint64_t bytes);
  // Until something worth sending is available; 0 = now.
  std::uint64_t wait_ns(std::uint64_t now_ns);

 private:
  void fill(std::uint64_t now_ns);
  std::int64_t capacity() const;

  std::uint64_t rate_ = 0;
  std::int64_t tokens_ = 0;
  std::uint64_t filled_ns_ = 0;
};

}  // namespace understudy
