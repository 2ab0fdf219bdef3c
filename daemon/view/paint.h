// SPDX-License-Identifier: Apache-2.0
// Which write is on top where: the picture that extents leave when each covers the ones before it. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace understudy {

struct PaintedExtent {
  std::uint64_t begin_bytes = 0;
  std::uint64_t end_bytes = 0;  // > begin
};
struct PaintedPiece {
  std::uint64_t begin_bytes = 0;
  std::uint64_t end_bytes = 0;
  std::uint32_t extent = 0;  // index of the extent that is on top here
};

// Pieces sorted by offset, not overlapping, as long as they can be; extents stand in the order in which they were
// written. O(n log n); memory for n indices and the pieces.
template <typename Extent>
std::vector<PaintedPiece> paint(std::span<const Extent> extents);

std::vector<PaintedPiece> paint_extents(std::size_t count, const void* context,
                                        PaintedExtent (*at)(const void* context, std::size_t index));

template <typename Extent>
std::vector<PaintedPiece> paint(std::span<const Extent> extents) {
  return paint_extents(extents.size(), extents.data(), [](const void* context, std::size_t index) {
    const Extent& extent = static_cast<const Extent*>(context)[index];
    return PaintedExtent{extent.begin_bytes, extent.end_bytes};
  });
}

}  // namespace understudy
