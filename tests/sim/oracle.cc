// SPDX-License-Identifier: Apache-2.0
// The stream, record by record, against the log. What is read back of disks is in oracle_points.cc.
#include "tests/sim/oracle.h"

#include <algorithm>

#include "daemon/base/checksum.h"

namespace understudy::sim {
namespace {

std::string number(std::uint64_t value) { return std::to_string(value); }

bool is_event(const Record& record) {
  return record.kind == RecordKind::kWrite || record.kind == RecordKind::kZero || record.kind == RecordKind::kBarrier;
}

std::size_t records_of(const LoggedEvent& event) {
  if (event.kind == CaptureKind::kBarrier) return 1;
  return 1 + (event.preflush ? 1 : 0) + (event.fua ? 1 : 0);
}

// A stream that starts anew behind such a gap has left captured events out.
bool starts_anew(GapReason reason) { return reason != GapReason::kOverflow && reason != GapReason::kRequested; }

}  // namespace

void Oracle::capture_begins(const Uuid& capture_id, std::vector<std::vector<std::byte>> content) {
  Capture capture;
  capture.identities = {capture_id};
  capture.expected = content;
  capture.before = std::move(content);
  captures_.push_back(std::move(capture));
}

void Oracle::capture_has(const Uuid& capture_id) {
  if (captures_.back().identities.back() != capture_id) captures_.back().identities.push_back(capture_id);
}

Oracle::Where Oracle::where(const Uuid& capture_id) const {
  for (std::size_t capture = captures_.size(); capture-- > 0;) {
    const std::vector<Uuid>& identities = captures_[capture].identities;
    const auto found = std::find(identities.begin(), identities.end(), capture_id);
    if (found != identities.end()) return {capture, static_cast<std::size_t>(found - identities.begin())};
  }
  throw Broken("I2: the stream names a capture that never was");
}

bool Oracle::included(const LoggedEvent& event, const CaptureCursor& cursor, const Where& place) const {
  switch (event.how) {
    case LoggedEvent::How::kCaptured: return event.number <= cursor.position;
    case LoggedEvent::How::kLost: return event.number <= cursor.loss_count;
    case LoggedEvent::How::kMissed: break;
  }
  return place.identity >= event.number;
}

// How many events of the log are in the replica where a gap ends.
std::size_t Oracle::prefix_at(const CaptureCursor& cursor, const Where& place, Seq seq) const {
  const std::vector<LoggedEvent>& log = captures_[place.capture].log;
  std::size_t count = log.size();
  for (std::size_t i = 0; i < log.size(); ++i) {
    if (included(log[i], cursor, place)) {
      REQUIRE(count == log.size(), "I1",
              "at the heal " + number(seq) + " event " + number(count) + " of the log is left out, but " + number(i) +
                  " behind it is in");
    } else if (count == log.size()) {
      count = i;
    }
  }
  return count;
}

void Oracle::check_batch(const BatchReader& batch) {
  const BatchInfo& info = batch.info();
  const Where place = where(info.cursor.capture_id);
  const bool moved = !at_ || at_->capture != place.capture || at_->identity != place.identity;
  bool anew = false;
  std::size_t event_records = 0;
  for (const Record& record : batch.records()) {
    if (is_event(record)) ++event_records;
    if (record.kind != RecordKind::kGap) continue;
    const auto gap = decode_gap(record.payload);
    REQUIRE(gap.ok(), "I7", "the gap record of batch " + number(info.first_seq) + " cannot be read");
    anew = anew || starts_anew(gap->reason);
  }
  REQUIRE(!moved || anew, "I2", "the capture changed at seq " + number(info.first_seq) + " without a gap that says so");
  const std::size_t before = !at_ || at_->capture != place.capture ? 0 : next_event_;
  at_ = place;
  if (anew) {
    // The batch's cursor stands behind its last event: from there back to its first.
    const std::vector<LoggedEvent>& log = captures_[place.capture].log;
    std::size_t index = 0;
    while (index < log.size() &&
           !(log[index].how == LoggedEvent::How::kCaptured && log[index].number > info.cursor.position)) {
      ++index;
    }
    while (event_records > 0) {
      REQUIRE(index > 0, "I1", "batch " + number(info.first_seq) + " has events that were never captured");
      --index;
      if (log[index].how != LoggedEvent::How::kCaptured) continue;
      REQUIRE(records_of(log[index]) <= event_records, "I1",
              "batch " + number(info.first_seq) + " begins in the middle of an event");
      event_records -= records_of(log[index]);
    }
    REQUIRE(index >= before, "I1", "batch " + number(info.first_seq) + " goes back to events that are in the stream");
    next_event_ = index;
    preflush_seen_ = fua_due_ = false;
  }
  for (const Record& record : batch.records()) check_record(record, info);
  REQUIRE(!fua_due_ && !preflush_seen_, "I6", "batch " + number(info.first_seq) + " ends in the middle of an event");
  if (!gap_open_) points_.push_back({seq_, place.capture, next_event_});
}

void Oracle::check_record(const Record& record, const BatchInfo& info) {
  ++seq_;
  ++records_checked_;
  REQUIRE(record.time_ns >= time_ns_, "I6", "the time falls at seq " + number(seq_));
  // Of data the checksum: whether the payload stands beside it depends on whether its segment was merged.
  const bool data = record.kind == RecordKind::kWrite || record.kind == RecordKind::kCopy;
  std::uint64_t hash = data ? record.checksum : xxh3_64(record.payload) ^ record.checksum;
  for (const std::uint64_t part : {std::uint64_t{static_cast<std::uint8_t>(record.kind)}, std::uint64_t{record.disk},
                                   record.offset_bytes, record.length_bytes, record.time_ns}) {
    hash = (hash ^ part) * 0x9e3779b97f4a7c15ull;
  }
  hashes_.push_back(hash);
  if (record.kind != RecordKind::kBarrier && record.kind != RecordKind::kWrite && record.kind != RecordKind::kZero) {
    REQUIRE(!fua_due_ && !preflush_seen_, "I6", "a record in the middle of an event at seq " + number(seq_));
  }
  switch (record.kind) {
    case RecordKind::kWrite:
    case RecordKind::kZero: check_event(record); break;
    case RecordKind::kBarrier: check_barrier(); break;
    case RecordKind::kGap: check_gap(record); break;
    case RecordKind::kCopy:
      REQUIRE(gap_open_, "I4", "a copy outside a gap at seq " + number(seq_));
      REQUIRE((record.flags & kRecordInitial) == 0 || !healed_once_, "I4",
              "a copy for the base after the first copy ended, at seq " + number(seq_));
      break;
    case RecordKind::kHeal: {
      REQUIRE(gap_open_ && gap_seen_, "I6", "a heal without a gap at seq " + number(seq_));
      CaptureCursor cursor = info.cursor;
      // Of events only those before this very record are in.
      const std::vector<LoggedEvent>& log = captures_[at_->capture].log;
      for (std::size_t i = next_event_; i < log.size(); ++i) {
        if (log[i].how != LoggedEvent::How::kCaptured) continue;
        cursor.position = std::min(cursor.position, log[i].number - 1);
        break;
      }
      next_event_ = prefix_at(cursor, *at_, seq_);
      gap_open_ = false;
      gap_seen_ = false;
      healed_once_ = true;
      gaps_.back().second = seq_;
      points_.push_back({seq_, at_->capture, next_event_});
      ++heals_checked_;
      break;
    }
    case RecordKind::kMark: {
      const auto mark = decode_mark(record.payload);
      REQUIRE(mark.ok(), "I7", "the mark at seq " + number(seq_) + " cannot be read");
      marks_[seq_] = mark->name;
      break;
    }
    case RecordKind::kGeometry: break;
  }
  time_ns_ = record.time_ns;
}

// The event that has to come next. Outside a gap nothing may have been lost before it.
LoggedEvent* Oracle::next_captured() {
  std::vector<LoggedEvent>& log = captures_[at_->capture].log;
  while (next_event_ < log.size() && log[next_event_].how != LoggedEvent::How::kCaptured) {
    REQUIRE(gap_open_, "I2", "an event of the log was lost before seq " + number(seq_) + " and no gap says so");
    ++next_event_;
  }
  REQUIRE(next_event_ < log.size(), "I1", "seq " + number(seq_) + " is an event that was never captured");
  return &log[next_event_];
}

void Oracle::check_event(const Record& record) {
  REQUIRE(!fua_due_, "I6", "the barrier of a FUA write is missing before seq " + number(seq_));
  const LoggedEvent* event = next_captured();
  const CaptureKind kind = record.kind == RecordKind::kWrite ? CaptureKind::kWrite : CaptureKind::kZero;
  REQUIRE(event->kind == kind && event->disk == record.disk && event->offset_bytes == record.offset_bytes &&
              event->length_bytes == record.length_bytes &&
              (kind == CaptureKind::kZero || event->checksum == record.checksum),
          "I1",
          "seq " + number(seq_) + " is not event " + number(next_event_) + " of the log: disk " + number(record.disk) +
              " offset " + number(record.offset_bytes) + " length " + number(record.length_bytes) +
              " instead of disk " + number(event->disk) + " offset " + number(event->offset_bytes) + " length " +
              number(event->length_bytes));
  REQUIRE(event->preflush == preflush_seen_, "I6", "the barrier of a flush is missing before seq " + number(seq_));
  check_time(record, *event);
  preflush_seen_ = false;
  fua_due_ = event->fua;
  ++next_event_;
}

void Oracle::check_barrier() {
  if (fua_due_) {
    fua_due_ = false;
    return;
  }
  const LoggedEvent* event = next_captured();
  if (event->kind == CaptureKind::kBarrier) {
    ++next_event_;
    return;
  }
  REQUIRE(event->preflush && !preflush_seen_, "I6", "a barrier at seq " + number(seq_) + " that no flush made");
  preflush_seen_ = true;
}

void Oracle::check_time(const Record& record, const LoggedEvent& event) {
  if (!exact_times_) return;
  REQUIRE(record.time_ns == std::max(event.wall_ns, time_ns_), "I6",
          "seq " + number(seq_) + " has the time " + number(record.time_ns) + ", it was written at " +
              number(event.wall_ns));
}

void Oracle::check_gap(const Record& record) {
  const GapReason reason = decode_gap(record.payload)->reason;
  // A scrub that finds a difference asks for a gap, too; but there is nothing to be found.
  REQUIRE(reason != GapReason::kRequested || repair_asked_, "digest", "seq " + number(seq_) + ": a gap for nothing");
  const auto session = session_starts_.lower_bound(gaps_.empty() ? 0 : gaps_.back().second);
  const bool new_session = session != session_starts_.end() && *session < seq_;
  if (!gap_open_ && reason == GapReason::kOverflow && !new_session) {
    // It must stand where something is missing.
    const std::vector<LoggedEvent>& log = captures_[at_->capture].log;
    const bool lost = std::any_of(log.begin() + static_cast<std::ptrdiff_t>(next_event_), log.end(),
                                  [](const LoggedEvent& event) { return event.how == LoggedEvent::How::kLost; });
    REQUIRE(lost, "I2", "a gap at seq " + number(seq_) + " although nothing was lost");
  }
  if (!gap_seen_) gaps_.emplace_back(seq_, 0);
  gap_seen_ = true;
  gap_open_ = true;
}

}  // namespace understudy::sim
