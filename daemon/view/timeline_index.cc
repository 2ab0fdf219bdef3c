// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/timeline_index.h"

#include <algorithm>

namespace understudy {
namespace {

constexpr std::uint64_t kIndexStride = 32;

}  // namespace

void StreamPlace::add(Seq record_seq, const Record& record) {
  seq = record_seq;
  time_ns = std::max(time_ns, record.time_ns);
  switch (record.kind) {
    case RecordKind::kWrite:
    case RecordKind::kZero:
    case RecordKind::kCopy:
      write_time_ns = std::max(write_time_ns, record.time_ns);
      written_since_barrier = true;
      break;
    case RecordKind::kBarrier:
      barrier_seq = record_seq;
      barrier_write_time_ns = write_time_ns;
      written_since_barrier = false;
      break;
    default: break;
  }
}

void TimelineIndex::add_batch(const StreamPlace& before, const BatchLocation& location) {
  if (batches_++ % kIndexStride == 0) entries_.push_back(Entry{before, location});
}

// Goes on from an entry as long as `accept` takes the place after the next record.
template <typename Accept>
Result<StreamPlace> TimelineIndex::walk(std::size_t entry, Accept accept) const {
  StreamPlace place = entries_[entry].before;
  JournalReader reader(snapshot_, entries_[entry].location);
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
  const auto it = std::upper_bound(entries_.begin(), entries_.end(), seq,
                                   [](Seq wanted, const Entry& entry) { return wanted <= entry.before.seq; });
  if (it == entries_.begin()) return Error(ErrorKind::kNotFound, "seq " + std::to_string(seq) + " is before history");
  return walk(static_cast<std::size_t>(it - entries_.begin()) - 1,
              [&](const StreamPlace& place) { return place.seq <= seq; });
}

Result<StreamPlace> TimelineIndex::at_time(std::uint64_t time_ns) const {
  const auto it =
      std::upper_bound(entries_.begin(), entries_.end(), time_ns,
                       [](std::uint64_t wanted, const Entry& entry) { return wanted < entry.before.time_ns; });
  if (it == entries_.begin()) return Error(ErrorKind::kNotFound, "the time is before history");
  return walk(static_cast<std::size_t>(it - entries_.begin()) - 1,
              [&](const StreamPlace& place) { return place.time_ns <= time_ns; });
}

}  // namespace understudy
