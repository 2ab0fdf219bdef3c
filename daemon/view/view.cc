// SPDX-License-Identifier: Apache-2.0
// Reads at a point: where the bytes are says the map (view_map.h) of the layers (view_layers.h), what they are the
// loader (view_loader.h). Later records never change the files that the pieces point into, so a view holds still (I8).
#include "daemon/view/view.h"

#include <algorithm>
#include <cstring>

#include "daemon/base/limits.h"
#include "daemon/view/view_flat.h"
#include "daemon/view/view_layers.h"
#include "daemon/view/view_loader.h"
#include "daemon/view/view_map.h"
#include "daemon/view/view_spill.h"

namespace understudy {
namespace {

// read_all() works on so much of a disk at a time that about this many pieces lie in it.
constexpr std::size_t kReadAllPieces = 256u << 10;
constexpr std::uint64_t kReadAllBytesMin = 1ull << 20;
constexpr std::uint64_t kReadAllBytesMax = 1ull << 40;
// extent_at() looks ahead in growing steps and no further than this many pieces.
constexpr std::uint64_t kExtentStepBytes = 1ull << 20;
constexpr std::size_t kExtentPieces = 16u << 10;

class PointInTimeViewImpl final : public PointInTimeView {
 public:
  PointInTimeViewImpl(ViewLayers layers, Seq seq, std::shared_ptr<ViewSpill> spill, std::uint64_t spill_bytes_max)
      : layers_(std::move(layers)),
        point_{seq, layers_.place().write_time_ns,
               layers_.place().barrier_seq != 0 && !layers_.place().written_since_barrier},
        map_(layers_),
        loader_(layers_.snapshot(), spill, spill_bytes_max / 2) {
    if (spill != nullptr) flat_ = std::make_unique<ViewFlat>(std::move(spill), spill_bytes_max / 2);
  }

  const Point& point() const override { return point_; }
  const std::vector<DiskGeometry>& disks() const override { return layers_.disks(); }

  Status read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    const DiskGeometry* geometry = find_disk(disk);
    if (geometry == nullptr) return no_disk(disk);
    if (offset_bytes > geometry->size_bytes || out.size() > geometry->size_bytes - offset_bytes)
      return Error(ErrorKind::kInvalidArgument, "read beyond the end of disk '" + geometry->name + "'");
    for (std::uint64_t done = 0; done < out.size();) {
      const std::uint64_t at = offset_bytes + done;
      const std::uint64_t length = std::min(out.size() - done, kViewRegionBytes - at % kViewRegionBytes);
      RETURN_IF_ERROR(read_in_region(*geometry, at, out.subspan(done, length)));
      done += length;
    }
    return ok_status();
  }

  // A large stretch at a time, in it in stream order: every batch is read and decompressed once for it, however
  // scattered its writes are.
  Status read_all(std::uint16_t disk, const DataSink& sink) const override {
    const DiskGeometry* geometry = find_disk(disk);
    if (geometry == nullptr) return no_disk(disk);
    std::vector<ViewPiece> pieces;
    std::uint64_t step = kReadAllBytesMin << 10;
    for (std::uint64_t at = 0; at < geometry->size_bytes;) {
      const std::uint64_t end = at + std::min(step, geometry->size_bytes - at);
      pieces.clear();
      RETURN_IF_ERROR(layers_.pieces(disk, at, end, pieces));
      RETURN_IF_ERROR(hand_out(disk, pieces, sink));
      if (pieces.size() > kReadAllPieces) step = std::max(step / 2, kReadAllBytesMin);
      if (pieces.size() < kReadAllPieces / 4) step = std::min(step * 2, kReadAllBytesMax);
      at = end;
    }
    return ok_status();
  }

