// SPDX-License-Identifier: Apache-2.0
// The heart of the agent: makes the stream out of captured events and copies, and keeps it going over every way a
// session can begin and end. It drives interfaces only (Tracker, DiskReader, Link, Clock): no thread, no socket and no
// clock of its own, so the simulator runs this very code.
//
// One step:  link events -> disk sizes -> captured events -> copies -> HEAL -> marks -> close the batch
//
// Captured events go before copies, but not always: while copies are under way they have a share of the payload that is
// guaranteed (copy_share_percent), or a host that writes faster than the link takes would never be copied. What the
// ring cannot hold because of it overflows into the dirty map and is copied again. A chunk can only be emitted when the
// stream has reached the ring's head as of its read (copier.h), so with a full ring the share is also bounded by copy
// buffers : ring. Nothing is given to the link while more than the window waits in it; events then stay in the ring.
// Ring space is released, and granules are finished, by acknowledgements only.
//
// Honest points (I2, I6): a batch is sent only if, after its last event was captured, no run of the first capture
// program was known to be skipped. Otherwise the whole batch is taken back and a new generation begins.
//
// What is done at all is decided by the state machine of replication_state.h. Its gate: open = all of the above;
// draining = what was captured before a stop is sent, no copies; closed = nothing is sent, capture goes on by itself.
//
// Threads: one thread uses it.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/replicate/acknowledgement.h"
#include "daemon/replicate/copier.h"
#include "daemon/replicate/digest_runner.h"
#include "daemon/replicate/disk_reader.h"
#include "daemon/replicate/gap_tracker.h"
#include "daemon/replicate/left_out.h"
#include "daemon/replicate/link.h"
#include "daemon/replicate/phase.h"
#include "daemon/replicate/replication_state.h"
#include "daemon/replicate/rpo_meter.h"
#include "daemon/replicate/session.h"
#include "daemon/replicate/status.h"
#include "daemon/replicate/stream_writer.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

struct CompareRequest;  // digest/compare_notice.h

struct ReplicatorOptions {
  Uuid server;
  std::uint64_t epoch = 1;
  Uuid boot_id;                                   // of this machine, for the feedback guard; nil = unknown
  std::vector<DiskGeometry> disks;                // one per tracked disk
  StreamWriterOptions stream;                     // server and epoch are taken from above
  CopierOptions copier;
  std::uint64_t link_window_bytes = 64u << 20;    // payload that may wait in the link
  std::uint64_t copy_window_bytes = 8u << 20;     // the same, for copies beyond their share to be added
  std::uint32_t copy_share_percent = 25;          // of the payload, for copies that are ready; 0 to 99
  // Events that have waited longer than this are not sent one by one any more; 0 = all are (replicator_backlog.cc).
  std::uint64_t collapse_after_ns = 0;
  std::uint32_t events_per_step_max = 8192;       // so that acknowledgements are seen in between
  DigestOptions digest;
  std::uint64_t size_check_ns = 3'000'000'000;    // how often the sizes of the disks are looked at
  std::uint64_t survey_wait_ns = 0;               // how long a full copy waits for leave_out(); 0 = it is not asked for
  ReplicationState state;                         // what the last process kept, and the policy
};

// Something an operator should read once. The caller logs it.
struct ReplicatorEvent {
  enum class Kind : std::uint8_t {
    kLinkUp, kLinkDown, kLinkRefused, kLinkNotice, kCopyStarted, kCopyFinished, kGapOpened, kGapHealed,
    kCaptureUnprovable, kDiskChanged, kDiskReadFailed, kRefused, kInternal, kState, kError, kDigestScan,
    kDigestDifference,
  };
  enum class Severity : std::uint8_t { kInfo, kWarning, kError };
  Kind kind = Kind::kInternal;
  Severity severity = Severity::kInfo;
  std::string text;
  ErrorReason reason = ErrorReason::kNone;  // of kError
};

