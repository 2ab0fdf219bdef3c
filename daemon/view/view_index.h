// SPDX-License-Identifier: Apache-2.0
// Where each byte of a server's disks lies at a point: built by replaying the tables of the journal up to it. The
// extents of each disk are painted over one another in stream order; what no record covers is zeros.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/store/journal.h"

namespace understudy {

// A stretch of a disk whose bytes are in one record.
struct ViewPiece {
  std::uint64_t begin_bytes = 0;
  std::uint64_t end_bytes = 0;
  std::uint32_t batch = 0;   // index into ViewIndex::batches
  std::uint32_t record = 0;  // index in the batch
};

struct ViewIndex {
  std::vector<DiskGeometry> disks;
  std::map<std::uint16_t, std::vector<ViewPiece>> pieces;  // per slot, sorted, not overlapping, within the disk
  std::vector<BatchLocation> batches;                      // those that any piece may name, in stream order
  std::uint64_t write_time_ns = 0;                         // of the newest write
  bool barrier_aligned = false;
};

// kRefused when `seq` is in a gap or before the first full copy ended, kNotFound when it does not exist, kCorrupt when
// the journal can't be read up to it.
Result<ViewIndex> build_view_index(const std::shared_ptr<const JournalSnapshot>& snapshot, Seq seq);

}  // namespace understudy
