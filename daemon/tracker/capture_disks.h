// SPDX-License-Identifier: Apache-2.0
// Which disk has which slot and which part of the dirty map in a kernel side.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/tracker/dirty_map.h"
#include "daemon/tracker/disk_inspect.h"
#include "daemon/tracker/kernel_side.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

// Pages of the dirty map for these disks, with room for disks that are added later: a quarter more, at least 512 pages.
std::uint32_t dirty_pages_for(const std::vector<DiskInfo>& disks, std::uint32_t granule_bytes);

// Brings the table to exactly these disks: those it has stay in their slots, new ones get the next free slot and are
// marked dirty if `mark_new`, others are no longer watched. A disk that has grown keeps its slot; what is new of it is
// dirty. Nothing is changed when an answer is given: why the capture has to be made anew ("disk 'x' has shrunk from ...
// to ..."). The disks are in the order given.
struct WatchedDisks {
  std::vector<TrackedDisk> disks;
  std::vector<std::uint16_t> added;  // slots that were not watched before
  std::vector<std::uint16_t> removed;
};
struct WatchOutcome {
  std::optional<std::string> must_be_made_anew;
  WatchedDisks watched;
};
WatchOutcome watch_disks(KernelSide& side, const std::vector<DiskInfo>& disks, std::uint32_t granule_bytes,
                         bool mark_new);
void unwatch(KernelSide& side, std::uint16_t slot);

// The dirty map's memory of these disks.
std::vector<DirtyRegion> dirty_regions(KernelSide& side, const std::vector<TrackedDisk>& disks);

}  // namespace understudy
