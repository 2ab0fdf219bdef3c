// SPDX-License-Identifier: Apache-2.0
// A sweep over the offsets: a heap holds the extents that may cover the current place, newest on top.
#include "daemon/view/paint.h"

#include <algorithm>
#include <limits>

#include "daemon/base/check.h"

namespace understudy {

std::vector<PaintedPiece> paint_extents(std::size_t count, const void* context,
                                        PaintedExtent (*at)(const void* context, std::size_t index)) {
  CHECK_LT(count, std::numeric_limits<std::uint32_t>::max());
  std::vector<std::uint32_t> by_begin(count);
  for (std::size_t i = 0; i < count; ++i) by_begin[i] = static_cast<std::uint32_t>(i);
  std::sort(by_begin.begin(), by_begin.end(), [&](std::uint32_t a, std::uint32_t b) {
    const std::uint64_t begin_a = at(context, a).begin_bytes;
    const std::uint64_t begin_b = at(context, b).begin_bytes;
    return begin_a != begin_b ? begin_a < begin_b : a < b;
  });
  std::vector<PaintedPiece> pieces;
  std::vector<std::uint32_t> heap;  // indices; the highest, i.e. newest, first
  std::size_t next = 0;
  std::uint64_t place = 0;
  while (next < count || !heap.empty()) {
    if (heap.empty()) place = at(context, by_begin[next]).begin_bytes;
    for (; next < count && at(context, by_begin[next]).begin_bytes <= place; ++next) {
      heap.push_back(by_begin[next]);
      std::push_heap(heap.begin(), heap.end());
    }
    while (!heap.empty() && at(context, heap.front()).end_bytes <= place) {
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
    }
    if (heap.empty()) continue;
    const std::uint32_t top = heap.front();
    std::uint64_t end = at(context, top).end_bytes;
    if (next < count) end = std::min(end, at(context, by_begin[next]).begin_bytes);
    if (!pieces.empty() && pieces.back().extent == top && pieces.back().end_bytes == place)
      pieces.back().end_bytes = end;
    else
      pieces.push_back({place, end, top});
    place = end;
  }
  return pieces;
}

}  // namespace understudy
