// SPDX-License-Identifier: Apache-2.0
// The layers (view_layers.h) laid flat, a region of a disk at a time and when it is first asked for: what is asked for
// again costs no look at any index. Thread-safe.
//
// Memory: kViewMapBytesMax, 48 bytes for each stretch of a disk whose bytes are in one record.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/base/limits.h"
#include "daemon/base/result.h"
#include "daemon/view/view_cache.h"
#include "daemon/view/view_layers.h"

namespace understudy {

inline constexpr std::uint64_t kViewRegionBytes = 1ull << 20;

class ViewMap {
 public:
  // `layers` must outlive it.
  explicit ViewMap(const ViewLayers& layers) : layers_(layers), regions_({kViewMapBytesMax, 0}) {}

  // As ViewLayers::pieces().
  Status pieces(std::uint16_t disk, std::uint64_t begin_bytes, std::uint64_t end_bytes,
                std::vector<ViewPiece>& out) const;

 private:
  struct Region {
    std::vector<ViewPiece> pieces;
    ViewCacheWeight weight() const {
      return {sizeof(Region) + 128 + pieces.capacity() * sizeof(ViewPiece), 0};  // 128: of the cache itself
    }
  };
  using RegionPointer = ViewCache<Region>::Pointer;
  Result<RegionPointer> region(std::uint16_t disk, std::uint64_t number) const;

  const ViewLayers& layers_;
  mutable ViewCache<Region> regions_;
};

}  // namespace understudy