enum class ReplicationCommand : std::uint8_t { kStop, kRestart, kRepair };

// What step() wants next.
struct StepResult {
  enum class Wait : std::uint8_t {
    kNot,     // call again at once
    kEvents,  // sleep until the tracker has an event, or as below
    kTimer,   // sleep until the link or a read has something, or until the time given; events can wait
  };
  Wait wait = Wait::kNot;
  std::uint64_t until_ns = 0;  // boot clock
};

class Replicator {
 public:
  using MarkDone = std::function<void(Result<Seq>)>;
  // What a mark says; nullopt = not known yet. Called on the replicator's thread, often; must not block.
  using MarkDescription = std::function<std::optional<MarkInfo>()>;
  using DigestDone = std::function<void(Result<DigestProgress>)>;

  // All must outlive the replicator. Batches given to the link point into the tracker's ring and the reader's buffers:
  // the link goes first, then these.
  // `digest_reader`: for digest scans; null = there are none.
  Replicator(const ReplicatorOptions& options, Tracker& tracker, DiskReader& reader, Link& link, const Clock& clock,
             DiskReader* digest_reader = nullptr);
  ~Replicator();
  Replicator(const Replicator&) = delete;
  Replicator& operator=(const Replicator&) = delete;

  // Does everything that can be done now; bounded, so that it can be called in turn with other work.
  StepResult step();

  // A MARK behind everything captured so far. `done` is called from a later step(): the seq once it is durable, or an
  // error: kBusy while the stream lacks writes (such a point could not be recovered), kTimeout after `deadline_ns`
  // (boot clock), kClosed when the replicator ends before.
  void request_mark(const MarkInfo& mark, std::uint64_t deadline_ns, MarkDone done);
  // The same, but only the place of the mark is fixed by this call; the stream waits there until `description` gives
  // what the mark says, or until `deadline_ns`. `name` stands in errors.
  void request_mark_described_later(std::string name, MarkDescription description, std::uint64_t deadline_ns,
                                    MarkDone done);

  // Compares the disks with the replica by digests (digest_runner.h). kRepair: in a gap of its own, and what differs is
  // copied; kScrub: waits for the end of the scrub's round. `done` is called from a later step() with what was found,
  // or an error: kRefused when the receiver cannot compare, kBusy while a copy is under way anyway, kClosed when
  // session or replicator end before (the gap of a repair stays open, and the next session goes on with it).
  void request_digest_scan(DigestPurpose purpose, DigestDone done);
  DigestRunner& digests() { return digests_; }

  // Stop, restart or repair replication (replication_state.h). kRefused where it is not legal now, or where the cause
  // of an error still holds, with the reason; else it has begun, or there was nothing to do. A repair in real time is a
  // digest scan and changes no state.
  Status command(ReplicationCommand command);
  void set_auto_resume(bool on);
  const ReplicationState& replication_state() const { return state_; }

  // For the end of the process. No more copying; what is captured up to now is sent at once.
  void request_stop();
  // After request_stop(): nothing that was captured before it waits for an acknowledgement, or no session is left.
  bool stop_complete() const;

  // A full copy began: the number of a survey of the disks, to be made from scratch now and answered by leave_out().
  // From then on no earlier proof counts (digest_proofs.h): what the survey finds may differ.
  std::optional<std::uint64_t> take_survey_request();
  // Granules that the survey `request` found to be free (daemon/source): they are not copied, unless writes were lost
  // since it was asked for.
  void leave_out(std::uint64_t request, std::vector<GranuleRange> free) { left_out_.offer(request, std::move(free)); }

  void set_copy_limits(std::uint32_t chunks_max) { copier_.set_chunks_max(chunks_max); }

  ReplicationStatus status();
  Phase phase() const;
  std::optional<ReplicatorEvent> take_event();

