// SPDX-License-Identifier: Apache-2.0
// Reads the tables of a journal once and says which positions can be recovered (I6).
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

  Status add(Seq seq, const Record& record) {
    place_.add(seq, record);
    switch (record.kind) {
      case RecordKind::kGap: {
        ASSIGN_OR_RETURN(const GapInfo info, decode_gap(record.payload));
        range_ = false;
        if (timeline.gaps.empty() || timeline.gaps.back().last_seq != 0)
          timeline.gaps.push_back({seq, 0, place_.time_ns, place_.time_ns, info.reason});
        break;
      }
      case RecordKind::kHeal:
        if (!timeline.gaps.empty() && timeline.gaps.back().last_seq == 0) {
          timeline.gaps.back().last_seq = seq;
          timeline.gaps.back().last_time_ns = place_.time_ns;
        }
        if (!range_) open_range(seq);
        break;
      case RecordKind::kMark: {
        ASSIGN_OR_RETURN(MarkInfo mark, decode_mark(record.payload));
        timeline.marks.push_back({seq, place_.time_ns, std::move(mark)});
        break;
      }
      case RecordKind::kGeometry: {
        ASSIGN_OR_RETURN(timeline.disks, decode_geometry(record.payload));
        break;
      }
      default: break;
    }
    if (range_) {
      PointRange& range = timeline.ranges.back();
      range.last_seq = seq;
      range.last_time_ns = place_.time_ns;
      if (record.kind == RecordKind::kBarrier) range.last_barrier_seq = seq;
    }
    return ok_status();
  }

  Timeline timeline;

 private:
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
  auto index = std::make_shared<TimelineIndex>(snapshot);
  JournalReader reader(snapshot);
  while (true) {
    Result<std::unique_ptr<JournalReader::Entry>> entry = reader.next();
    if (!entry.ok()) {
      if (!reader.damage() || entry.error().kind() != ErrorKind::kCorrupt)
        return std::move(entry).error().with_context("read timeline");
      builder.timeline.damage = reader.damage();
      break;
    }
    if (!*entry) break;
    index->add_batch(builder.place(), (*entry)->location);
    Seq seq = (*entry)->batch.info().first_seq;
    for (const Record& record : (*entry)->batch.records()) RETURN_IF_ERROR(builder.add(seq++, record));
  }
  if (!builder.timeline.damage && !snapshot->damage().empty()) builder.timeline.damage = snapshot->damage().front();
  builder.timeline.last_seq = builder.place().seq;
  builder.timeline.last_time_ns = builder.place().time_ns;
  builder.timeline.processed_seq = processed_seq(*snapshot, builder.timeline.last_seq);
  builder.timeline.index = std::move(index);
  return std::move(builder.timeline);
}

}  // namespace understudy
