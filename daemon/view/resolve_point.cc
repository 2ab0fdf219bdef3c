// SPDX-License-Identifier: Apache-2.0
// From what an operator writes to a position, or to an error that says what would work.
#include <algorithm>

#include "daemon/base/text.h"
#include "daemon/view/point_time.h"
#include "daemon/view/timeline_index.h"
#include "daemon/view/view.h"

namespace understudy {
namespace {

constexpr std::size_t kMarksNamed = 5;  // in an error

std::string number(std::uint64_t value) { return std::to_string(value); }

std::string describe(Seq seq, std::uint64_t time_ns) {
  return "seq:" + number(seq) + " (" + format_time_local(time_ns) + ")";
}

std::string no_points(const Timeline& timeline) {
  if (timeline.last_seq == 0) return "the store is empty: nothing has been received yet";
  return "no point can be recovered yet: the first full copy has not ended";
}

class Resolver {
 public:
  explicit Resolver(const Timeline& timeline) : timeline_(timeline) {}

  Result<Point> resolve(std::string_view text) const {
    if (timeline_.ranges.empty()) return Error(ErrorKind::kNotFound, no_points(timeline_));
    if (text == "latest") return end_of(timeline_.ranges.back());
    if (text == "latest-processed") return latest_processed();
    if (text == "latest-application") return latest_application();
    if (text.starts_with("seq:")) {
      const auto seq = parse_unsigned(text.substr(4));
      if (!seq || *seq == 0)
        return Error(ErrorKind::kInvalidArgument, "'" + printable(text) + "' is not a position: wanted 'seq:<number>'");
      return at_seq(*seq, "seq " + number(*seq));
    }
    if (text.starts_with("@")) return at_mark(text.substr(1));
    const auto time_ns = parse_point_time(text, timeline_.last_time_ns);
    if (!time_ns)
      return Error(ErrorKind::kInvalidArgument,
                   "'" + printable(text) +
                       "' is not a point: wanted 'latest', 'latest-processed', 'latest-application', 'seq:<number>', "
                       "'@<mark>', '2026-03-01T12:03:17Z', '2026-03-01 12:03:17', '12:03:17' or '-90s'");
    return at_time(*time_ns);
  }

 private:
  // Where a range is best entered from behind: its last barrier, else its end.
  std::string describe_end(const PointRange& range) const {
    if (range.last_barrier_seq == 0) return describe(range.last_seq, range.last_time_ns);
    const Result<StreamPlace> place = timeline_.index != nullptr
                                          ? timeline_.index->at_seq(range.last_barrier_seq)
                                          : Result<StreamPlace>(Error(ErrorKind::kNotFound, "no index"));
    return place.ok() ? describe(range.last_barrier_seq, place->time_ns) : "seq:" + number(range.last_barrier_seq);
  }

  // "; nearest good points: X before, Y after"
  std::string nearest(const PointRange* before, const PointRange* after) const {
    if (before == nullptr && after == nullptr) return "; no point can be recovered yet";
    std::string text = "; nearest good points: ";
    if (before != nullptr) text += describe_end(*before) + " before";
    if (before != nullptr && after != nullptr) text += ", ";
    if (after != nullptr) text += describe(after->first_seq, after->first_time_ns) + " after";
    return text;
  }

  // Ranges around a seq or time that lies in none.
  const PointRange* range_before(Seq seq) const {
    const PointRange* found = nullptr;
    for (const PointRange& range : timeline_.ranges)
      if (range.last_seq < seq) found = &range;
    return found;
  }
  const PointRange* range_after(Seq seq) const {
    for (const PointRange& range : timeline_.ranges)
      if (range.first_seq > seq) return &range;
    return nullptr;
  }
  const Gap* gap_at(Seq seq) const {
    for (const Gap& gap : timeline_.gaps)
      if (gap.first_seq <= seq && (gap.last_seq == 0 || seq < gap.last_seq)) return &gap;
    return nullptr;
  }

  std::string in_gap(const Gap& gap) const {
    return " lies in a gap (" + std::string(gap_reason_name(gap.reason)) + ", " +
           (gap.last_seq == 0 ? "not healed yet" : "healed at seq " + number(gap.last_seq)) +
           "), where the stream lacks writes";
  }

  Result<Point> exact(Seq seq) const {
    Point point{seq, 0, false};
    if (timeline_.index == nullptr) return point;
    ASSIGN_OR_RETURN(const StreamPlace place, timeline_.index->at_seq(seq));
    point.time_ns = place.write_time_ns;
    point.barrier_aligned = place.barrier_seq != 0 && !place.written_since_barrier;
    return point;
  }

  Result<Point> end_of(const PointRange& range) const {
    return exact(range.last_barrier_seq != 0 ? range.last_barrier_seq : range.last_seq);
  }

