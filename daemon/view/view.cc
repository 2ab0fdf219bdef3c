// SPDX-License-Identifier: Apache-2.0
// Reads at a point, through the index of view_index.h. Later records never change the files that the pieces point
// into, so a view holds still (I8).
#include "daemon/view/view.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <unordered_map>

#include "daemon/base/limits.h"
#include "daemon/store/journal.h"
#include "daemon/store/store_paths.h"
#include "daemon/view/view_index.h"

namespace understudy {
namespace {

// A batch in memory; for an initial COPY in the base, `base` instead is its payload, read and checked.
struct Loaded {
  std::vector<std::byte> stored;
  BatchReader reader;
  std::vector<std::byte> base;
  std::size_t bytes() const { return stored.size() + reader.info().raw_payload_bytes + base.size(); }
};
using LoadedPointer = std::shared_ptr<const Loaded>;

// Keeps what was used last, up to kViewCacheBytesMax. Thread-safe.
class Cache {
 public:
  LoadedPointer find(std::uint64_t key) {
    const std::lock_guard lock(mutex_);
    const auto it = places_.find(key);
    if (it == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, it->second);
    return it->second->value;
  }

  void keep(std::uint64_t key, LoadedPointer value) {
    const std::lock_guard lock(mutex_);
    if (places_.contains(key)) return;  // another thread was faster
    bytes_ += value->bytes();
    entries_.push_front({key, std::move(value)});
    places_[key] = entries_.begin();
    while (bytes_ > kViewCacheBytesMax && entries_.size() > 1) {
      bytes_ -= entries_.back().value->bytes();
      places_.erase(entries_.back().key);
      entries_.pop_back();
    }
  }

 private:
  struct Entry {
    std::uint64_t key = 0;
    LoadedPointer value;
  };
  std::mutex mutex_;
  std::list<Entry> entries_;  // newest use first
  std::unordered_map<std::uint64_t, std::list<Entry>::iterator> places_;
  std::size_t bytes_ = 0;
};

class PointInTimeViewImpl final : public PointInTimeView {
 public:
  PointInTimeViewImpl(std::shared_ptr<const JournalSnapshot> snapshot, ViewIndex index, Seq seq)
      : snapshot_(std::move(snapshot)),
        index_(std::move(index)),
        point_{seq, index_.write_time_ns, index_.barrier_aligned} {}

  const Point& point() const override { return point_; }
  const std::vector<DiskGeometry>& disks() const override { return index_.disks; }

  Status read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    const DiskGeometry* geometry = find_disk(disk);
    if (geometry == nullptr)
      return Error(ErrorKind::kNotFound, "there is no disk " + std::to_string(disk) + " at this point");
    if (offset_bytes > geometry->size_bytes || out.size() > geometry->size_bytes - offset_bytes)
      return Error(ErrorKind::kInvalidArgument, "read beyond the end of disk '" + geometry->name + "'");
    std::fill(out.begin(), out.end(), std::byte{0});
    const std::vector<ViewPiece>& pieces = index_.pieces.at(disk);
    const std::uint64_t end = offset_bytes + out.size();
    for (auto piece = first_piece(pieces, offset_bytes); piece != pieces.end() && piece->begin_bytes < end; ++piece) {
      ASSIGN_OR_RETURN(const LoadedPointer loaded, load(*piece));
      const std::uint64_t from = std::max(piece->begin_bytes, offset_bytes);
      const std::uint64_t to = std::min(piece->end_bytes, end);
      const std::span<const std::byte> data = bytes_of(*loaded, *piece, from, to);
      std::memcpy(out.data() + (from - offset_bytes), data.data(), data.size());
    }
    return ok_status();
  }

  Status read_all(std::uint16_t disk, const DataSink& sink) const override {
    if (find_disk(disk) == nullptr)
      return Error(ErrorKind::kNotFound, "there is no disk " + std::to_string(disk) + " at this point");
    // In stream order every batch is read and decompressed once, however scattered its writes are.
    const std::vector<ViewPiece>& pieces = index_.pieces.at(disk);
    std::vector<std::uint32_t> order(pieces.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      const ViewPiece& left = pieces[a];
      const ViewPiece& right = pieces[b];
      if (left.batch != right.batch) return left.batch < right.batch;
      return left.record != right.record ? left.record < right.record : left.begin_bytes < right.begin_bytes;
    });
    for (const std::uint32_t i : order) {
      ASSIGN_OR_RETURN(const LoadedPointer loaded, load(pieces[i]));
      RETURN_IF_ERROR(
          sink(pieces[i].begin_bytes, bytes_of(*loaded, pieces[i], pieces[i].begin_bytes, pieces[i].end_bytes)));
    }
    return ok_status();
  }

