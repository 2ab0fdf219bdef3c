// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/rpo_meter.h"

#include <algorithm>
#include <bit>

namespace understudy {

std::size_t RpoMeter::bucket_of(std::uint64_t age_ns) {
  if (age_ns < kSubBuckets) return age_ns;
  const unsigned exponent = static_cast<unsigned>(std::bit_width(age_ns)) - 1;  // >= 4
  return (exponent - 3) * kSubBuckets + ((age_ns >> (exponent - 4)) - kSubBuckets);
}

std::uint64_t RpoMeter::bucket_begin(std::size_t bucket) {
  if (bucket < kSubBuckets) return bucket;
  const std::size_t exponent = bucket / kSubBuckets + 3;
  if (exponent > 63) return UINT64_MAX;
  return (std::uint64_t{kSubBuckets} + bucket % kSubBuckets) << (exponent - 4);
}

void RpoMeter::advance(std::uint64_t now_ns, std::uint64_t oldest_event_ns) {
  rotate(now_ns);
  const std::uint64_t since_ns = std::max(accounted_ns_, oldest_event_ns);
  accounted_ns_ = std::max(accounted_ns_, now_ns);
  if (oldest_event_ns == 0 || since_ns >= now_ns) return;
  const std::uint64_t age_from = since_ns - oldest_event_ns;
  const std::uint64_t age_to = now_ns - oldest_event_ns;
  for (std::size_t bucket = bucket_of(age_from); bucket <= bucket_of(age_to); ++bucket) {
    const std::uint64_t begin = std::max(bucket_begin(bucket), age_from);
    const std::uint64_t end = std::min(bucket_begin(bucket + 1), age_to);
    if (end > begin) now_[bucket] += end - begin;
  }
}

void RpoMeter::reset(std::uint64_t now_ns) {
  now_.fill(0);
  before_.fill(0);
  window_began_ns_ = now_ns;
  accounted_ns_ = std::max(accounted_ns_, now_ns);
}

std::optional<std::uint64_t> RpoMeter::percentile_ns(double share) const {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) total += now_[i] + before_[i];
  if (total == 0) return std::nullopt;
  const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += now_[i] + before_[i];
    if (seen > wanted || seen == total) return bucket_begin(i + 1) - 1;  // never rounded in our own favour
  }
  return std::nullopt;
}

void RpoMeter::rotate(std::uint64_t now_ns) {
  if (window_began_ns_ == 0) window_began_ns_ = now_ns;
  if (now_ns - window_began_ns_ < window_ns_) return;
  const bool stale = now_ns - window_began_ns_ >= 2 * window_ns_;
  before_ = now_;
  if (stale) before_.fill(0);
  now_.fill(0);
  window_began_ns_ = now_ns;
}

}  // namespace understudy
