// SPDX-License-Identifier: Apache-2.0
// Finds positions of a stream by seq or time without keeping every record in memory: a place per segment here, a list
// of places in each segment's index, and from the nearest of them a few tables are read. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/journal.h"
#include "daemon/store/stream_place.h"

namespace understudy {

class TimelineIndex {
 public:
  explicit TimelineIndex(std::shared_ptr<const JournalSnapshot> snapshot) : snapshot_(std::move(snapshot)) {}

  // While building, in order: the place before segment 0, 1, 2 ...
  void add_segment(const StreamPlace& before) { segments_.push_back(before); }

  // The place at `seq`, which must exist.
  Result<StreamPlace> at_seq(Seq seq) const;
  // The place at the last record whose time is at or before `time_ns`.
  Result<StreamPlace> at_time(std::uint64_t time_ns) const;

 private:
  template <typename Accept>
  Result<StreamPlace> walk(std::size_t segment, Accept accept) const;

  std::shared_ptr<const JournalSnapshot> snapshot_;
  std::vector<StreamPlace> segments_;
};

}  // namespace understudy
