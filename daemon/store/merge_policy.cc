// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/merge_policy.h"

#include <algorithm>

#include "daemon/base/check.h"

namespace understudy {
namespace {

unsigned size_class(std::uint64_t bytes, const MergePolicy& policy) {
  unsigned size = 0;
  for (std::uint64_t most = policy.unit_bytes; bytes > most; most *= policy.files) {
    ++size;
    if (most > policy.run_bytes_max) break;
  }
  return size;
}

}  // namespace

std::optional<MergeChoice> choose_merge(std::span<const JournalSegment> segments, const MergePolicy& policy,
                                        const std::function<bool(const JournalSegment&)>& left_out) {
  CHECK_GE(policy.files, std::size_t{2});
  CHECK_GT(policy.unit_bytes, 0u);
  std::optional<MergeChoice> best;
  unsigned best_class = ~0u;
  const std::size_t sealed = segments.empty() ? 0 : segments.size() - 1;
  MergeChoice row;  // of files of one class, so far
  unsigned row_class = 0;
  std::uint64_t row_bytes = 0;
  for (std::size_t i = 0; i < sealed; ++i) {
    if (left_out && left_out(segments[i])) {
      row = {};
      continue;
    }
    const std::uint64_t bytes = segments[i].file_bytes();
    const unsigned size = size_class(bytes, policy);
    if (row.count == 0 || size != row_class || row.count == policy.files) {
      row = {i, 0};
      row_class = size;
      row_bytes = 0;
    }
    ++row.count;
    row_bytes += bytes;
    if (row.count == policy.files && size < best_class && row_bytes <= policy.run_bytes_max) {
      best = row;
      best_class = size;
    }
  }
  return best;
}

}  // namespace understudy