  Extent extent_at(std::uint16_t disk, std::uint64_t offset_bytes) const override {
    const DiskGeometry* geometry = find_disk(disk);
    if (geometry == nullptr || offset_bytes >= geometry->size_bytes) return Extent{0, true};
    std::uint64_t at = offset_bytes;  // known up to here
    std::optional<bool> zero;
    std::size_t seen = 0;
    std::vector<ViewPiece> pieces;
    for (std::uint64_t step = kExtentStepBytes; at < geometry->size_bytes && seen < kExtentPieces; step *= 4) {
      const std::uint64_t end = at + std::min(std::min(step, kReadAllBytesMax), geometry->size_bytes - at);
      pieces.clear();
      // What can't be looked up is not known to be zeros; reading it will say why.
      const bool first = step == kExtentStepBytes;
      if (!(first ? map_.pieces(disk, at, end, pieces) : layers_.pieces(disk, at, end, pieces)).ok()) {
        if (zero == true) break;
        return Extent{end - offset_bytes, false};
      }
      seen += pieces.size();
      if (!zero) zero = pieces.empty() || pieces.front().begin_bytes > at;
      if (*zero) {
        at = pieces.empty() ? end : pieces.front().begin_bytes;
        if (!pieces.empty()) break;
      } else {
        for (const ViewPiece& piece : pieces) {
          if (piece.begin_bytes != at) break;
          at = piece.end_bytes;
        }
        if (at < end) break;
      }
    }
    return Extent{at - offset_bytes, *zero};
  }

 private:
  const DiskGeometry* find_disk(std::uint16_t slot) const {
    for (const DiskGeometry& disk : layers_.disks())
      if (disk.disk == slot) return &disk;
    return nullptr;
  }
  static Error no_disk(std::uint16_t disk) {
    return Error(ErrorKind::kNotFound, "there is no disk " + std::to_string(disk) + " at this point");
  }

  Status read_in_region(const DiskGeometry& disk, std::uint64_t offset_bytes, std::span<std::byte> out) const {
    const std::uint64_t region = offset_bytes / kViewRegionBytes;
    const std::uint64_t begin = region * kViewRegionBytes;
    if (flat_ != nullptr && flat_->read(disk.disk, region, offset_bytes - begin, out)) return ok_status();
    thread_local std::vector<ViewPiece> pieces;
    pieces.clear();
    RETURN_IF_ERROR(map_.pieces(disk.disk, offset_bytes, offset_bytes + out.size(), pieces));
    if (flat_ != nullptr && flat_->note_read(disk.disk, region, out.size(), pieces.size())) {
      const auto fill = [&](std::span<std::byte> room) -> Status {
        std::vector<ViewPiece> all;
        RETURN_IF_ERROR(map_.pieces(disk.disk, begin, begin + room.size(), all));
        return loader_.read(disk.disk, begin, all, room);
      };
      // A part of the region that can't be read must not take the rest with it.
      if (flat_->add(disk.disk, region, std::min(kViewRegionBytes, disk.size_bytes - begin), fill).ok() &&
          flat_->read(disk.disk, region, offset_bytes - begin, out))
        return ok_status();
    }
    return loader_.read(disk.disk, offset_bytes, pieces, out);
  }

  Status hand_out(std::uint16_t disk, std::vector<ViewPiece>& pieces, const DataSink& sink) const {
    std::sort(pieces.begin(), pieces.end(), [&](const ViewPiece& a, const ViewPiece& b) {
      return a.seq != b.seq ? a.seq < b.seq : a.begin_bytes < b.begin_bytes;
    });
    for (const ViewPiece& piece : pieces) {
      ViewLoader::Holder holder;
      ASSIGN_OR_RETURN(const std::span<const std::byte> data, loader_.load(disk, piece, holder));
      RETURN_IF_ERROR(sink(piece.begin_bytes, data));
    }
    return ok_status();
  }

  ViewLayers layers_;
  Point point_;
  ViewMap map_;
  ViewLoader loader_;
  std::unique_ptr<ViewFlat> flat_;  // only with a spill
};

}  // namespace

Result<std::unique_ptr<PointInTimeView>> PointInTimeView::open(const Store& store, const Point& point,
                                                              const ViewOptions& options) {
  Result<ViewLayers> layers = ViewLayers::open(store.snapshot(), point.seq);
  if (!layers.ok()) return std::move(layers).error().with_context("open view");
  std::shared_ptr<ViewSpill> spill;
  if (!options.spill_directory.empty()) {
    Result<std::shared_ptr<ViewSpill>> created = ViewSpill::create(posix_file_system(), options.spill_directory);
    if (!created.ok()) return std::move(created).error().with_context("open view");
    spill = std::move(*created);
  }
  return std::unique_ptr<PointInTimeView>(std::make_unique<PointInTimeViewImpl>(
      std::move(*layers), point.seq, std::move(spill), options.spill_bytes_max));
}

}  // namespace understudy
