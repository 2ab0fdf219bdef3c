// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/damage_reach.h"

#include <algorithm>
#include <string>

#include "daemon/store/journal.h"
#include "daemon/store/store_paths.h"
#include "daemon/view/view.h"
#include "daemon/view/view_layers.h"
#include "daemon/view/view_loader.h"

namespace understudy {
namespace {

// Of so many ranges of points the ends are looked at: each gap ends one.
constexpr std::size_t kRangesMax = 16;
constexpr std::uint64_t kStepBytes = 256ull << 20;

class Reach {
 public:
  Reach(const JournalSnapshot& snapshot, std::span<const Damage> damages, std::size_t count_max)
      : snapshot_(snapshot), damages_(damages), count_max_(count_max) {}

  // What can't be read of the disks at a point.
  Result<std::vector<DamagedExtent>> at(const ViewLayers& layers) const {
    const ViewLoader loader(layers.snapshot(), nullptr, 0);
    std::vector<DamagedExtent> found;
    std::vector<ViewPiece> pieces;
    for (const DiskGeometry& disk : layers.disks()) {
      for (std::uint64_t at = 0; at < disk.size_bytes; at += kStepBytes) {
        pieces.clear();
        RETURN_IF_ERROR(layers.pieces(disk.disk, at, std::min(at + kStepBytes, disk.size_bytes), pieces));
        for (const ViewPiece& piece : pieces) {
          if (found.size() > count_max_) break;
          if (is_suspect(disk.disk, piece)) prove(loader, disk.disk, piece, found);
        }
      }
    }
    if (found.size() > count_max_) found.resize(count_max_);
    return found;
  }

 private:
  bool is_suspect(std::uint16_t disk, const ViewPiece& piece) const {
    return std::any_of(damages_.begin(), damages_.end(), [&](const Damage& damage) {
      const std::uint64_t end = damage.offset_bytes + damage.length_bytes;
      if (piece.in_base && damage.object == "base/" + base_image_name(disk))
        return piece.begin_bytes < end && piece.end_bytes > damage.offset_bytes;
      // A batch that says where bytes of the base belong is needed as well.
      return damage.object == snapshot_.segments()[piece.segment].name &&
             piece.frame_offset_bytes >= damage.offset_bytes && piece.frame_offset_bytes < end;
    });
  }

  static void prove(const ViewLoader& loader, std::uint16_t disk, const ViewPiece& piece,
                    std::vector<DamagedExtent>& found) {
    ViewLoader::Holder holder;
    if (loader.load(disk, piece, holder).ok()) return;
    const std::uint64_t length = piece.end_bytes - piece.begin_bytes;
    if (!found.empty() && found.back().disk == disk &&
        found.back().offset_bytes + found.back().length_bytes == piece.begin_bytes)
      found.back().length_bytes += length;
    else
      found.push_back({disk, piece.begin_bytes, length});
  }

  const JournalSnapshot& snapshot_;
  const std::span<const Damage> damages_;
  const std::size_t count_max_;
};

}  // namespace

Result<DamageReach> find_damage_reach(const Store& store, std::span<const Damage> damages, std::size_t count_max) {
  const std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  ASSIGN_OR_RETURN(const Timeline timeline, read_timeline(store));
  const Reach reach(*snapshot, damages, count_max);
  DamageReach result;
  std::size_t looked_at = 0;
  for (auto range = timeline.ranges.rbegin(); range != timeline.ranges.rend() && looked_at < kRangesMax; ++range) {
    ASSIGN_OR_RETURN(const ViewLayers layers, ViewLayers::open(snapshot, range->last_seq));
    ASSIGN_OR_RETURN(std::vector<DamagedExtent> extents, reach.at(layers));
    if (!extents.empty()) {
      result.newest = looked_at == 0;
      result.last_seq = range->last_seq;
      result.last_time_ns = range->last_time_ns;
      if (result.newest) result.extents = std::move(extents);
      return result;
    }
    ++looked_at;
  }
  return result;
}

}  // namespace understudy
