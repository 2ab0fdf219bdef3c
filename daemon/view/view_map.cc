// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_map.h"

#include <algorithm>

namespace understudy {
namespace {

// Appends `piece`, cut to [begin, end), to what `out` has behind its first `first` pieces.
void append(const ViewPiece& piece, std::uint64_t begin_bytes, std::uint64_t end_bytes, std::size_t first,
            std::vector<ViewPiece>& out) {
  ViewPiece cut = piece;
  cut.begin_bytes = std::max(cut.begin_bytes, begin_bytes);
  cut.end_bytes = std::min(cut.end_bytes, end_bytes);
  // Regions cut what belongs together.
  if (out.size() > first && out.back().end_bytes == cut.begin_bytes && out.back().seq == cut.seq)
    out.back().end_bytes = cut.end_bytes;
  else
    out.push_back(cut);
}

}  // namespace

Status ViewMap::pieces(std::uint16_t disk, std::uint64_t begin_bytes, std::uint64_t end_bytes,
                       std::vector<ViewPiece>& out) const {
  const std::size_t first = out.size();
  for (std::uint64_t at = begin_bytes; at < end_bytes;) {
    const std::uint64_t number = at / kViewRegionBytes;
    const std::uint64_t end = std::min(end_bytes, (number + 1) * kViewRegionBytes);
    ASSIGN_OR_RETURN(const RegionPointer found, region(disk, number));
    auto piece = std::partition_point(found->pieces.begin(), found->pieces.end(),
                                      [&](const ViewPiece& p) { return p.end_bytes <= at; });
    for (; piece != found->pieces.end() && piece->begin_bytes < end; ++piece) append(*piece, at, end, first, out);
    at = end;
  }
  return ok_status();
}

Result<ViewMap::RegionPointer> ViewMap::region(std::uint16_t disk, std::uint64_t number) const {
  // Offsets are below 2^60, regions' numbers below 2^40.
  return regions_.get(std::uint64_t{disk} << 48 | number, [&]() -> Result<RegionPointer> {
    auto made = std::make_shared<Region>();
    const std::uint64_t begin = number * kViewRegionBytes;
    RETURN_IF_ERROR(layers_.pieces(disk, begin, begin + kViewRegionBytes, made->pieces));
    made->pieces.shrink_to_fit();
    return RegionPointer(std::move(made));
  });
}

}  // namespace understudy
