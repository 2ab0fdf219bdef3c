// SPDX-License-Identifier: Apache-2.0
// Puts together what the segments' indexes say happened, and so which positions can be recovered (I6).
#include <algorithm>

#include "daemon/store/journal.h"
#include "daemon/view/timeline_index.h"
#include "daemon/view/view.h"

namespace understudy {
namespace {

class TimelineBuilder {
 public:
  explicit TimelineBuilder(const JournalSnapshot& snapshot) {
    if (snapshot.segments().empty()) return;
    const StreamState& start = snapshot.segments().front().info.state;
    place_.seq = start.position.seq;
    place_.time_ns = start.position.last_time_ns;
    timeline.disks = start.position.disks;
    // A journal whose beginning was given up starts in the middle of a range or of a gap.
    if (start.position.gap_open)
      timeline.gaps.push_back({start.gap_seq, 0, place_.time_ns, 0, start.position.gap_reason});
    else if (start.position.initial_copy_done)
      open_range(place_.seq + 1);
  }

  const StreamPlace& place() const { return place_; }

  Status add_segment(const std::vector<IndexedEvent>& events, const StreamPlace& last) {
    const StreamPlace start = place_;
    for (const IndexedEvent& event : events) {
      go_to(start.then(event.before));
      RETURN_IF_ERROR(add_event(event));
    }
    go_to(start.then(last));
    return ok_status();
  }

  Timeline timeline;

 private:
  // Everything up to `place` belongs to the range that is open.
  void go_to(const StreamPlace& place) {
    place_ = place;
    if (!range_) return;
    PointRange& range = timeline.ranges.back();
    if (place.seq < range.first_seq) return;
    range.last_seq = place.seq;
    range.last_time_ns = place.time_ns;
    if (place.barrier_seq >= range.first_seq) range.last_barrier_seq = place.barrier_seq;
  }

  Status add_event(const IndexedEvent& event) {
    const std::uint64_t time_ns = std::max(place_.time_ns, event.time_ns);
    switch (event.kind) {
      case RecordKind::kGap: {
        ASSIGN_OR_RETURN(const GapInfo info, decode_gap(event.payload));
        range_ = false;
        if (timeline.gaps.empty() || timeline.gaps.back().last_seq != 0)
          timeline.gaps.push_back({event.seq, 0, time_ns, time_ns, info.reason});
        break;
      }
      case RecordKind::kHeal:
        if (!timeline.gaps.empty() && timeline.gaps.back().last_seq == 0) {
          timeline.gaps.back().last_seq = event.seq;
          timeline.gaps.back().last_time_ns = time_ns;
        }
        place_.time_ns = time_ns;
        if (!range_) open_range(event.seq);
        break;
      case RecordKind::kMark: {
        ASSIGN_OR_RETURN(MarkInfo mark, decode_mark(event.payload));
        timeline.marks.push_back({event.seq, time_ns, std::move(mark)});
        break;
      }
      case RecordKind::kGeometry: {
        ASSIGN_OR_RETURN(timeline.disks, decode_geometry(event.payload));
        break;
      }
      default: return Error(ErrorKind::kCorrupt, "segment index: an event of another kind");
    }
    return ok_status();
  }

  void open_range(Seq first_seq) {
    timeline.ranges.push_back({first_seq, first_seq, place_.time_ns, place_.time_ns, 0});
    range_ = true;
  }

  StreamPlace place_;
  bool range_ = false;
};

// The newest segment is still written to.
Seq processed_seq(const JournalSnapshot& snapshot, Seq last_seq) {
  if (snapshot.segments().size() < 2) return last_seq;
  return std::min(last_seq, snapshot.segments().back().info.first_seq - 1);
}

}  // namespace

Result<Timeline> read_timeline(const Store& store) {
  const std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  TimelineBuilder builder(*snapshot);
  auto places = std::make_shared<TimelineIndex>(snapshot);
  for (std::size_t i = 0; i < snapshot->segments().size() && !builder.timeline.damage; ++i) {
    places->add_segment(builder.place());
    Result<JournalSnapshot::Indexed> indexed = snapshot->segment_index(i);
    if (!indexed.ok()) return std::move(indexed).error().with_context("read timeline");
    std::vector<IndexedEvent> events;
    Status status = snapshot->with_segment_index(i, [&](const SegmentIndex& index) -> Status {
      ASSIGN_OR_RETURN(events, index.events());
      return ok_status();
    });
    if (status.ok()) status = builder.add_segment(events, indexed->index->last_place());
    if (!status.ok()) return std::move(status).error().with_context("read timeline");
    builder.timeline.damage = indexed->damage;
  }
  if (!builder.timeline.damage && !snapshot->damage().empty()) builder.timeline.damage = snapshot->damage().front();
  builder.timeline.last_seq = builder.place().seq;
  builder.timeline.last_time_ns = builder.place().time_ns;
  builder.timeline.processed_seq = processed_seq(*snapshot, builder.timeline.last_seq);
  builder.timeline.index = std::move(places);
  return std::move(builder.timeline);
}

}  // namespace understudy
