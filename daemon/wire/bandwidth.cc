// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/bandwidth.h"

#include <algorithm>

namespace understudy {

namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kBurstBytesMin = 16u << 10;  // a TLS record
// A longer pause fills the bucket anyway; keeps the product below from overflowing.
constexpr std::uint64_t kFillNsMax = kSecondNs;

}  // namespace

std::uint64_t BandwidthPlan::limit_at(const std::tm& local) const {
  const auto minute = static_cast<unsigned>(local.tm_hour * 60 + local.tm_min);
  const unsigned today = (static_cast<unsigned>(local.tm_wday) + 6) % 7;
  const unsigned yesterday = (today + 6) % 7;
  for (const BandwidthWindow& window : windows) {
    const auto begins_on = [&window](unsigned day) { return (window.days >> day & 1) != 0; };
    const bool over_midnight = window.to_minute <= window.from_minute;
    if (over_midnight ? (minute >= window.from_minute && begins_on(today)) ||
                            (minute < window.to_minute && begins_on(yesterday))
                      : minute >= window.from_minute && minute < window.to_minute && begins_on(today)) {
      return window.limit;
    }
  }
  return limit;
}

std::int64_t TokenBucket::capacity() const {
  return static_cast<std::int64_t>(std::max(rate_ / 20, kBurstBytesMin));
}

void TokenBucket::set_rate(std::uint64_t bytes_per_second, std::uint64_t now_ns) {
  if (bytes_per_second == rate_) return;
  const bool was_limited = is_limited();
  fill(now_ns);
  rate_ = bytes_per_second;
  filled_ns_ = now_ns;
  tokens_ = was_limited ? std::min(tokens_, capacity()) : capacity();
}

void TokenBucket::fill(std::uint64_t now_ns) {
  if (!is_limited() || now_ns <= filled_ns_) return;
  const std::uint64_t elapsed_ns = now_ns - filled_ns_;
  if (elapsed_ns >= kFillNsMax && tokens_ >= 0) {
    tokens_ = capacity();
    filled_ns_ = now_ns;
    return;
  }
  // Time is taken for whole bytes only, rounded up: never more than the rate, however often it is called.
  const std::uint64_t step_ns = std::min(elapsed_ns, kFillNsMax);
  const auto bytes = static_cast<std::uint64_t>(static_cast<__uint128_t>(step_ns) * rate_ / kSecondNs);
  if (bytes == 0) return;
  tokens_ = std::min(tokens_ + static_cast<std::int64_t>(bytes), capacity());
  filled_ns_ += static_cast<std::uint64_t>((static_cast<__uint128_t>(bytes) * kSecondNs + rate_ - 1) / rate_);
  if (step_ns < elapsed_ns) fill(now_ns);
}

std::size_t TokenBucket::available(std::uint64_t now_ns) {
  if (!is_limited()) return SIZE_MAX;
  fill(now_ns);
  return tokens_ > 0 ? static_cast<std::size_t>(tokens_) : 0;
}

void TokenBucket::take(std::uint64_t bytes) {
  if (is_limited()) tokens_ -= static_cast<std::int64_t>(bytes);
}

std::uint64_t TokenBucket::wait_ns(std::uint64_t now_ns) {
  if (!is_limited()) return 0;
  fill(now_ns);
  // A quarter of the burst: fewer wake-ups than sending every byte as soon as it may go.
  const std::int64_t missing = capacity() / 4 - tokens_;
  if (missing <= 0) return 0;
  return static_cast<std::uint64_t>(static_cast<__uint128_t>(missing) * kSecondNs / rate_) + 1;
}

}  // namespace understudy
