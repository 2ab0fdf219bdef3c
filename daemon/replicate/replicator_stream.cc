// SPDX-License-Identifier: Apache-2.0
// How the stream is made: events, copies, GAP and HEAL. Sessions are in replicator.cc.
#include <algorithm>
#include <utility>

#include "daemon/replicate/replicator.h"

namespace understudy {
namespace {

// What one step takes from the ring at most, beside events_per_step_max.
constexpr std::uint64_t kEventBytesPerStepMax = 16u << 20;
constexpr std::uint32_t kChunksPerStepMax = 64;
// What an event costs beside its payload, for the copies' share: a flood of flushes must not starve them either.
constexpr std::uint64_t kEventCostBytes = 64;
// How often a still moment of the loss figures is looked for.
constexpr int kStillAttemptsMax = 1000;

}  // namespace

void Replicator::continue_stream(const SessionPlan& plan, const StreamPosition& position) {
  tracker_.release(position.cursor.position);
  writer_.resume(position.seq, position.generation, position.cursor, position.last_time_ns);
  const bool was_open = gap_.is_open() && gap_since_ns_ != 0;
  gap_.resume(position);
  if (gap_.is_open() && !was_open) {
    gap_since_ns_ = now_ns_;
    gap_since_wall_ns_ = position.last_time_ns;
  }
  geometry_unsent_ = plan.send_geometry;
  if (geometry_unsent_) writer_.add_geometry(options_.disks);
  if (!plan.new_parts.empty()) {
    // Only these are copied, but no point may hold a disk of which something is not there: a GAP of the whole server.
    for (const SessionPlan::NewPart& part : plan.new_parts) {
      for (const TrackedDisk& disk : tracker_.disks()) {
        if (disk.slot != part.disk || disk.size_bytes <= part.from_bytes) continue;
        tracker_.dirty().mark(disk.slot, part.from_bytes, disk.size_bytes - part.from_bytes);
      }
    }
    gap_partial_ = !gap_.is_open();
    gap_.open(GapReason::kNewCapture, gap_.accounted_losses());
    insert_gap(GapReason::kNewCapture);
  } else if (gap_.is_open()) {
    in_gap_ = true;
    start_copier();
    begin_comparison();
  }
}

Status Replicator::start_stream_anew(Seq last_seq, std::uint64_t generation, GapReason reason, bool initial_copy_done,
                                     std::uint64_t last_time_ns, bool send_geometry) {
  copier_.abort();
  left_out_.start_anew();
  // Events captured so far are skipped: all disks are read anyway, and in the first full copy an old event must not
  // win over a newer base. Losses are read on both sides of head() so that none hides between the two.
  Losses losses = tracker_.losses();
  std::uint64_t head = tracker_.head();
  for (int i = 0; i < kStillAttemptsMax; ++i) {
    const Losses after = tracker_.losses();
    if (after.total == losses.total) break;
    losses = after;
    head = tracker_.head();
  }
  RETURN_IF_ERROR(tracker_.seek(head));
  mark_all_dirty();
  digests_.proofs().begin_full_copy();
  in_gap_ = false;
  gap_partial_ = gap_repairs_ = false;
  repair_losses_.reset();
  writer_.resume(last_seq, generation, {tracker_.capture_id(), head, losses.total}, last_time_ns);
  gap_.start_anew(reason, losses.total, initial_copy_done, generation);
  geometry_unsent_ = send_geometry;
  if (geometry_unsent_) writer_.add_geometry(options_.disks);
  insert_gap(reason);  // never of a kind that needs a batch to be sent before
  digests_.abort();
  begin_comparison();
  return ok_status();
}

bool Replicator::capture_unprovable() { return tracker_.losses().unprovable > unprovable_seen_; }

// In the middle of a session: what was sent was captured before the last look at the figure and stays; the open batch
// is taken back.
void Replicator::renew_generation(const std::string& why) {
  tell(ReplicatorEvent::Kind::kCaptureUnprovable, ReplicatorEvent::Severity::kWarning,
       why + ": completeness cannot be proved, everything is copied again");
  writer_.drop_open_batch();
  for (PendingMark& mark : marks_) {
    if (mark.state == MarkState::kSent && mark.seq > sent_seq_) mark.state = MarkState::kWaiting;
  }
  if (heal_seq_ > sent_seq_) heal_seq_ = 0;
  acknowledgement_.forget_copies();
  copier_.abort();
  digests_.abort();
  Status status = tracker_.renew_capture_id();
  if (status.ok()) {
    unprovable_seen_ = tracker_.losses().unprovable;
    tracker_.dirty().unclaim_all();
    status = start_stream_anew(writer_.last_seq(), writer_.generation() + 1, GapReason::kNewCapture,
                               gap_.initial_copy_done(), writer_.last_time_ns(), geometry_unsent_);
  }
  if (!status.ok()) raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
}

// True when there may be more to do at once.
bool Replicator::pump_events() {
  drained_ = false;
  mark_held_ = false;
  std::uint64_t bytes = 0;
  for (std::uint32_t i = 0; i < options_.events_per_step_max && bytes < kEventBytesPerStepMax; ++i) {
    if (!window_open_) return false;
    if (copy_owed()) return true;
    if (gate_ == Gate::kDraining && tracker_.cursor() >= hold_position_) return false;
    const std::uint64_t before = tracker_.cursor();
    mark_held_ = mark_holds(before);
    if (mark_held_) return false;
    const auto event = tracker_.next();
    if (!event) {
      drained_ = true;
      return !account_when_drained();
    }
    if (backlog_is_old(*event)) {
      if (Status status = tracker_.seek(before); !status.ok()) {
        raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
        return false;
      }
      if (collapse_backlog(event->boot_time_ns)) return true;
      if (!streaming() || tracker_.cursor() != before) return true;
      (void)tracker_.next();  // nothing could be passed over: it is sent like any other
    }
    if (!within_disk(*event)) {
      if (Status status = tracker_.seek(before); !status.ok()) {
        raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
      }
      check_sizes(true);
      if (errors_.empty()) {
        raise(ErrorReason::kDiskChanged, ReplicatorEvent::Kind::kDiskChanged,
              "disk in slot " + std::to_string(event->disk) + ": a write at offset " +
                  std::to_string(event->offset_bytes) + " was captured that lies behind its end");
      }
      return false;
    }
    mark_held_ = mark_holds(event->position - 1);  // the mark stood between records that were passed over
    if (mark_held_) {
      if (Status status = tracker_.seek(before); !status.ok()) {
        raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
      }
      return false;
    }
    if (!add_captured(*event)) return true;
    earn_copy_credit(*event);
    bytes += event->length_bytes;
  }
  return true;
}

bool Replicator::within_disk(const CaptureEvent& event) const {
  for (const TrackedDisk& disk : tracker_.disks()) {
    if (disk.slot != event.disk) continue;
    return event.length_bytes <= disk.size_bytes && event.offset_bytes <= disk.size_bytes - event.length_bytes;
  }
  return false;
}

// False when the stream had to start anew; the event is then left behind.
bool Replicator::add_captured(const CaptureEvent& event) {
  if (!writer_.fits(event.data.size()) && !send_batch()) return false;
  const auto reason = gap_.before_event(event.loss_count);
  if (reason && !insert_gap(*reason)) return false;
  writer_.set_loss_count(gap_.accounted_losses());
  place_marks(event.position - 1);
  writer_.add_event(event);
  copier_.note_event(event);
  digests_.note_event(event);
  return true;
}

bool Replicator::account_when_drained() {
  const Losses losses = tracker_.losses();
  if (const auto reason = gap_.drained(losses.total); reason && !insert_gap(*reason)) return false;
  if (writer_.cursor().loss_count != gap_.accounted_losses()) writer_.set_loss_count(gap_.accounted_losses());
  if (dirty_looked_at_) return true;
  // A disk was added, and the agent was killed before the GAP was durable: something is dirty that no loss explains.
  // Read it, inside a gap of its own.
  dirty_looked_at_ = true;
  if (gap_.is_open()) return true;
  for (const TrackedDisk& disk : tracker_.disks()) {
    if (tracker_.dirty().dirty_count(disk.slot) == 0) continue;
    // It may be equal all the same: compared first. A repair whose gap never became durable goes on as one.
    const bool repair = std::exchange(repair_interrupted_, false);
    const GapReason reason = repair ? GapReason::kRequested : GapReason::kOverflow;
    gap_.open(reason, losses.total);
    const bool inserted = insert_gap(reason);
    if (inserted) compare_dirty(repair ? DigestPurpose::kRepair : DigestPurpose::kAfterCrash);
    return inserted;
  }
  return true;
}

// The gap tracker has opened a gap (or changed its reason): says so in the stream and starts copying.
bool Replicator::insert_gap(GapReason reason) {
  if (reason == GapReason::kOverflow && !gap_.initial_copy_done() && writer_.generation() == kFirstGeneration) {
    // No copy goes to the base any more: the next generation says so, for good (gap_tracker.h).
    if (!writer_.empty() && !send_batch()) return false;
    writer_.set_generation(kFirstGeneration + 1);
  }
  writer_.set_loss_count(gap_.accounted_losses());
  const Seq seq = writer_.add_gap(reason);
  heal_seq_ = 0;
  if (in_gap_) {  // a second GAP inside a gap
    feed(StateEventKind::kGapOpened);
    return true;
  }
  in_gap_ = true;
  gap_since_ns_ = now_ns_;
  gap_since_wall_ns_ = writer_.last_time_ns();
  const Losses losses = tracker_.losses();
  if (reason != GapReason::kInitialCopy) {
    tell(ReplicatorEvent::Kind::kGapOpened, ReplicatorEvent::Severity::kWarning,
         "gap from seq " + std::to_string(seq) + " on: " + std::string(gap_reason_name(reason)) + "; writes lost " +
             std::to_string(losses.total) + " (ring full " + std::to_string(losses.ring_full) + ", skipped " +
             std::to_string(losses.skipped) + ", unreadable " + std::to_string(losses.unreadable) + ", too long " +
             std::to_string(losses.too_long) + ", untracked " + std::to_string(losses.untracked) +
             "); what they changed is copied");
  }
  note_phase(PhaseEventKind::kGapOpened);
  start_copier();
  feed(StateEventKind::kGapOpened);
  return true;
}

void Replicator::run_copies() {
  const auto superseded = [this](const GranuleRange& range) { acknowledgement_.copy_superseded(range); };
  const bool others_rest = copier_.chunks_in_use() == 0 && !digests_.claims();
  const std::uint64_t left_out_bytes = gate_ == Gate::kOpen ? left_out_.work(now_ns_, others_rest, superseded) : 0;
  if (left_out_bytes > 0) {
    note_left_out();
    copy_total_bytes_ -= std::min(copy_total_bytes_, left_out_bytes);
    progress_at_ns_ = 0;
  }
  const bool may_claim = gap_.is_open() && !stopping_ && gate_ == Gate::kOpen && !left_out_.holds_copy(now_ns_) &&
                         !digests_.clearing();
  const Status status = copier_.work(now_ns_, may_claim, superseded);
  if (!status.ok()) last_error_ = status.error().message();
  for (std::uint32_t i = 0; i < kChunksPerStepMax && (copy_window_open_ || (window_open_ && copy_owed())); ++i) {
    const auto chunk = copier_.take_ready(tracker_.cursor());
    if (!chunk) return;
    if (!emit(*chunk)) return;
    for (const CopyFragment& fragment : chunk->fragments) {
      copy_credit_bytes_ -= std::min<std::uint64_t>(copy_credit_bytes_, fragment.data.size() + kEventCostBytes);
    }
  }
}

// Credit that found no copy ready is kept up to a bound only, so that a later burst of copies cannot hold events up.
void Replicator::earn_copy_credit(const CaptureEvent& event) {
  if (!copier_.active()) return;
  const std::uint64_t share = std::min(options_.copy_share_percent, 99u);
  copy_credit_bytes_ += (event.data.size() + kEventCostBytes) * share / (100 - share);
  copy_credit_bytes_ =
      std::min(copy_credit_bytes_, std::max(options_.copy_window_bytes, options_.copier.chunk_bytes_max));
}

bool Replicator::copy_owed() const {
  return copier_.active() && copy_credit_bytes_ >= options_.copier.chunk_bytes_max &&
         copier_.has_ready(tracker_.cursor());
}

bool Replicator::emit(const CopyChunk& chunk) {
  // Lost since the last look: these copies may not go to the base any more.
  if (const auto reason = gap_.drained(tracker_.losses().total); reason && !insert_gap(*reason)) return false;
  writer_.set_loss_count(gap_.accounted_losses());
  const bool initial = gap_.copies_are_initial();
  for (const CopyFragment& fragment : chunk.fragments) {
    if (!writer_.fits(fragment.data.size()) && !send_batch()) return false;
    if (fragment.zeros) {
      writer_.add_zero_copy(fragment.disk, fragment.offset_bytes, fragment.length_bytes, initial, chunk.read_ns);
    } else {
      writer_.add_copy(fragment.disk, fragment.offset_bytes, fragment.data, initial, chunk.read_ns, chunk.keepalive);
    }
  }
  if (writer_.last_seq() <= acknowledged_seq_) {
    tracker_.dirty().finish(chunk.range);  // nothing of it was left to copy, and what overwrote it is durable
  } else {
    acknowledgement_.copy_emitted(writer_.last_seq(), chunk.range);
  }
  if (writer_.due(clock_.boot_ns()) && !send_batch()) return false;
  return true;
}

// HEAL: nothing is dirty, nothing lost is in flight, nothing is under way, and no loss happened that the stream does
// not say. Every event that a copy may have seen is already in the stream. A write that is lost from now on is
// submitted after all the reads, and moves the loss count before any later event. The copies are durable and their
// granules finished: an agent that is killed behind the HEAL leaves nothing that looks dirty to the next one.
void Replicator::try_heal() {
  if (!gap_.is_open() || stopping_ || gate_ != Gate::kOpen || left_out_.holds_heal() || digests_.clearing()) return;
  if (!copier_.pass_found_nothing()) return;
  if (acknowledgement_.pending_copies() > 0) return;
  if (tracker_.losses().total != gap_.accounted_losses()) return;
  const auto clean = copier_.verify_clean(now_ns_);
  if (!clean.ok()) {
    last_error_ = clean.error().message();
    return;
  }
  if (!*clean || tracker_.losses().total != gap_.accounted_losses()) return;
  heal_seq_ = writer_.add_heal();
  gap_.heal();
  in_gap_ = gap_partial_ = gap_repairs_ = false;
  copier_.abort();
  left_out_.reset();
  flush_ = true;
}

bool Replicator::send_batch() {
  if (capture_unprovable()) {
    renew_generation("the kernel skipped capture programs");
    return false;
  }
  ClosedBatch closed = writer_.close();
  acknowledgement_.batch_sent(closed.last_seq, closed.cursor.position, closed.oldest_event_ns);
  sent_seq_ = closed.last_seq;
  geometry_unsent_ = false;
  link_.send(std::move(closed.batch));
  update_window();
  return true;
}

void Replicator::update_window() {
  const std::uint64_t queued_bytes = link_.statistics().queued_bytes;
  window_open_ = queued_bytes < options_.link_window_bytes;
  copy_window_open_ = queued_bytes < options_.copy_window_bytes;
}

}  // namespace understudy
