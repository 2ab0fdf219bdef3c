// SPDX-License-Identifier: Apache-2.0
// Which adjacent segments and runs are merged next. Pure.
//
// Files are of size classes: up to `unit_bytes`, up to that times `files`, times `files` again and so on. As soon as
// `files` of one class stand side by side, the oldest of them are merged, small classes first. So each byte is written
// once for each class, and there are at most `files` - 1 files of a class, but for the largest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "daemon/store/journal.h"

namespace understudy {

struct MergePolicy {
  std::uint64_t unit_bytes = 256ull << 20;
  std::size_t files = 8;                      // at least 2
  std::uint64_t run_bytes_max = 16ull << 30;  // no merge makes a run of more; below 32 GiB
};

struct MergeChoice {
  std::size_t first = 0;
  std::size_t count = 0;
};

// `segments` as in a snapshot: the last one is not sealed. Those that `left_out` takes are merged with nothing.
std::optional<MergeChoice> choose_merge(std::span<const JournalSegment> segments, const MergePolicy& policy,
                                        const std::function<bool(const JournalSegment&)>& left_out);

}  // namespace understudy
