// SPDX-License-Identifier: Apache-2.0
// The dirty map of every tracker: one byte per granule in memory that the kernel side (or the simulation) writes too.
// The kernel only stores DIRTY; everything else is compare-and-swap here, so a loss during a re-read is never
// overwritten by the CLEAN of that re-read (states: enum understudy_granule_state in kmod-shim/capture_abi.h).
//
// Threads: as DirtyMap's, but fold_all_dirty() is for any; the memory may be written by the kernel at any time.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "daemon/tracker/tracker.h"

namespace understudy {

// The granules of one disk.
struct DirtyRegion {
  std::uint16_t disk = 0;
  std::uint8_t* states = nullptr;  // one byte each, not owned; 8-byte aligned
  std::uint64_t size_bytes = 0;    // of the disk; the last granule may be shorter
  std::uint32_t granule_bytes = 0;
  // Set to 1 by the kernel side when an extent too long to mark was lost: every granule counts as DIRTY. May be null.
  std::uint32_t* all_dirty = nullptr;

  std::uint64_t granule_count() const { return (size_bytes + granule_bytes - 1) / granule_bytes; }
};

class GranuleMap final : public DirtyMap {
 public:
  explicit GranuleMap(std::vector<DirtyRegion> regions);

  void mark(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) override;
  std::optional<GranuleRange> claim_next(std::uint16_t disk, std::uint64_t from, std::uint64_t count_max) override;
  void finish(const GranuleRange& range) override;
  void unclaim(const GranuleRange& range) override;
  void unclaim_all() override;
  std::uint64_t pending_count(std::uint16_t disk) const override;
  std::uint64_t dirty_count(std::uint16_t disk) const override;

  // Turns every pending all_dirty into DIRTY granules. Every call above does it for its disk; whoever reports losses
  // does it for all, so that the extents are in the map before the figures are seen.
  void fold_all_dirty() const;

 private:
  const DirtyRegion& region(std::uint16_t disk) const;
  void fold(const DirtyRegion& region) const;
  static std::span<std::uint8_t> states_of(const DirtyRegion& region, const GranuleRange& range);

  std::vector<DirtyRegion> regions_;
  mutable std::mutex fold_mutex_;  // losses() of any thread folds too
};

}  // namespace understudy
