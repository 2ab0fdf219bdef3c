// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/timeline_index.h"

#include <algorithm>

namespace understudy {

// The last place of the stream that `accept` takes, which takes all up to one and none behind it, and takes the one
// before `segment`.
template <typename Accept>
Result<StreamPlace> TimelineIndex::walk(std::size_t segment, Accept accept) const {
  const StreamPlace& start = segments_[segment];
  std::vector<IndexedPlace> places;
  RETURN_IF_ERROR(snapshot_->with_segment_index(segment, [&](const SegmentIndex& index) -> Status {
    ASSIGN_OR_RETURN(places, index.places());
    return ok_status();
  }));
  const auto behind = std::partition_point(places.begin(), places.end(),
                                           [&](const IndexedPlace& place) { return accept(start.then(place.before)); });
  if (behind == places.begin()) return start;
  const IndexedPlace& nearest = *std::prev(behind);
  StreamPlace place = start.then(nearest.before);
  BatchLocation location;
  location.segment = static_cast<std::uint32_t>(segment);
  location.frame.offset_bytes = nearest.frame_offset_bytes;
  JournalReader reader(snapshot_, location);
  while (true) {
    Result<std::unique_ptr<JournalReader::Entry>> batch = reader.next();
    if (!batch.ok()) {
      if (reader.damage()) return place;  // the timeline ends here
      return std::move(batch).error();
    }
    if (!*batch) return place;
    Seq seq = (*batch)->batch.info().first_seq;
    for (const Record& record : (*batch)->batch.records()) {
      StreamPlace next = place;
      next.add(seq++, record);
      if (!accept(next)) return place;
      place = next;
    }
  }
}

Result<StreamPlace> TimelineIndex::at_seq(Seq seq) const {
  const auto it = std::upper_bound(segments_.begin(), segments_.end(), seq,
                                   [](Seq wanted, const StreamPlace& before) { return wanted <= before.seq; });
  if (it == segments_.begin()) return Error(ErrorKind::kNotFound, "seq " + std::to_string(seq) + " is before history");
  return walk(static_cast<std::size_t>(it - segments_.begin()) - 1,
              [&](const StreamPlace& place) { return place.seq <= seq; });
}

Result<StreamPlace> TimelineIndex::at_time(std::uint64_t time_ns) const {
  const auto it =
      std::upper_bound(segments_.begin(), segments_.end(), time_ns,
                       [](std::uint64_t wanted, const StreamPlace& before) { return wanted < before.time_ns; });
  if (it == segments_.begin()) return Error(ErrorKind::kNotFound, "the time is before history");
  return walk(static_cast<std::size_t>(it - segments_.begin()) - 1,
              [&](const StreamPlace& place) { return place.time_ns <= time_ns; });
}

}  // namespace understudy
