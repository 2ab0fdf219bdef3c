// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/block_diff.h"

#include <algorithm>
#include <cstring>

namespace understudy {
namespace {

constexpr std::uint64_t kChunkBytes = 1 << 20;

const DiskGeometry* find_same(const std::vector<DiskGeometry>& disks, const DiskGeometry& wanted) {
  for (const DiskGeometry& disk : disks)
    if (disk.disk == wanted.disk && disk.id == wanted.id) return &disk;
  return nullptr;
}

class Comparison {
 public:
  Comparison(const PointInTimeView& first, const PointInTimeView& second, std::uint16_t disk, std::uint64_t bytes)
      : first_(first), second_(second), disk_(disk), bytes_(bytes), left_(kChunkBytes), right_(kChunkBytes) {}

  // `moved` gets the offset up to which all is compared.
  template <typename Moved>
  Result<std::vector<ChangedRange>> run(Moved moved) {
    for (std::uint64_t at = 0; at < bytes_;) {
      const PointInTimeView::Extent a = first_.extent_at(disk_, at);
      const PointInTimeView::Extent b = second_.extent_at(disk_, at);
      std::uint64_t length = std::min({a.length_bytes, b.length_bytes, bytes_ - at});
      if (!a.zero || !b.zero) {
        // Up to a multiple of the block, so that a block is compared as one even when extents end inside it.
        length = std::min({std::max(length, kDiffBlockBytes), kChunkBytes - at % kChunkBytes, bytes_ - at});
        if ((at + length) % kDiffBlockBytes != 0 && at + length != bytes_)
          length = std::max((at + length) / kDiffBlockBytes * kDiffBlockBytes, at + 1) - at;
        RETURN_IF_ERROR(compare(at, length));
      }
      moved(at += length);
    }
    return std::move(ranges_);
  }

 private:
  Status compare(std::uint64_t at, std::uint64_t length) {
    const std::span left = std::span(left_).first(length);
    const std::span right = std::span(right_).first(length);
    RETURN_IF_ERROR(first_.read(disk_, at, left));
    RETURN_IF_ERROR(second_.read(disk_, at, right));
    for (std::uint64_t i = 0; i < length;) {
      const std::uint64_t step = std::min(kDiffBlockBytes - (at + i) % kDiffBlockBytes, length - i);
      if (std::memcmp(left.data() + i, right.data() + i, step) != 0) add((at + i) / kDiffBlockBytes * kDiffBlockBytes);
      i += step;
    }
    return ok_status();
  }

  void add(std::uint64_t block) {
    const std::uint64_t end = std::min(block + kDiffBlockBytes, bytes_);
    if (!ranges_.empty() && ranges_.back().offset_bytes + ranges_.back().length_bytes >= block)
      ranges_.back().length_bytes = end - ranges_.back().offset_bytes;
    else
      ranges_.push_back({block, end - block});
  }

  const PointInTimeView& first_;
  const PointInTimeView& second_;
  const std::uint16_t disk_;
  const std::uint64_t bytes_;
  std::vector<std::byte> left_;
  std::vector<std::byte> right_;
  std::vector<ChangedRange> ranges_;
};

}  // namespace

std::uint64_t DiskDiff::changed_bytes() const {
  std::uint64_t bytes = 0;
  for (const ChangedRange& range : ranges) bytes += range.length_bytes;
  return bytes;
}

Result<std::vector<DiskDiff>> diff_blocks(const PointInTimeView& first, const PointInTimeView& second,
                                          const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  std::vector<DiskDiff> diffs;
  std::uint64_t total = 0;
  std::uint64_t done = 0;
  for (const DiskGeometry& disk : second.disks()) {
    const DiskGeometry* old = find_same(first.disks(), disk);
    diffs.push_back({disk,
                     old == nullptr ? DiskDiff::Kind::kAdded : DiskDiff::Kind::kBoth,
                     old == nullptr ? 0 : old->size_bytes,
                     {}});
    if (old != nullptr) total += std::min(old->size_bytes, disk.size_bytes);
  }
  for (const DiskGeometry& disk : first.disks())
    if (find_same(second.disks(), disk) == nullptr) diffs.push_back({disk, DiskDiff::Kind::kRemoved, 0, {}});
  for (DiskDiff& diff : diffs) {
    if (diff.kind != DiskDiff::Kind::kBoth) continue;
    const std::uint64_t bytes = std::min(diff.old_size_bytes, diff.disk.size_bytes);
    Comparison comparison(first, second, diff.disk.disk, bytes);
    ASSIGN_OR_RETURN(diff.ranges, comparison.run([&](std::uint64_t at) { progress(done + at, total); }));
    done += bytes;
  }
  return diffs;
}

}  // namespace understudy