 private:
  enum class Gate : std::uint8_t { kOpen, kDraining, kClosed };
  enum class MarkState : std::uint8_t { kWaiting, kSent };
  struct PendingMark {
    std::string name;
    MarkDescription description;
    std::uint64_t target_position = 0;
    std::uint64_t requested_ns = 0;
    std::uint64_t deadline_ns = 0;
    MarkDone done;
    MarkState state = MarkState::kWaiting;
    Seq seq = 0;
  };
  struct RateSample {
    std::uint64_t at_ns = 0;
    std::uint64_t raw_bytes = 0;
    std::uint64_t wire_bytes = 0;
    std::uint64_t ring_full_losses = 0;
    std::optional<std::uint64_t> written_bytes;  // by the host to all disks
  };

  // --- replicator.cc: sessions and time ---
  void poll_link();
  void on_link_up(const LinkUp& up);
  void begin_session(const LinkUp& up);
  void on_link_down(const Error& error);
  void on_link_refused(const Error& error);
  void on_ack(Seq seq);
  void apply_acknowledged(Seq seq);
  bool refuse_feedback(const LinkUp& up);
  void check_sizes(bool now);
  StepResult next_step(bool again);

  // --- replicator_gate.cc: what the state machine wants ---
  void feed(StateEventKind kind, ErrorReason reason = ErrorReason::kNone);
  void tell_state(const StateStep& step);
  void perform(StateAction action);
  void open_gate();
  void drain_gate();
  void close_gate();
  void watch_gate();
  void start_copier();
  void verify_all();
  void mark_all_dirty();

  // --- replicator_stream.cc: making the stream ---
  void continue_stream(const SessionPlan& plan, const StreamPosition& position);
  // A GAP at the end of what was sent; everything is dirty; the ring is skipped up to its head.
  Status start_stream_anew(Seq last_seq, std::uint64_t generation, GapReason reason, bool initial_copy_done,
                           std::uint64_t last_time_ns, bool send_geometry);
  bool capture_unprovable();
  void renew_generation(const std::string& why);
  bool pump_events();
  bool add_captured(const CaptureEvent& event);
  bool within_disk(const CaptureEvent& event) const;
  // False, here and below: the stream had to start anew in between.
  bool account_when_drained();
  bool insert_gap(GapReason reason);
  void earn_copy_credit(const CaptureEvent& event);
  bool copy_owed() const;
  void run_copies();
  bool emit(const CopyChunk& chunk);
  void try_heal();
  bool send_batch();
  void update_window();
  bool streaming() const { return session_ && errors_.empty() && gate_ != Gate::kClosed; }

  // --- replicator_backlog.cc: seconds that the policy gives up ---
  bool backlog_is_old(const CaptureEvent& event) const;
  bool collapse_backlog(std::uint64_t oldest_ns);

  // --- replicator_marks.cc: named points ---
  void run_marks();
  // Adds the marks that belong behind what was captured up to ring position `position`.
  void place_marks(std::uint64_t position);
  // Whether one of them is not described yet, so that nothing later may be added.
  bool mark_holds(std::uint64_t position) const;
  void fail_mark(std::size_t index, Error error);

  // --- replicator_digest.cc ---
  void run_digests();
  void interrupt_digests();
  void suspend_digests();
  void start_repair();
  Status repair_in_realtime();
  void begin_comparison();
  void compare_dirty(DigestPurpose purpose);
  void note_left_out();
  void end_scans(const Error& error);
  void report_finished(const DigestProgress& progress);
  void report_findings(std::vector<DigestFinding> findings);
  void compare_lost(const CompareRequest& lost, const std::string& text);

  // --- replicator_status.cc: what is shown ---
  void begin_progress();
  void refresh_progress();
  RateSample sample_rates();
  void show_rates(ReplicationStatus& status);
  std::optional<std::uint64_t> copy_left_ns(const ReplicationStatus& status) const;
  void show_digests(ReplicationStatus& status);
  CopyScope scope() const;
  std::uint64_t oldest_event_ns() const;
  void look_for_unsent_event();
  void raise(ErrorReason reason, ReplicatorEvent::Kind kind, const std::string& text);
  void clear(ErrorReason reason);
  void tell(ReplicatorEvent::Kind kind, ReplicatorEvent::Severity severity, std::string text,
            ErrorReason reason = ErrorReason::kNone);
  void tell_read_failure(const DiskReadFailure& failure);
  void note_phase(PhaseEventKind kind);

