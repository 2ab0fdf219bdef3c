// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_layers.h"

#include <algorithm>

#include "daemon/view/paint.h"

namespace understudy {
namespace {

Error damaged(const Damage& damage) {
  return Error(ErrorKind::kCorrupt,
               "segment '" + damage.object + "' at byte " + std::to_string(damage.offset_bytes) + ": " + damage.reason);
}

}  // namespace

Result<ViewLayers> ViewLayers::open(std::shared_ptr<const JournalSnapshot> snapshot, Seq seq) {
  const auto not_there = [&](const char* why) {
    return Error(ErrorKind::kNotFound, "seq " + std::to_string(seq) + why);
  };
  if (snapshot->segments().empty()) return not_there(" can't be opened: the store is empty");
  if (seq < snapshot->segments().front().info.state.position.seq) return not_there(" is before history");
  if (seq > snapshot->position().seq) {
    if (!snapshot->damage().empty()) return damaged(snapshot->damage().front());
    return not_there(" is in the future");
  }
  ViewLayers layers(std::move(snapshot), seq);
  RETURN_IF_ERROR(layers.find_point());
  RETURN_IF_ERROR(layers.open_indexes());
  ASSIGN_OR_RETURN(layers.place_, layers.place_at_point());
  return layers;
}

// What the records of its segment make of the state at the segment's beginning.
Status ViewLayers::find_point() {
  last_segment_ = snapshot_->segment_of(seq_);
  const StreamState& start = snapshot_->segments()[last_segment_].info.state;
  bool whole = start.position.initial_copy_done && !start.position.gap_open;
  disks_ = start.position.disks;
  ASSIGN_OR_RETURN(const JournalSnapshot::Indexed indexed, snapshot_->segment_index(last_segment_));
  if (indexed.damage && seq_ > indexed.index->last_seq()) return damaged(*indexed.damage);
  std::vector<IndexedEvent> events;
  RETURN_IF_ERROR(snapshot_->with_segment_index(last_segment_, [&](const SegmentIndex& index) -> Status {
    ASSIGN_OR_RETURN(events, index.events());
    return ok_status();
  }));
  for (const IndexedEvent& event : events) {
    if (event.seq > seq_) break;
    if (event.kind == RecordKind::kGap) whole = false;
    if (event.kind == RecordKind::kHeal) whole = true;
    if (event.kind == RecordKind::kGeometry) {
      ASSIGN_OR_RETURN(disks_, decode_geometry(event.payload));
    }
  }
  if (whole) return ok_status();
  return Error(ErrorKind::kRefused,
               "seq " + std::to_string(seq_) + " lies in a gap or before the first full copy ended");
}

Status ViewLayers::open_indexes() {
  for (std::size_t i = 0; i < last_segment_; ++i) {
    ASSIGN_OR_RETURN(const JournalSnapshot::Indexed indexed, snapshot_->segment_index(i));
    if (indexed.damage) return damaged(*indexed.damage);
  }
  return ok_status();
}

// Times never fall within a stream, so it is enough to go back to the newest write and, while nothing was written
// since, to the newest barrier.
Result<StreamPlace> ViewLayers::place_at_point() const {
  std::vector<IndexedPlace> places;
  RETURN_IF_ERROR(snapshot_->with_segment_index(last_segment_, [&](const SegmentIndex& index) -> Status {
    ASSIGN_OR_RETURN(places, index.places());
    return ok_status();
  }));
  StreamPlace place;
  const auto behind =
      std::find_if(places.begin(), places.end(), [&](const IndexedPlace& p) { return p.before.seq >= seq_; });
  if (behind != places.begin()) {
    const IndexedPlace& from = *std::prev(behind);
    place = from.before;
    BatchLocation location;
    location.segment = static_cast<std::uint32_t>(last_segment_);
    location.frame.offset_bytes = from.frame_offset_bytes;
    JournalReader reader(snapshot_, location);
    while (place.seq < seq_) {
      ASSIGN_OR_RETURN(const std::unique_ptr<JournalEntry> entry, reader.next());
      if (!entry) break;
      Seq seq = entry->batch.info().first_seq;
      for (const Record& record : entry->batch.records())
        if (seq <= seq_) place.add(seq++, record);
    }
  }
  for (std::size_t i = last_segment_; i > 0; --i) {
    if (place.write_time_ns != 0 && (place.barrier_seq != 0 || place.written_since_barrier)) break;
    ASSIGN_OR_RETURN(const JournalSnapshot::Indexed indexed, snapshot_->segment_index(i - 1));
    place = place.seq == 0 ? indexed.index->last_place() : indexed.index->last_place().then(place);
  }
  place.seq = seq_;
  return place;
}

Status ViewLayers::pieces(std::uint16_t disk, std::uint64_t begin_bytes, std::uint64_t end_bytes,
                          std::vector<ViewPiece>& out) const {
  if (begin_bytes >= end_bytes) return ok_status();
  const std::size_t first = out.size();
  std::vector<Range> open{{begin_bytes, end_bytes}};
  for (std::size_t i = last_segment_ + 1; i-- > 0 && !open.empty();) RETURN_IF_ERROR(add_layer(i, disk, open, out));
  std::sort(out.begin() + static_cast<std::ptrdiff_t>(first), out.end(),
            [](const ViewPiece& a, const ViewPiece& b) { return a.begin_bytes < b.begin_bytes; });
  return ok_status();
}

// Takes out of `open` what the segment's records cover.
Status ViewLayers::add_layer(std::size_t segment, std::uint16_t disk, std::vector<Range>& open,
                             std::vector<ViewPiece>& out) const {
  std::vector<IndexedExtent> extents;
  RETURN_IF_ERROR(snapshot_->with_segment_index(segment, [&](const SegmentIndex& index) {
    extents.clear();
    return index.collect(disk, open.front().begin_bytes, open.back().end_bytes, seq_, extents);
  }));
  if (extents.empty()) return ok_status();
  std::sort(extents.begin(), extents.end(),
            [](const IndexedExtent& a, const IndexedExtent& b) { return a.seq < b.seq; });
  const std::vector<PaintedPiece> painted = paint(std::span<const IndexedExtent>(extents));
  std::vector<Range> left;
  auto piece = painted.begin();
  for (const Range& range : open) {
    std::uint64_t at = range.begin_bytes;
    while (piece != painted.end() && piece->end_bytes <= at) ++piece;
    for (auto covering = piece; covering != painted.end() && covering->begin_bytes < range.end_bytes; ++covering) {
      const std::uint64_t begin = std::max(covering->begin_bytes, at);
      const std::uint64_t end = std::min(covering->end_bytes, range.end_bytes);
      if (begin > at) left.push_back({at, begin});
      const IndexedExtent& extent = extents[covering->extent];
      if (extent.kind != ExtentKind::kZeros)
        out.push_back({begin, end, extent.seq, extent.frame_offset_bytes, extent.batch_bytes,
                       static_cast<std::uint32_t>(segment), extent.kind == ExtentKind::kBase});
      at = end;
      piece = covering;
    }
    if (at < range.end_bytes) left.push_back({at, range.end_bytes});
  }
  open = std::move(left);
  return ok_status();
}

}  // namespace understudy
