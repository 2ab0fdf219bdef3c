// SPDX-License-Identifier: Apache-2.0
// A backlog that is older than the policy wants to keep second by second: what was captured in it is not sent, but goes
// to the dirty map inside a gap of its own, and is read from the disk once, however often it was written.
//
// Why nothing is lost: the extents are dirty before the GAP stands in the stream, and the ring keeps the events until
// the GAP is acknowledged. The copies begin anew behind it: they settle first, so that no write that was passed over is
// still in flight when the disk is read (copier.h), and none of them is expected in the stream. Without the GAP being
// durable the next session finds the events where they were, and a few granules dirty for nothing.
#include <algorithm>
#include <string>

#include "daemon/base/text.h"
#include "daemon/replicate/replicator.h"

namespace understudy {

// The first full copy is left alone: there is no point to keep yet, and its base must not hide what is passed over.
bool Replicator::backlog_is_old(const CaptureEvent& event) const {
  if (options_.collapse_after_ns == 0 || !gap_.initial_copy_done() || gate_ != Gate::kOpen || stopping_) return false;
  return now_ns_ > event.boot_time_ns && now_ns_ - event.boot_time_ns > options_.collapse_after_ns;
}

// From the cursor to the head as of now; `oldest_ns` is the capture time of the first event there. False = the stream
// had to start anew, or nothing could be passed over.
bool Replicator::collapse_backlog(std::uint64_t oldest_ns) {
  if (!writer_.empty() && !send_batch()) return false;
  const std::uint64_t losses_total = tracker_.losses().total;  // first: what was lost by now is dirty by now
  const std::uint64_t head = tracker_.head();
  std::uint64_t passed = tracker_.cursor();
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  while (passed < head) {
    const auto event = tracker_.next();
    if (!event || !within_disk(*event)) break;
    if (event->kind != CaptureKind::kBarrier) {
      tracker_.dirty().mark(event->disk, event->offset_bytes, event->length_bytes);
      bytes += event->length_bytes;
    }
    passed = event->position;
    ++events;
  }
  if (Status status = tracker_.seek(passed); !status.ok()) {
    raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
    return false;
  }
  if (events == 0) return false;
  copier_.abort();
  digests_.abort();  // it was not told of what is passed over here
  acknowledgement_.forget_copies();
  tracker_.dirty().unclaim_all();
  const std::uint64_t since_ns = gap_.is_open() ? std::min(gap_since_ns_, oldest_ns) : oldest_ns;
  const std::uint64_t since_wall_ns = gap_.is_open() ? gap_since_wall_ns_ : writer_.last_time_ns();
  in_gap_ = false;  // so that copying begins anew
  // An open gap keeps its reason: more is lacking than the backlog.
  const GapReason reason = gap_.is_open() ? gap_.reason() : GapReason::kCollapsed;
  gap_.open(reason, losses_total);
  writer_.set_cursor({tracker_.capture_id(), passed, gap_.accounted_losses()});
  tell(ReplicatorEvent::Kind::kGapOpened, ReplicatorEvent::Severity::kWarning,
       "the backlog is older than " + format_duration_ns(options_.collapse_after_ns) + ": " + std::to_string(events) +
           " writes of " + format_bytes(bytes) + " become a gap, and what they changed is copied once");
  if (!insert_gap(reason)) return false;
  gap_since_ns_ = since_ns;
  gap_since_wall_ns_ = since_wall_ns;
  flush_ = true;
  begin_comparison();
  return true;
}

}  // namespace understudy
