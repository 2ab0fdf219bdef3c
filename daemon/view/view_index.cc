// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_index.h"

#include <algorithm>

#include "daemon/base/limits.h"
#include "daemon/view/paint.h"
#include "daemon/view/timeline_index.h"

namespace understudy {
namespace {

constexpr std::uint32_t kZeros = ~std::uint32_t{0};

struct ViewExtent {
  std::uint64_t begin_bytes = 0;
  std::uint64_t end_bytes = 0;
  std::uint32_t batch = 0;  // or kZeros
  std::uint32_t record = 0;
};

const DiskGeometry* find_disk(const std::vector<DiskGeometry>& disks, std::uint16_t slot) {
  for (const DiskGeometry& disk : disks)
    if (disk.disk == slot) return &disk;
  return nullptr;
}

class Replay {
 public:
  explicit Replay(const StreamState& start) : whole_(start.position.initial_copy_done && !start.position.gap_open) {
    index_.disks = start.position.disks;
    place_.seq = start.position.seq;
  }

  Seq seq() const { return place_.seq; }
  bool whole() const { return whole_; }

  // The records of one batch up to `last`.
  Status add(const JournalReader::Entry& entry, Seq last) {
    Seq seq = entry.batch.info().first_seq;
    const auto batch = static_cast<std::uint32_t>(index_.batches.size());
    bool named = false;
    for (std::uint32_t i = 0; i < entry.batch.records().size() && seq <= last; ++i, ++seq) {
      const Record& record = entry.batch.records()[i];
      place_.add(seq, record);
      switch (record.kind) {
        case RecordKind::kWrite: add_extent(record, batch, i); break;
        case RecordKind::kZero: add_extent(record, kZeros, 0); break;
        case RecordKind::kCopy: add_extent(record, (record.flags & kRecordZeros) != 0 ? kZeros : batch, i); break;
        case RecordKind::kGeometry: RETURN_IF_ERROR(set_geometry(record)); break;
        case RecordKind::kGap: whole_ = false; break;
        case RecordKind::kHeal: whole_ = true; break;
        case RecordKind::kBarrier:
        case RecordKind::kMark: break;
      }
      named = named || record.kind == RecordKind::kWrite || record.kind == RecordKind::kCopy;
    }
    if (named) index_.batches.push_back(entry.location);
    return ok_status();
  }

  ViewIndex finish() && {
    index_.write_time_ns = place_.write_time_ns;
    index_.barrier_aligned = place_.barrier_seq != 0 && !place_.written_since_barrier;
    for (const DiskGeometry& disk : index_.disks) index_.pieces[disk.disk] = pieces_of(disk);
    return std::move(index_);
  }

 private:
  void add_extent(const Record& record, std::uint32_t batch, std::uint32_t index) {
    extents_[record.disk].push_back({record.offset_bytes, record.offset_bytes + record.length_bytes, batch, index});
  }

  Status set_geometry(const Record& record) {
    ASSIGN_OR_RETURN(std::vector<DiskGeometry> disks, decode_geometry(record.payload));
    for (const DiskGeometry& old : index_.disks) {
      const DiskGeometry* now = find_disk(disks, old.disk);
      if (now == nullptr || now->id != old.id)
        extents_.erase(old.disk);                 // the slot is another disk now, of which nothing is known yet
      else if (now->size_bytes < old.size_bytes)  // what was cut off does not come back when the disk grows again
        extents_[old.disk].push_back({now->size_bytes, kDiskBytesMax, kZeros, 0});
    }
    index_.disks = std::move(disks);
    return ok_status();
  }

  std::vector<ViewPiece> pieces_of(const DiskGeometry& disk) {
    std::vector<ViewPiece> pieces;
    const std::vector<ViewExtent>& extents = extents_[disk.disk];
    for (const PaintedPiece& painted : paint(std::span<const ViewExtent>(extents))) {
      const ViewExtent& extent = extents[painted.extent];
      if (extent.batch == kZeros || painted.begin_bytes >= disk.size_bytes) continue;
      pieces.push_back(
          {painted.begin_bytes, std::min(painted.end_bytes, disk.size_bytes), extent.batch, extent.record});
    }
    extents_.erase(disk.disk);
    return pieces;
  }

  ViewIndex index_;
  StreamPlace place_;
  bool whole_ = false;
  std::map<std::uint16_t, std::vector<ViewExtent>> extents_;
};

}  // namespace

Result<ViewIndex> build_view_index(const std::shared_ptr<const JournalSnapshot>& snapshot, Seq seq) {
  const auto not_there = [&](const char* why) {
    return Error(ErrorKind::kNotFound, "seq " + std::to_string(seq) + why);
  };
  if (snapshot->segments().empty()) return not_there(" can't be opened: the store is empty");
  Replay replay(snapshot->segments().front().info.state);
  if (seq < replay.seq()) return not_there(" is before history");
  JournalReader reader(snapshot);
  while (replay.seq() < seq) {
    ASSIGN_OR_RETURN(const std::unique_ptr<JournalReader::Entry> entry, reader.next());
    if (!entry) return not_there(" is in the future");
    RETURN_IF_ERROR(replay.add(*entry, seq));
  }
  if (!replay.whole())
    return Error(ErrorKind::kRefused,
                 "seq " + std::to_string(seq) + " lies in a gap or before the first full copy ended");
  return std::move(replay).finish();
}

}  // namespace understudy