  Result<Point> at_seq(Seq seq, const std::string& name) const {
    for (const PointRange& range : timeline_.ranges)
      if (range.first_seq <= seq && seq <= range.last_seq) return exact(seq);
    std::string what = name;
    if (seq > timeline_.last_seq)
      what += timeline_.damage ? " is behind the damage at seq " + number(timeline_.damage->first_seq) +
                                     ", up to which the journal can be read"
                               : " is in the future: the newest record is seq " + number(timeline_.last_seq);
    else if (const Gap* gap = gap_at(seq))
      what += in_gap(*gap);
    else
      what += " is before history";
    return Error(ErrorKind::kNotFound, what + nearest(range_before(seq), range_after(seq)));
  }

  Result<Point> latest_processed() const {
    const PointRange* range = nullptr;
    for (const PointRange& candidate : timeline_.ranges)
      if (candidate.first_seq <= timeline_.processed_seq) range = &candidate;
    if (range == nullptr)
      return Error(ErrorKind::kNotFound, "no point is processed yet: the journal is sealed up to seq " +
                                             number(timeline_.processed_seq) + nearest(nullptr, &timeline_.ranges[0]));
    if (range->last_seq <= timeline_.processed_seq) return end_of(*range);
    if (timeline_.index == nullptr) return exact(timeline_.processed_seq);
    ASSIGN_OR_RETURN(const StreamPlace place, timeline_.index->at_seq(timeline_.processed_seq));
    if (place.barrier_seq >= range->first_seq) return Point{place.barrier_seq, place.barrier_write_time_ns, true};
    return Point{place.seq, place.write_time_ns, false};
  }

  Result<Point> latest_application() const {
    for (auto mark = timeline_.marks.rbegin(); mark != timeline_.marks.rend(); ++mark)
      if (mark->mark.consistency == Consistency::kApplication)
        if (Result<Point> point = at_seq(mark->seq, "mark '" + printable(mark->mark.name) + "'"); point.ok())
          return point;
    return Error(ErrorKind::kNotFound,
                 "there is no application-consistent mark; 'understudyctl mark --application-consistent' makes one; "
                 "'latest' is the newest crash-consistent point");
  }

  // ": the marks are '@a', '@b'", newest first and not too many.
  std::string newest_marks() const {
    std::vector<std::string> names;
    for (auto mark = timeline_.marks.rbegin(); mark != timeline_.marks.rend() && names.size() < kMarksNamed; ++mark)
      names.push_back("@" + mark->mark.name);
    if (names.empty()) return ": this store has no marks";
    return "; the newest marks are " + quoted_list(names);
  }

  Result<Point> at_mark(std::string_view name) const {
    for (auto mark = timeline_.marks.rbegin(); mark != timeline_.marks.rend(); ++mark)
      if (mark->mark.name == name) return at_seq(mark->seq, "mark '" + printable(name) + "'");
    std::vector<std::string> names;
    for (const NamedPoint& mark : timeline_.marks) names.push_back(mark.mark.name);
    std::string what = "there is no mark '" + printable(name) + "'";
    if (const auto meant = nearest_word(name, names))
      what += "; did you mean '@" + *meant + "'?";
    else
      what += newest_marks();
    return Error(ErrorKind::kNotFound, what);
  }

  Result<Point> at_time(std::uint64_t time_ns) const {
    const std::string name = "time " + format_time_local(time_ns);
    const PointRange* before = nullptr;
    const PointRange* after = nullptr;
    for (const PointRange& range : timeline_.ranges) {
      if (range.first_time_ns <= time_ns)
        before = &range;
      else if (after == nullptr)
        after = &range;
    }
    if (time_ns > timeline_.last_time_ns) {
      std::string what = name + " is after the newest record, which is of " + format_time_local(timeline_.last_time_ns);
      if (timeline_.damage)
        what += " (the journal can't be read from the damage at seq " + number(timeline_.damage->first_seq) + " on)";
      return Error(ErrorKind::kNotFound, what + nearest(before, after));
    }
    for (const Gap& gap : timeline_.gaps)
      if (gap.first_time_ns <= time_ns && (gap.last_seq == 0 || time_ns < gap.last_time_ns))
        return Error(ErrorKind::kNotFound, name + in_gap(gap) + nearest(before, after));
    if (before == nullptr) return Error(ErrorKind::kNotFound, name + " is before history" + nearest(before, after));
    return newest_at(*before, time_ns);
  }

  // The newest barrier of `range` at or before the time.
  Result<Point> newest_at(const PointRange& range, std::uint64_t time_ns) const {
    if (timeline_.index == nullptr || time_ns >= range.last_time_ns) return end_of(range);
    ASSIGN_OR_RETURN(const StreamPlace place, timeline_.index->at_time(time_ns));
    if (place.barrier_seq >= range.first_seq) return Point{place.barrier_seq, place.barrier_write_time_ns, true};
    return Point{std::max(place.seq, range.first_seq), place.write_time_ns, false};
  }

  const Timeline& timeline_;
};

}  // namespace

Result<Point> resolve_point(const Timeline& timeline, std::string_view text) {
  return Resolver(timeline).resolve(text);
}

}  // namespace understudy
