// SPDX-License-Identifier: Apache-2.0
// The replicator's side of the state machine (replication_state.h): its facts as events, its actions as a gate.
#include <utility>

#include "daemon/replicate/replicator.h"

namespace understudy {

void Replicator::feed(StateEventKind kind, ErrorReason reason) {
  StateStep step = replication_step(state_, {kind, scope(), reason});
  tell_state(step);
  state_ = step.state;
  for (const StateAction action : step.actions) perform(action);
}

void Replicator::tell_state(const StateStep& step) {
  for (const ReplicationStateName name : step.passed) {
    if (name == ReplicationStateName::kError) {
      const ErrorReasonEntry& entry = error_reason_entry(step.state.reason);
      tell(ReplicatorEvent::Kind::kError, ReplicatorEvent::Severity::kError,
           std::string(state_text(name, step.state.direction)) + ", " + std::string(entry.name) + ": " +
               std::string(entry.text) + "; " + std::string(entry.advice),
           step.state.reason);
    } else {
      tell(ReplicatorEvent::Kind::kState, ReplicatorEvent::Severity::kInfo,
           "replication is now " + std::string(state_text(name, step.state.direction)));
    }
  }
}

void Replicator::perform(StateAction action) {
  switch (action) {
    case StateAction::kRun: open_gate(); break;
    case StateAction::kHold: drain_gate(); break;
    case StateAction::kCut: close_gate(); break;
    case StateAction::kVerify: verify_all(); break;
  }
}

void Replicator::open_gate() {
  if (std::exchange(gate_, Gate::kOpen) == Gate::kOpen) return;
  if (waiting_up_) {
    begin_session(LinkUp(*waiting_up_));  // a copy: it resets the member
  } else if (session_) {
    // Nothing that was acknowledged is copied again, and the ring goes on where it was; what it could not hold
    // meanwhile shows in the loss figures, as always.
    catch_up_position_ = tracker_.head();
    if (gap_.is_open()) start_copier();
    begin_comparison();
    feed(StateEventKind::kSession);
  }
}

// What was read and is not in the stream yet is read again after a restart: its place in the stream would be behind
// events that are not sent before.
void Replicator::drain_gate() {
  if (gate_ != Gate::kOpen) return;
  gate_ = Gate::kDraining;
  hold_position_ = tracker_.head();
  copier_.give_up();
  left_out_.give_up();
  suspend_digests();
  flush_ = true;
}

void Replicator::close_gate() {
  gate_ = Gate::kClosed;
  copier_.give_up();
  left_out_.give_up();
  suspend_digests();
}

void Replicator::watch_gate() {
  if (gate_ == Gate::kDraining && session_ && tracker_.cursor() >= hold_position_) {
    if (writer_.empty() && acknowledged_seq_ >= sent_seq_) {
      close_gate();
      feed(StateEventKind::kHeld);
    } else {
      flush_ = true;
    }
  }
  if (streaming() && catch_up_position_ && !in_gap_ && heal_seq_ == 0 && tracker_.cursor() >= *catch_up_position_ &&
      writer_.empty() && acknowledgement_.pending_batches() == 0) {
    catch_up_position_.reset();
    feed(StateEventKind::kCaughtUp);
  }
}

void Replicator::start_copier() {
  begin_progress();
  if (gate_ != Gate::kOpen || copier_.active()) return;
  copier_.begin();
  left_out_.give_up();
  if (scope() == CopyScope::kAll || gap_repairs_) left_out_.begin(now_ns_);
}

void Replicator::mark_all_dirty() {
  for (const TrackedDisk& disk : tracker_.disks()) tracker_.dirty().mark(disk.slot, 0, disk.size_bytes);
}

// Repair, inside a gap of its own: everything is compared and what differs is copied; with a receiver that cannot
// compare, everything is copied.
void Replicator::verify_all() {
  if (!streaming()) return;
  repair_losses_.reset();
  if (!gap_.is_open() && tracker_.losses().total == gap_.accounted_losses()) repair_losses_ = gap_.accounted_losses();
  gap_repairs_ = true;
  // In this order: a granule that is dirty before the GAP stands in the stream cannot be missed by its HEAL.
  mark_all_dirty();
  gap_.open(GapReason::kRequested, gap_.accounted_losses());
  if (!insert_gap(GapReason::kRequested)) return;
  flush_ = true;
  begin_comparison();
  feed(StateEventKind::kVerifyBegun);
}

Status Replicator::command(ReplicationCommand command) {
  static constexpr StateEventKind kKinds[] = {StateEventKind::kStop, StateEventKind::kRestart,
                                              StateEventKind::kRepair};
  now_ns_ = clock_.boot_ns();
  if (command == ReplicationCommand::kRepair && state_.state == ReplicationStateName::kRealtime) {
    return repair_in_realtime();
  }
  const StateEventKind kind = kKinds[static_cast<std::size_t>(command)];
  const StateStep step = replication_step(state_, {kind, scope(), ErrorReason::kNone});
  if (!step.refused.empty()) return Error(ErrorKind::kRefused, step.refused);
  if (command == ReplicationCommand::kRepair && state_.state == ReplicationStateName::kError &&
      state_.reason == ErrorReason::kReceiverAhead) {
    // An operator says that the receiver's stream is to be continued all the same: as that of a new capture.
    if (session_) {
      renew_generation("an operator asked for a repair of a receiver that is ahead");
    } else {
      RETURN_IF_ERROR(tracker_.renew_capture_id());
      unprovable_seen_ = tracker_.losses().unprovable;
    }
    clear(ErrorReason::kReceiverAhead);
  }
  feed(kind);
  if (state_.state != ReplicationStateName::kError) return ok_status();
  const ErrorReasonEntry& entry = error_reason_entry(state_.reason);
  return Error(ErrorKind::kRefused, "the cause of the error is still there: " + std::string(entry.text) + "; " +
                                        std::string(entry.advice));
}

void Replicator::set_auto_resume(bool on) {
  state_.auto_resume = on;
  if (errors_.empty()) feed(StateEventKind::kErrorsCleared);
}

}  // namespace understudy
