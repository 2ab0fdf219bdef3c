// SPDX-License-Identifier: Apache-2.0
// What is known at a position of the stream: times and barriers up to it. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "daemon/record/record.h"

namespace understudy {

struct StreamPlace {
  Seq seq = 0;
  std::uint64_t time_ns = 0;                // highest time of any record up to here
  std::uint64_t write_time_ns = 0;          // of the newest write up to here
  Seq barrier_seq = 0;                      // last barrier up to here; 0 = none
  std::uint64_t barrier_write_time_ns = 0;  // of the newest write before that barrier
  bool written_since_barrier = false;

  // The place after one more record.
  void add(Seq record_seq, const Record& record) {
    seq = record_seq;
    time_ns = std::max(time_ns, record.time_ns);
    switch (record.kind) {
      case RecordKind::kWrite:
      case RecordKind::kZero:
      case RecordKind::kCopy:
        write_time_ns = std::max(write_time_ns, record.time_ns);
        written_since_barrier = true;
        break;
      case RecordKind::kBarrier:
        barrier_seq = record_seq;
        barrier_write_time_ns = write_time_ns;
        written_since_barrier = false;
        break;
      default: break;
    }
  }

  // The place after a stretch of records, of which only the place that they alone lead to is known.
  StreamPlace then(const StreamPlace& stretch) const {
    if (stretch.seq == 0) return *this;
    StreamPlace after = *this;
    after.seq = stretch.seq;
    after.time_ns = std::max(time_ns, stretch.time_ns);
    after.write_time_ns = std::max(write_time_ns, stretch.write_time_ns);
    if (stretch.barrier_seq != 0) {
      after.barrier_seq = stretch.barrier_seq;
      after.barrier_write_time_ns = std::max(write_time_ns, stretch.barrier_write_time_ns);
      after.written_since_barrier = stretch.written_since_barrier;
    } else {
      after.written_since_barrier = written_since_barrier || stretch.written_since_barrier;
    }
    return after;
  }

  auto operator<=>(const StreamPlace&) const = default;
};

}  // namespace understudy