  ReplicatorOptions options_;
  Tracker& tracker_;
  DiskReader& reader_;
  Link& link_;
  const Clock& clock_;

  GapTracker gap_;
  StreamWriter writer_;
  Copier copier_;
  LeftOut left_out_;
  DigestRunner digests_;
  std::vector<std::pair<DigestPurpose, DigestDone>> scans_;  // that somebody waits for
  bool repair_wanted_ = false;
  bool repair_interrupted_ = false;    // by the end of a session; the next one goes on with it
  bool gap_repairs_ = false;           // everything is compared in this gap: what is free may be left out again
  std::optional<std::uint64_t> repair_losses_;  // at its beginning, when nothing else explains a difference
  std::uint64_t findings_total_ = 0;   // bytes that a scrub found different
  std::string last_finding_;
  std::uint64_t scrub_round_wall_ns_ = 0;  // when the last whole round ended
  std::uint64_t proved_bytes_ = 0;     // within kProvedWindowNs, as of proved_at_ns_
  std::uint64_t provable_bytes_ = 0;
  std::uint64_t proved_at_ns_ = 0;
  Acknowledgement acknowledgement_;
  RpoMeter rpo_;
  PhaseState phase_;
  ReplicationState state_;
  std::map<ErrorReason, std::string> errors_;
  std::deque<ReplicatorEvent> events_;
  std::deque<PendingMark> marks_;

  std::uint64_t now_ns_ = 0;            // boot clock at the beginning of the step
  bool session_ = false;
  Gate gate_ = Gate::kClosed;
  std::uint64_t hold_position_ = 0;     // draining ends here
  std::optional<LinkUp> waiting_up_;    // a session that the closed gate does not begin
  std::optional<std::uint64_t> catch_up_position_;  // of the ring, at the beginning of the session
  bool gap_partial_ = false;            // the GAP is for new parts of the disks; what else there is stays
  bool in_gap_ = false;                 // the stream has a GAP without HEAL
  bool drained_ = false;                // the last look at the ring found its end
  bool dirty_looked_at_ = false;        // in this session
  bool geometry_unsent_ = false;        // a GEOMETRY record stands in the open batch
  bool mark_held_ = false;              // events wait for a mark to be described
  bool flush_ = false;                  // close the open batch in this step
  bool window_open_ = true;
  bool copy_window_open_ = true;
  std::uint64_t copy_credit_bytes_ = 0;  // payload that copies may add before further events
  bool stopping_ = false;
  std::uint64_t stop_position_ = 0;
  Seq stop_seq_ = 0;                    // last one for what was captured before the stop; 0 = not reached yet
  std::uint64_t unprovable_seen_ = 0;
  Seq sent_seq_ = 0;
  Seq acknowledged_seq_ = 0;
  Seq heal_seq_ = 0;                    // sent and not acknowledged; 0 = none
  std::uint64_t sizes_checked_ns_ = 0;
  std::uint64_t unsent_event_ns_ = 0;   // oldest event in the ring while nothing is sent; 0 = none seen

  std::string receiver_name_;
  std::string notice_;
  std::string last_error_;
  std::string link_error_told_;
  std::uint64_t copy_total_bytes_ = 0;
  std::uint64_t copy_remaining_bytes_ = 0;
  std::uint64_t copy_began_ns_ = 0;
  std::uint64_t progress_at_ns_ = 0;
  std::uint64_t gap_since_ns_ = 0;      // boot clock
  std::uint64_t gap_since_wall_ns_ = 0;
  std::deque<RateSample> rate_;
};

}  // namespace understudy
