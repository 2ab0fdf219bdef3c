// SPDX-License-Identifier: Apache-2.0
// Where the disks of two points differ, by bytes that were read and compared: nothing is taken for equal because a
// record says so.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/view/view.h"

namespace understudy {

struct ChangedRange {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  bool operator==(const ChangedRange&) const = default;
};

struct DiskDiff {
  DiskGeometry disk;  // as of the second point, or of the first when it is only there
  enum class Kind : std::uint8_t { kBoth, kAdded, kRemoved } kind = Kind::kBoth;
  std::uint64_t old_size_bytes = 0;  // kBoth
  std::vector<ChangedRange> ranges;  // of kDiffBlockBytes and joined, within what both have; sorted
  std::uint64_t changed_bytes() const;
};

inline constexpr std::uint64_t kDiffBlockBytes = 4096;

// Disks are the same when slot and identity are. `progress` gets bytes compared and bytes to compare.
Result<std::vector<DiskDiff>> diff_blocks(const PointInTimeView& first, const PointInTimeView& second,
                                          const std::function<void(std::uint64_t, std::uint64_t)>& progress);

}  // namespace understudy
