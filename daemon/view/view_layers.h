// SPDX-License-Identifier: Apache-2.0
// Where each byte of a server's disks lies at a point: the segments' indexes asked newest first, each for what the
// newer ones left open, and what none of them knows is zeros. Opening reads indexes only; of segments without one, the
// tables. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/store/journal.h"
#include "daemon/store/stream_place.h"

namespace understudy {

// A stretch of a disk whose bytes are in one record.
struct ViewPiece {
  std::uint64_t begin_bytes = 0;
  std::uint64_t end_bytes = 0;
  Seq seq = 0;  // of the record
  std::uint64_t frame_offset_bytes = 0;
  std::uint32_t batch_bytes = 0;
  std::uint32_t segment = 0;
  bool in_base = false;
};

class ViewLayers {
 public:
  // kRefused when `seq` is in a gap or before the first full copy ended, kNotFound when it does not exist, kCorrupt
  // when the journal can't be read up to it.
  static Result<ViewLayers> open(std::shared_ptr<const JournalSnapshot> snapshot, Seq seq);

  const std::shared_ptr<const JournalSnapshot>& snapshot() const { return snapshot_; }
  const std::vector<DiskGeometry>& disks() const { return disks_; }
  const StreamPlace& place() const { return place_; }

  // Appends to `out` what of [begin, end) is not zeros: sorted, not overlapping.
  Status pieces(std::uint16_t disk, std::uint64_t begin_bytes, std::uint64_t end_bytes,
                std::vector<ViewPiece>& out) const;

 private:
  struct Range {
    std::uint64_t begin_bytes = 0;
    std::uint64_t end_bytes = 0;
  };
  ViewLayers(std::shared_ptr<const JournalSnapshot> snapshot, Seq seq) : snapshot_(std::move(snapshot)), seq_(seq) {}
  Status find_point();
  Status open_indexes();
  Result<StreamPlace> place_at_point() const;
  Status add_layer(std::size_t segment, std::uint16_t disk, std::vector<Range>& open,
                   std::vector<ViewPiece>& out) const;

  std::shared_ptr<const JournalSnapshot> snapshot_;
  Seq seq_ = 0;
  std::size_t last_segment_ = 0;  // the one with the point
  std::vector<DiskGeometry> disks_;
  StreamPlace place_;  // at the point; times and barriers as far back as they matter
};

}  // namespace understudy