  Extent extent_at(std::uint16_t disk, std::uint64_t offset_bytes) const override {
    const DiskGeometry* geometry = find_disk(disk);
    if (geometry == nullptr || offset_bytes >= geometry->size_bytes) return Extent{0, true};
    const std::vector<ViewPiece>& pieces = index_.pieces.at(disk);
    auto piece = first_piece(pieces, offset_bytes);
    if (piece == pieces.end()) return Extent{geometry->size_bytes - offset_bytes, true};
    if (piece->begin_bytes > offset_bytes) return Extent{piece->begin_bytes - offset_bytes, true};
    std::uint64_t end = offset_bytes;
    for (; piece != pieces.end() && piece->begin_bytes <= end; ++piece) end = piece->end_bytes;
    return Extent{end - offset_bytes, false};
  }

 private:
  const DiskGeometry* find_disk(std::uint16_t slot) const {
    for (const DiskGeometry& disk : index_.disks)
      if (disk.disk == slot) return &disk;
    return nullptr;
  }

  // The first piece that ends behind `offset_bytes`.
  static std::vector<ViewPiece>::const_iterator first_piece(const std::vector<ViewPiece>& pieces,
                                                            std::uint64_t offset_bytes) {
    return std::upper_bound(pieces.begin(), pieces.end(), offset_bytes,
                            [](std::uint64_t offset, const ViewPiece& piece) { return offset < piece.end_bytes; });
  }

  static std::span<const std::byte> bytes_of(const Loaded& loaded, const ViewPiece& piece, std::uint64_t from,
                                             std::uint64_t to) {
    const Record& record = loaded.reader.records()[piece.record];
    const bool in_base = (record.flags & kRecordInBase) != 0;
    const std::span<const std::byte> payload = in_base ? std::span<const std::byte>(loaded.base) : record.payload;
    return payload.subspan(from - record.offset_bytes, to - from);
  }

  // The batch of a piece and, for one in the base, the bytes of its record; all checked against the checksums of
  // capture.
  Result<LoadedPointer> load(const ViewPiece& piece) const {
    const std::uint64_t batch_key = std::uint64_t{piece.batch} << 32;
    LoadedPointer batch = cache_.find(batch_key);
    if (batch == nullptr) {
      ASSIGN_OR_RETURN(batch, load_batch(piece.batch));
      cache_.keep(batch_key, batch);
    }
    CHECK_LT(piece.record, batch->reader.records().size());
    const Record& record = batch->reader.records()[piece.record];
    if ((record.flags & kRecordInBase) == 0) return batch;
    const std::uint64_t base_key = batch_key + piece.record + 1;
    if (LoadedPointer base = cache_.find(base_key)) return base;
    ASSIGN_OR_RETURN(LoadedPointer base, load_base(piece.batch, record));
    cache_.keep(base_key, base);
    return base;
  }

  Result<LoadedPointer> load_batch(std::uint32_t batch) const {
    auto loaded = std::make_shared<Loaded>();
    ASSIGN_OR_RETURN(loaded->reader, read_batch(*snapshot_, index_.batches[batch], loaded->stored, Verify::kRecords));
    return LoadedPointer(std::move(loaded));
  }

  // A record in the base carries its own copy of the batch's table, so that it can stand in the cache alone.
  Result<LoadedPointer> load_base(std::uint32_t batch, const Record& record) const {
    auto loaded = std::make_shared<Loaded>();
    ASSIGN_OR_RETURN(loaded->reader, read_batch(*snapshot_, index_.batches[batch], loaded->stored, Verify::kStored));
    const std::string where =
        "base image '" + base_image_name(record.disk) + "' at byte " + std::to_string(record.offset_bytes);
    Result<std::shared_ptr<const File>> file = snapshot_->open_base(record.disk);
    if (!file.ok()) return std::move(file).error().with_context(where);
    loaded->base.resize(record.length_bytes);
    ASSIGN_OR_RETURN(const std::size_t got, (*file)->read(record.offset_bytes, loaded->base));
    if (got != loaded->base.size() || xxh3_64(loaded->base) != record.checksum)
      return Error(ErrorKind::kCorrupt, where + ": the bytes are not what was copied (checksum)");
    return LoadedPointer(std::move(loaded));
  }

  std::shared_ptr<const JournalSnapshot> snapshot_;
  ViewIndex index_;
  Point point_;
  mutable Cache cache_;
};

}  // namespace

Result<std::unique_ptr<PointInTimeView>> PointInTimeView::open(const Store& store, const Point& point) {
  std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  Result<ViewIndex> index = build_view_index(snapshot, point.seq);
  if (!index.ok()) return std::move(index).error().with_context("open view");
  return std::unique_ptr<PointInTimeView>(
      std::make_unique<PointInTimeViewImpl>(std::move(snapshot), std::move(*index), point.seq));
}

}  // namespace understudy
