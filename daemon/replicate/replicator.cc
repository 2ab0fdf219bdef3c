// SPDX-License-Identifier: Apache-2.0
// Sessions and time. The stream itself is made in replicator_stream.cc.
#include "daemon/replicate/replicator.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <utility>

#include "daemon/base/text.h"
#include "daemon/digest/compare_notice.h"

namespace understudy {
namespace {

// How long a step may sleep when nothing is expected: bounds the age of the status figures.
constexpr std::uint64_t kIdleNs = 1'000'000'000;
// ... while copies are under way, or the link's window is full.
constexpr std::uint64_t kBusyNs = 2'000'000;

StreamWriterOptions stream_options(const ReplicatorOptions& options) {
  StreamWriterOptions stream = options.stream;
  stream.server = options.server;
  stream.epoch = options.epoch;
  return stream;
}

}  // namespace

Replicator::Replicator(const ReplicatorOptions& options, Tracker& tracker, DiskReader& reader, Link& link,
                       const Clock& clock, DiskReader* digest_reader)
    : options_(options),
      tracker_(tracker),
      reader_(reader),
      link_(link),
      clock_(clock),
      writer_(stream_options(options), clock),
      copier_(tracker, reader, options.copier),
      left_out_(tracker, options.survey_wait_ns),
      digests_(tracker, digest_reader, options.disks, options.digest) {
  CHECK_EQ(options_.disks.size(), tracker_.disks().size());
  std::sort(options_.disks.begin(), options_.disks.end(),
            [](const DiskGeometry& a, const DiskGeometry& b) { return a.disk < b.disk; });
  // What an earlier agent left: nobody reads for it any more.
  tracker_.dirty().unclaim_all();
  (void)tracker_.set_copy_mode(false);
  note_phase(PhaseEventKind::kAttached);
  state_ = options_.state;
  feed(StateEventKind::kStart);
}

Replicator::~Replicator() {
  end_scans(Error(ErrorKind::kClosed, "digest scan: the agent stopped before it ended"));
  for (PendingMark& mark : marks_) {
    mark.done(Error(ErrorKind::kClosed, "mark '" + mark.name + "': the agent stopped before it was acknowledged"));
  }
}

StepResult Replicator::step() {
  now_ns_ = clock_.boot_ns();
  rpo_.advance(now_ns_, oldest_event_ns());
  poll_link();
  check_sizes(false);
  update_window();
  bool again = false;
  if (streaming()) {
    unsent_event_ns_ = 0;
    if (capture_unprovable()) renew_generation("the kernel skipped capture programs");
    again = pump_events();
    if (streaming()) run_copies();
    if (streaming()) run_digests();
    if (streaming()) try_heal();
  } else {
    (void)copier_.work(now_ns_, false, [](const GranuleRange&) {});  // frees the buffers of reads that end now
    run_digests();
    look_for_unsent_event();
  }
  watch_gate();
  run_marks();
  if (session_ && !writer_.empty() && (flush_ || stopping_ || writer_.due(now_ns_))) send_batch();
  flush_ = false;
  watch_gate();
  if (stopping_ && stop_seq_ == 0 && tracker_.cursor() >= stop_position_) stop_seq_ = writer_.last_seq();
  while (auto failure = copier_.take_failure()) tell_read_failure(*failure);
  return next_step(again);
}

StepResult Replicator::next_step(bool again) {
  if (again && streaming()) return {StepResult::Wait::kNot, now_ns_};
  StepResult result{StepResult::Wait::kEvents, now_ns_ + kIdleNs};
  const auto no_later_than = [&result](std::uint64_t ns) { result.until_ns = std::min(result.until_ns, ns); };
  no_later_than(std::max(now_ns_, sizes_checked_ns_ + options_.size_check_ns));
  for (const PendingMark& mark : marks_) no_later_than(mark.deadline_ns);
  if (const auto at = copier_.wake_at_ns(); at && streaming()) no_later_than(std::max(*at, now_ns_ + kBusyNs));
  if (const auto at = left_out_.wake_at_ns(now_ns_); at && streaming()) no_later_than(*at);
  if (copier_.active() && copier_.chunks_in_use() > 0) no_later_than(now_ns_ + kBusyNs);
  if (const auto at = digests_.wake_at_ns(); at && streaming()) no_later_than(std::max(*at, now_ns_ + kBusyNs));
  if (digests_.reading()) no_later_than(now_ns_ + kBusyNs);
  if (session_ && !writer_.empty()) {
    // A batch is open: let it fill until it is due, without a wake-up for each event.
    no_later_than(writer_.due_at_ns());
    result.wait = StepResult::Wait::kTimer;
  }
  if (!streaming()) result.wait = StepResult::Wait::kTimer;
  if (mark_held_ && streaming()) {
    no_later_than(now_ns_ + kBusyNs);
    result.wait = StepResult::Wait::kTimer;
  }
  if (!window_open_) {
    no_later_than(now_ns_ + kBusyNs);
    result.wait = StepResult::Wait::kTimer;
  }
  return result;
}

void Replicator::poll_link() {
  while (auto event = link_.poll()) {
    if (const auto* up = std::get_if<LinkUp>(&*event)) {
      on_link_up(*up);
    } else if (const auto* ack = std::get_if<LinkAck>(&*event)) {
      on_ack(ack->seq);
    } else if (const auto* answer = std::get_if<LinkDigestAnswer>(&*event)) {
      if (!session_) continue;
      if (const auto question = digests_.take_answer(answer->answer)) link_.ask_digest(*question);
    } else if (const auto* down = std::get_if<LinkDown>(&*event)) {
      on_link_down(down->error);
    } else if (const auto* refused = std::get_if<LinkRefused>(&*event)) {
      on_link_refused(refused->error);
    } else if (const auto* notice = std::get_if<LinkNotice>(&*event)) {
      if (const auto lost = parse_compare_notice(notice->code)) {
        compare_lost(*lost, notice->text);
        continue;
      }
      notice_ = notice->active ? notice->text : std::string();
      tell(ReplicatorEvent::Kind::kLinkNotice,
           notice->active ? ReplicatorEvent::Severity::kWarning : ReplicatorEvent::Severity::kInfo,
           "receiver '" + receiver_name_ + "': " + notice->text);
    }
  }
}

void Replicator::on_link_up(const LinkUp& up) {
  if (session_) on_link_down(Error(ErrorKind::kClosed, "a new session began"));
  clear(ErrorReason::kReceiverAhead);
  clear(ErrorReason::kReceiverRefused);
  clear(ErrorReason::kStoreOnProtectedDisk);
  clear(ErrorReason::kFenced);
  clear(ErrorReason::kCaptureFailed);
  receiver_name_ = up.receiver_name;
  link_error_told_.clear();
  if (refuse_feedback(up)) return;
  waiting_up_ = up;
  if (gate_ == Gate::kOpen) begin_session(up);
}

// The gate is open: makes the receiver's position the end of our stream, or refuses it.
void Replicator::begin_session(const LinkUp& up) {
  waiting_up_.reset();
  // A capture that is not provable any more gets its new identity first, so that the plan sees it.
  if (capture_unprovable()) {
    if (Status status = tracker_.renew_capture_id(); !status.ok()) {
      raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
      return;
    }
    unprovable_seen_ = tracker_.losses().unprovable;
    tell(ReplicatorEvent::Kind::kCaptureUnprovable, ReplicatorEvent::Severity::kWarning,
         "the kernel skipped capture programs: completeness cannot be proved, everything is copied again");
  }
  const SessionFacts facts{.epoch = options_.epoch,
                           .capture_id = tracker_.capture_id(),
                           .ring_tail = tracker_.tail(),
                           .ring_head = tracker_.head(),
                           .disks = options_.disks,
                           .acknowledged_seq = std::max(acknowledged_seq_, tracker_.acknowledged()),
                           .sent_seq = sent_seq_};
  SessionPlan plan = plan_session(facts, up.position);
  if (plan.start == SessionStart::kRefused) {
    waiting_up_ = up;
    raise(plan.refusal, ReplicatorEvent::Kind::kRefused, "receiver '" + up.receiver_name + "': " + plan.reason);
    return;
  }
  tell(ReplicatorEvent::Kind::kLinkUp, ReplicatorEvent::Severity::kInfo,
       "connected to receiver '" + up.receiver_name + "', which has seq " + std::to_string(up.position.seq) +
           (plan.reason.empty() ? std::string() : "; " + plan.reason));
  copier_.abort();
  digests_.session_up(up.digests);
  if (plan.start == SessionStart::kContinue) {
    if (tracker_.seek(up.position.cursor.position).ok()) {
      apply_acknowledged(up.position.seq);
    } else {
      // No event ends there: whatever that store is, it does not continue this ring.
      plan.start = SessionStart::kNewCapture;
      plan.gap_reason = GapReason::kNewCapture;
      ++plan.generation;
    }
  }
  for (PendingMark& mark : marks_) mark.state = MarkState::kWaiting;  // what arrived of them was acknowledged above
  acknowledgement_.clear();
  tracker_.dirty().unclaim_all();
  session_ = true;
  dirty_looked_at_ = false;
  drained_ = false;
  heal_seq_ = 0;
  if (plan.start == SessionStart::kContinue) {
    continue_stream(plan, up.position);
  } else if (Status status = start_stream_anew(up.position.seq, plan.generation, plan.gap_reason,
                                               up.position.initial_copy_done, up.position.last_time_ns,
                                               plan.send_geometry);
             !status.ok()) {
    raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
  }
  sent_seq_ = up.position.seq;
  acknowledged_seq_ = up.position.seq;
  // It may be less than before: everything is dirty then (start_stream_anew), which outlives us, too.
  tracker_.keep_acknowledged(acknowledged_seq_);
  rate_.clear();
  copy_credit_bytes_ = 0;
  note_phase(PhaseEventKind::kLinkUp);
  flush_ = true;
  catch_up_position_ = tracker_.head();
  feed(StateEventKind::kSession);
}

void Replicator::on_link_down(const Error& error) {
  const bool was_up = session_;
  session_ = false;
  waiting_up_.reset();
  catch_up_position_.reset();
  in_gap_ = false;  // the next session says it
  clear(ErrorReason::kReceiverRefused);
  clear(ErrorReason::kStoreOnProtectedDisk);
  clear(ErrorReason::kFenced);
  last_error_ = error.message();
  // Events stay in the ring, granules stay claimed until the next session says what arrived.
  writer_.drop_open_batch();
  copier_.abort();
  left_out_.reset();
  interrupt_digests();
  notice_.clear();
  unsent_event_ns_ = 0;
  if (Status status = tracker_.seek(tracker_.tail()); !status.ok()) {
    raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
  }
  note_phase(PhaseEventKind::kLinkDown);
  feed(StateEventKind::kLinkDown);
  // An idle host must settle at zero writes, and its log may lie on a protected disk: the same trouble is told once.
  if (was_up || error.message() != link_error_told_) {
    link_error_told_ = error.message();
    tell(ReplicatorEvent::Kind::kLinkDown, ReplicatorEvent::Severity::kWarning, error.message() + ", retrying");
  }
}

void Replicator::on_link_refused(const Error& error) {
  if (session_) on_link_down(error);
  last_error_ = error.message();
  raise(ErrorReason::kReceiverRefused, ReplicatorEvent::Kind::kLinkRefused, error.message());
}

void Replicator::on_ack(Seq seq) {
  if (!session_) return;
  if (seq > sent_seq_) {
    last_error_ = "receiver '" + receiver_name_ + "' acknowledged seq " + std::to_string(seq) + ", but only " +
                  std::to_string(sent_seq_) + " was sent";
    // Nothing it says can be believed: no ring space is given up, no granule finished on its word.
    raise(ErrorReason::kReceiverAhead, ReplicatorEvent::Kind::kRefused, last_error_);
    return;
  }
  apply_acknowledged(seq);
}

void Replicator::apply_acknowledged(Seq seq) {
  if (seq <= acknowledged_seq_) return;
  acknowledged_seq_ = seq;
  tracker_.keep_acknowledged(seq);  // before anything is given up on its word
  const Acknowledgement::Outcome& outcome = acknowledgement_.acknowledge(seq);
  if (outcome.release_position) tracker_.release(*outcome.release_position);
  for (const GranuleRange& range : outcome.finished) tracker_.dirty().finish(range);
  if (heal_seq_ != 0 && seq >= heal_seq_) {
    const Seq healed_at = std::exchange(heal_seq_, 0);
    copy_remaining_bytes_ = 0;
    note_phase(PhaseEventKind::kHealed);
    feed(StateEventKind::kHealed);
    rpo_.reset(now_ns_);
    const std::uint64_t duration_ns = now_ns_ - copy_began_ns_;
    tell(ReplicatorEvent::Kind::kCopyFinished, ReplicatorEvent::Severity::kInfo,
         "copied " + format_bytes(copy_total_bytes_) + " in " + format_duration_ns(duration_ns));
    tell(ReplicatorEvent::Kind::kGapHealed, ReplicatorEvent::Severity::kInfo,
         "the replica is whole from seq " + std::to_string(healed_at) + " on");
  }
  while (!marks_.empty() && marks_.front().state == MarkState::kSent && marks_.front().seq <= seq) {
    PendingMark mark = std::move(marks_.front());
    marks_.pop_front();
    mark.done(mark.seq);
  }
}

// A receiver whose store lies on a disk we protect would feed its own writes back to itself without end.
bool Replicator::refuse_feedback(const LinkUp& up) {
  if (options_.boot_id.is_nil() || up.receiver_boot_id != options_.boot_id) return false;
  for (const TrackedDisk& disk : tracker_.disks()) {
    // Both ways a dev_t is written: the kernel's own and that of stat(2). No whole disk has the same number in the
    // one as another has in the other: read the wrong way, the major number becomes 0.
    const std::uint64_t as_stat = makedev(disk.device >> 20, disk.device & 0xfffff);
    for (const std::uint64_t device : up.store_devices) {
      if (device != disk.device && device != as_stat) continue;
      raise(ErrorReason::kStoreOnProtectedDisk, ReplicatorEvent::Kind::kRefused,
            "receiver '" + up.receiver_name + "' runs on this machine and its store lies on the protected disk '" +
                disk.path + "': every byte it stores would have to be stored again; put the store on another disk");
      return true;
    }
  }
  return false;
}

void Replicator::check_sizes(bool now) {
  if (!now && sizes_checked_ns_ != 0 && now_ns_ - sizes_checked_ns_ < options_.size_check_ns) return;
  sizes_checked_ns_ = now_ns_;
  for (const TrackedDisk& disk : tracker_.disks()) {
    const auto size = reader_.size_bytes(disk.slot);
    if (size.ok() && *size == disk.size_bytes) continue;
    const ErrorReason reason = size.ok() ? ErrorReason::kDiskChanged : ErrorReason::kDiskGone;
    raise(reason, ReplicatorEvent::Kind::kDiskChanged,
          "disk '" + disk.path + "'" +
              (size.ok() ? " changed its size from " + format_bytes_exact(disk.size_bytes) + " to " +
                               format_bytes_exact(*size) +
                               ": nothing is sent until it is protected as it is now"
                         : ": " + size.error().message()));
    clear(size.ok() ? ErrorReason::kDiskGone : ErrorReason::kDiskChanged);
    return;
  }
  clear(ErrorReason::kDiskChanged);
  clear(ErrorReason::kDiskGone);
}

void Replicator::request_stop() {
  if (stopping_) return;
  stopping_ = true;
  stop_position_ = tracker_.head();
}

bool Replicator::stop_complete() const {
  if (!stopping_) return false;
  return !streaming() || (tracker_.cursor() >= stop_position_ && acknowledged_seq_ >= stop_seq_ && writer_.empty());
}

}  // namespace understudy
