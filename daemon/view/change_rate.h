// SPDX-License-Identifier: Apache-2.0
// How much was written when: the journal's records counted into equal stretches of time. Reads every table once.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/store/store.h"

namespace understudy {

struct ChangeBucket {
  std::uint64_t begin_ns = 0;
  std::uint64_t written_bytes = 0;  // WRITE
  std::uint64_t zeroed_bytes = 0;   // ZERO: discards and write-zeroes
  std::uint64_t copied_bytes = 0;   // COPY of a resync; those of a first copy are no change
  std::uint64_t records = 0;
};

struct ChangeRate {
  std::uint64_t bucket_ns = 0;  // > 0
  std::vector<ChangeBucket> buckets;
};

// `count` (at least 1) buckets over [from_ns, to_ns). kInvalidArgument: no time between the two. What lies behind
// damage of the journal is not counted, as none of it is a point.
Result<ChangeRate> read_change_rate(const Store& store, std::uint64_t from_ns, std::uint64_t to_ns, std::size_t count);

}  // namespace understudy
