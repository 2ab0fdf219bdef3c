// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <optional>
#include <vector>

namespace understudy {

// Half-open: [begin, end).
struct Interval {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  auto operator<=>(const Interval&) const = default;
};

// A set of u64 as sorted, disjoint, non-touching intervals. Keeps its memory over clear().
class IntervalSet {
 public:
  // Empty intervals are ignored.
  void add(Interval extent);
  void remove(Interval extent);
  void clear() { intervals_.clear(); }

  bool empty() const { return intervals_.empty(); }
  bool overlaps(Interval extent) const { return first_overlap(extent).has_value(); }
  // The lowest interval of the set that has something in common with `extent`, not cut to it.
  std::optional<Interval> first_overlap(Interval extent) const;
  std::uint64_t total() const;
  const std::vector<Interval>& intervals() const { return intervals_; }

  // Calls visit(Interval) for each maximal part of `within` that is not in the set, ascending.
  template <typename Visit>
  void for_each_gap(Interval within, Visit visit) const {
    std::uint64_t at = within.begin;
    for (const Interval& extent : intervals_) {
      if (extent.end <= at) continue;
      if (extent.begin >= within.end) break;
      if (extent.begin > at) visit(Interval{at, extent.begin});
      at = extent.end;
    }
    if (at < within.end) visit(Interval{at, within.end});
  }

 private:
  std::vector<Interval> intervals_;
};

}  // namespace understudy
