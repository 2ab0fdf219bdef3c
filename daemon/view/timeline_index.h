// SPDX-License-Identifier: Apache-2.0
// Finds positions of a stream by seq or time without keeping every record in memory: a sparse list of batches, from
// each of which at most kIndexStride tables are read. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/journal.h"

namespace understudy {

// What is known at a position of the stream.
struct StreamPlace {
  Seq seq = 0;
  std::uint64_t time_ns = 0;                // highest time of any record up to here
  std::uint64_t write_time_ns = 0;          // of the newest write up to here
  Seq barrier_seq = 0;                      // last barrier up to here; 0 = none
  std::uint64_t barrier_write_time_ns = 0;  // of the newest write before that barrier
  bool written_since_barrier = false;

  void add(Seq record_seq, const Record& record);
};

class TimelineIndex {
 public:
  explicit TimelineIndex(std::shared_ptr<const JournalSnapshot> snapshot) : snapshot_(std::move(snapshot)) {}

  // While building: the place before a batch, and where the batch lies. In order.
  void add_batch(const StreamPlace& before, const BatchLocation& location);

  // The place at `seq`, which must exist.
  Result<StreamPlace> at_seq(Seq seq) const;
  // The place at the last record whose time is at or before `time_ns`.
  Result<StreamPlace> at_time(std::uint64_t time_ns) const;

 private:
  struct Entry {
    StreamPlace before;
    BatchLocation location;
  };
  template <typename Accept>
  Result<StreamPlace> walk(std::size_t entry, Accept accept) const;

  std::shared_ptr<const JournalSnapshot> snapshot_;
  std::vector<Entry> entries_;
  std::uint64_t batches_ = 0;
};

}  // namespace understudy
