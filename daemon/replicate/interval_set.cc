// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/interval_set.h"

namespace understudy {

void IntervalSet::add(Interval extent) {
  if (extent.begin >= extent.end) return;
  // The first one that touches or lies behind; everything up to the first one clearly behind melts into it.
  auto first = std::lower_bound(intervals_.begin(), intervals_.end(), extent.begin,
                                [](const Interval& e, std::uint64_t begin) { return e.end < begin; });
  auto last = first;
  while (last != intervals_.end() && last->begin <= extent.end) {
    extent.begin = std::min(extent.begin, last->begin);
    extent.end = std::max(extent.end, last->end);
    ++last;
  }
  if (first == last) {
    intervals_.insert(first, extent);
  } else {
    *first = extent;
    intervals_.erase(first + 1, last);
  }
}

void IntervalSet::remove(Interval extent) {
  if (extent.begin >= extent.end) return;
  auto first = std::lower_bound(intervals_.begin(), intervals_.end(), extent.begin,
                                [](const Interval& e, std::uint64_t begin) { return e.end <= begin; });
  while (first != intervals_.end() && first->begin < extent.end) {
    if (first->begin < extent.begin && first->end > extent.end) {  // a hole in the middle
      const Interval right{extent.end, first->end};
      first->end = extent.begin;
      intervals_.insert(first + 1, right);
      return;
    }
    if (first->begin < extent.begin) {
      first->end = extent.begin;
      ++first;
    } else if (first->end > extent.end) {
      first->begin = extent.end;
      return;
    } else {
      first = intervals_.erase(first);
    }
  }
}

std::optional<Interval> IntervalSet::first_overlap(Interval extent) const {
  auto first = std::lower_bound(intervals_.begin(), intervals_.end(), extent.begin,
                                [](const Interval& e, std::uint64_t begin) { return e.end <= begin; });
  if (first == intervals_.end() || first->begin >= extent.end || extent.begin >= extent.end) return std::nullopt;
  return *first;
}

std::uint64_t IntervalSet::total() const {
  std::uint64_t sum = 0;
  for (const Interval& extent : intervals_) sum += extent.end - extent.begin;
  return sum;
}

}  // namespace understudy
