// SPDX-License-Identifier: Apache-2.0
// Marks: where they stand in the stream, and when they are answered.
//
// A mark's place is fixed by the request: behind what was captured until then, and before everything later. What is
// restored by it would else hold writes of applications that were at rest at the mark and went on behind it. So the
// place is looked for before each event is added, and found again when a session had to go back.
#include <algorithm>
#include <utility>

#include "daemon/base/limits.h"
#include "daemon/replicate/replicator.h"

namespace understudy {

void Replicator::request_mark(const MarkInfo& mark, std::uint64_t deadline_ns, MarkDone done) {
  request_mark_described_later(
      mark.name, [mark] { return std::optional<MarkInfo>(mark); }, deadline_ns, std::move(done));
}

void Replicator::request_mark_described_later(std::string name, MarkDescription description, std::uint64_t deadline_ns,
                                              MarkDone done) {
  if (marks_.size() >= kPendingMarksMax) {
    done(Error(ErrorKind::kBusy,
               "mark '" + name + "': " + std::to_string(kPendingMarksMax) + " marks wait for the receiver already"));
    return;
  }
  marks_.push_back({.name = std::move(name),
                    .description = std::move(description),
                    .target_position = tracker_.head(),
                    .requested_ns = clock_.boot_ns(),
                    .deadline_ns = deadline_ns,
                    .done = std::move(done),
                    .state = MarkState::kWaiting,
                    .seq = 0});
}

bool Replicator::mark_holds(std::uint64_t position) const {
  return std::any_of(marks_.begin(), marks_.end(), [&](const PendingMark& mark) {
    return mark.state == MarkState::kWaiting && mark.target_position <= position && !mark.description();
  });
}

void Replicator::place_marks(std::uint64_t position) {
  for (std::size_t i = 0; i < marks_.size();) {
    PendingMark& mark = marks_[i];
    if (mark.state != MarkState::kWaiting || mark.target_position > position) {
      ++i;
      continue;
    }
    if (gap_.is_open()) {
      fail_mark(i, Error(ErrorKind::kBusy, "mark '" + mark.name +
                                               "': the stream lacks writes until the copy has finished, so that the "
                                               "point could not be recovered; try again then"));
      continue;
    }
    if (const std::optional<MarkInfo> info = mark.description()) {
      mark.seq = writer_.add_mark(*info, mark.requested_ns);
      mark.state = MarkState::kSent;
      flush_ = true;
    }
    ++i;
  }
}

void Replicator::run_marks() {
  for (std::size_t i = 0; i < marks_.size();) {
    const PendingMark& mark = marks_[i];
    if (now_ns_ < mark.deadline_ns) {
      if (mark.state == MarkState::kWaiting && gate_ == Gate::kClosed) {
        fail_mark(i, Error(ErrorKind::kBusy, "mark '" + mark.name + "': " +
                                                 std::string(state_text(state_.state, state_.direction)) +
                                                 ": nothing is sent; try again when replication runs"));
      } else {
        ++i;
      }
      continue;
    }
    const char* sent = mark.state == MarkState::kSent ? "; it may still become a point" : "";
    fail_mark(i, Error(ErrorKind::kTimeout, "mark '" + mark.name + "': not acknowledged in time" + sent));
  }
  if (streaming()) place_marks(tracker_.cursor());
}

void Replicator::fail_mark(std::size_t index, Error error) {
  PendingMark failed = std::move(marks_[index]);
  marks_.erase(marks_.begin() + static_cast<std::ptrdiff_t>(index));
  failed.done(std::move(error));
}

}  // namespace understudy
