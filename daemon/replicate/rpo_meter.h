// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace understudy {

// The age of the oldest write that is not acknowledged (RPO), as a distribution over time: "p99 = 40 ms" means that for
// 99 % of the time in which anything was outstanding, nothing older than 40 ms was. Between two acknowledgements the
// age grows evenly, so it is integrated exactly, without sampling. Percentiles cover the running window and the one
// before it. Values are good to 1/16. All times are of the boot clock. Pure.
class RpoMeter {
 public:
  explicit RpoMeter(std::uint64_t window_ns = 60'000'000'000) : window_ns_(window_ns) {}

  // Accounts for the time up to now, in which the oldest outstanding write was captured at `oldest_event_ns` (0 =
  // nothing was outstanding). Called before that changes, and before a percentile is read.
  void advance(std::uint64_t now_ns, std::uint64_t oldest_event_ns);
  // Forgets everything: a copy has ended and its times are no longer of interest.
  void reset(std::uint64_t now_ns);
  // `share` from 0 to 1; nullopt = nothing was outstanding in the window.
  std::optional<std::uint64_t> percentile_ns(double share) const;

 private:
  static constexpr std::size_t kSubBuckets = 16;  // per power of two
  static constexpr std::size_t kBuckets = 64 * kSubBuckets;
  using Histogram = std::array<std::uint64_t, kBuckets>;  // nanoseconds spent at each age

  static std::size_t bucket_of(std::uint64_t age_ns);
  static std::uint64_t bucket_begin(std::size_t bucket);
  void rotate(std::uint64_t now_ns);

  std::uint64_t window_ns_;
  std::uint64_t accounted_ns_ = 0;
  std::uint64_t window_began_ns_ = 0;
  Histogram now_{};
  Histogram before_{};
};

}  // namespace understudy
