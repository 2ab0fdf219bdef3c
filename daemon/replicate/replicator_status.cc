// SPDX-License-Identifier: Apache-2.0
// What the replicator shows of itself.
#include <algorithm>
#include <utility>

#include "daemon/base/text.h"
#include "daemon/replicate/replicator.h"

namespace understudy {
namespace {

constexpr std::uint64_t kRateSampleNs = 1'000'000'000;
constexpr std::size_t kRateSamplesMax = 6;
constexpr std::uint64_t kProgressNs = 1'000'000'000;  // counting granules reads the whole dirty map
constexpr std::uint64_t kProvedWindowNs = 24ull * 3600 * 1'000'000'000;
constexpr std::size_t kEventsMax = 256;               // waiting to be logged; further ones are dropped

}  // namespace

CopyScope Replicator::scope() const {
  if (!gap_.is_open() && heal_seq_ == 0) return CopyScope::kNone;
  const bool partial = gap_.reason() == GapReason::kOverflow || gap_.reason() == GapReason::kCollapsed || gap_partial_;
  return gap_.initial_copy_done() && partial ? CopyScope::kDirty : CopyScope::kAll;
}

void Replicator::note_phase(PhaseEventKind kind) { phase_ = phase_step(phase_, {kind, scope()}); }

void Replicator::begin_progress() {
  copy_began_ns_ = now_ns_;
  progress_at_ns_ = 0;
  copy_total_bytes_ = 0;
  refresh_progress();
  if (scope() == CopyScope::kAll) {
    copy_total_bytes_ = 0;
    for (const TrackedDisk& disk : tracker_.disks()) copy_total_bytes_ += disk.size_bytes;
    copy_total_bytes_ -= std::min(copy_total_bytes_, left_out_.bytes());
  }
  tell(ReplicatorEvent::Kind::kCopyStarted, ReplicatorEvent::Severity::kInfo,
       (scope() == CopyScope::kAll ? "full copy: " : "resync: ") + format_bytes(copy_remaining_bytes_) + " of " +
           format_bytes(copy_total_bytes_) + " to read");
}

void Replicator::refresh_progress() {
  if (progress_at_ns_ != 0 && now_ns_ - progress_at_ns_ < kProgressNs) return;
  progress_at_ns_ = std::max<std::uint64_t>(now_ns_, 1);
  copy_remaining_bytes_ = 0;
  for (const TrackedDisk& disk : tracker_.disks()) {
    const std::uint64_t bytes = tracker_.dirty().pending_count(disk.slot) * disk.granule_bytes;
    copy_remaining_bytes_ += std::min(bytes, disk.size_bytes);
  }
  copy_total_bytes_ = std::max(copy_total_bytes_, copy_remaining_bytes_);
}

// By the pace since the copy began.
std::optional<std::uint64_t> Replicator::copy_left_ns(const ReplicationStatus& status) const {
  if (!copier_.active() || status.copy_done_bytes == 0 || now_ns_ <= copy_began_ns_) return std::nullopt;
  const double pace = static_cast<double>(now_ns_ - copy_began_ns_) / static_cast<double>(status.copy_done_bytes);
  return static_cast<std::uint64_t>(pace * static_cast<double>(status.copy_total_bytes - status.copy_done_bytes));
}

std::uint64_t Replicator::oldest_event_ns() const {
  if (!session_) return unsent_event_ns_;
  const std::uint64_t sent = acknowledgement_.oldest_event_ns();
  if (sent != 0) return sent;
  const std::uint64_t open = writer_.oldest_event_ns();
  return open != 0 ? open : unsent_event_ns_;
}

// While nothing is read from the ring, its first event still grows old.
void Replicator::look_for_unsent_event() {
  if (unsent_event_ns_ != 0) return;
  const std::uint64_t cursor = tracker_.cursor();
  const auto event = tracker_.next();
  if (!event) return;
  unsent_event_ns_ = event->boot_time_ns;
  if (Status status = tracker_.seek(cursor); !status.ok()) {
    raise(ErrorReason::kCaptureFailed, ReplicatorEvent::Kind::kInternal, status.error().message());
  }
}

void Replicator::raise(ErrorReason reason, ReplicatorEvent::Kind kind, const std::string& text) {
  last_error_ = text;
  if (const auto known = errors_.find(reason); known != errors_.end() && known->second == text) return;
  errors_[reason] = text;
  note_phase(PhaseEventKind::kErrorRaised);
  tell(kind, ReplicatorEvent::Severity::kError, text);
  feed(StateEventKind::kErrorRaised, reason);
}

void Replicator::clear(ErrorReason reason) {
  if (errors_.erase(reason) == 0) return;
  if (!errors_.empty()) {  // another one holds
    feed(StateEventKind::kErrorRaised, errors_.begin()->first);
    return;
  }
  note_phase(PhaseEventKind::kErrorsCleared);
  feed(StateEventKind::kErrorsCleared);
}

Phase Replicator::phase() const {
  if (state_is_stopped(state_.state)) return Phase::kStopped;
  if (state_.state == ReplicationStateName::kError) return Phase::kError;
  return phase_.phase;
}

void Replicator::tell(ReplicatorEvent::Kind kind, ReplicatorEvent::Severity severity, std::string text,
                      ErrorReason reason) {
  if (events_.size() < kEventsMax) events_.push_back({kind, severity, std::move(text), reason});
}

void Replicator::tell_read_failure(const DiskReadFailure& failure) {
  std::string path = std::to_string(failure.disk);
  for (const TrackedDisk& disk : tracker_.disks()) {
    if (disk.slot == failure.disk) path = disk.path;
  }
  const std::string what = "read disk '" + path + "' at offset " + std::to_string(failure.offset_bytes) + ", " +
                           std::to_string(failure.length_bytes) + " bytes";
  last_error_ = (failure.error_number != 0 ? Error::from_errno(failure.error_number, what).message()
                                           : what + ": the device ended before") +
                ", retrying in " + format_duration_ns(options_.copier.bad_retry_ns);
  tell(ReplicatorEvent::Kind::kDiskReadFailed, ReplicatorEvent::Severity::kError, last_error_);
}

std::optional<ReplicatorEvent> Replicator::take_event() {
  if (events_.empty()) return std::nullopt;
  ReplicatorEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Replicator::show_digests(ReplicationStatus& status) {
  status.digest_possible = digests_.possible();
  status.digest_active = digests_.active();
  status.digest = digests_.progress();
  status.digest_wire_bytes = digests_.wire_bytes();
  status.scrub_enabled = digests_.options().scrub_enabled;
  if (proved_at_ns_ == 0 || now_ns_ - proved_at_ns_ >= kProgressNs) {
    proved_at_ns_ = std::max<std::uint64_t>(now_ns_, 1);
    const std::uint64_t wall_ns = clock_.wall_ns();
    provable_bytes_ = digests_.proofs().provable_bytes();
    proved_bytes_ = digests_.proofs().proved_bytes(wall_ns - std::min(wall_ns, kProvedWindowNs));
  }
  status.proved_bytes = proved_bytes_;
  status.provable_bytes = provable_bytes_;
  status.scrub_period_ns = digests_.options().scrub_period_ns;
  status.scrub_bytes_per_second = digests_.options().scrub_bytes_per_second;
  status.proved_window_ns = kProvedWindowNs;
  status.scrub_round_wall_ns = scrub_round_wall_ns_;
  status.findings_bytes = findings_total_;
  status.last_finding = last_finding_;
}

Replicator::RateSample Replicator::sample_rates() {
  const LinkStatistics link = link_.statistics();
  RateSample sample{now_ns_, link.raw_bytes_sent, link.wire_bytes_sent, tracker_.losses().ring_full, 0};
  for (const TrackedDisk& disk : tracker_.disks()) {
    const auto written = reader_.written_bytes(disk.slot);
    if (written && sample.written_bytes) *sample.written_bytes += *written;
    if (!written) sample.written_bytes.reset();
  }
  return sample;
}

void Replicator::show_rates(ReplicationStatus& status) {
  const RateSample now = sample_rates();
  status.link = link_.statistics();
  status.raw_bytes_sent = now.raw_bytes;
  status.wire_bytes_sent = now.wire_bytes;
  if (rate_.empty() || now_ns_ - rate_.back().at_ns >= kRateSampleNs) {
    rate_.push_back(now);
    if (rate_.size() > kRateSamplesMax) rate_.pop_front();
  }
  const RateSample& first = rate_.front();
  if (now_ns_ <= first.at_ns) return;
  const double seconds = static_cast<double>(now_ns_ - first.at_ns) / 1e9;
  const auto per_second = [seconds](std::uint64_t bytes) {
    return static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds);
  };
  status.raw_bytes_per_second = per_second(now.raw_bytes - first.raw_bytes);
  status.wire_bytes_per_second = per_second(now.wire_bytes - first.wire_bytes);
  if (first.written_bytes && now.written_bytes && *now.written_bytes >= *first.written_bytes) {
    status.host_bytes_per_second = per_second(*now.written_bytes - *first.written_bytes);
  }
  // Samples are of this session only (on_link_up): what overflowed in an outage does not count.
  status.overloaded = session_ && now.ring_full_losses > first.ring_full_losses;
}

ReplicationStatus Replicator::status() {
  now_ns_ = clock_.boot_ns();
  rpo_.advance(now_ns_, oldest_event_ns());
  ReplicationStatus status;
  status.phase = phase();
  status.state = state_;
  status.disks = tracker_.disks().size();
  for (const TrackedDisk& disk : tracker_.disks()) status.protected_bytes += disk.size_bytes;
  status.link_up = session_ || waiting_up_.has_value();
  status.receiver_name = receiver_name_;
  status.notice = notice_;
  for (const auto& [reason, text] : errors_) status.errors.push_back(text);
  if (status.errors.empty() && state_.state == ReplicationStateName::kError) {
    status.errors.emplace_back(error_reason_entry(state_.reason).text);
  }
  status.last_error = last_error_;

  if (copier_.active()) refresh_progress();
  status.copy_total_bytes = copy_total_bytes_;
  status.copy_done_bytes = copy_total_bytes_ - std::min(copy_total_bytes_, copy_remaining_bytes_);
  status.copy_left_out_bytes = left_out_.bytes();
  status.copy_left_ns = copy_left_ns(status);
  status.unreadable_bytes = copier_.unreadable_bytes();

  const std::uint64_t oldest_ns = oldest_event_ns();
  std::uint64_t age_ns = oldest_ns != 0 && now_ns_ > oldest_ns ? now_ns_ - oldest_ns : 0;
  const bool lacking = gap_.is_open() || heal_seq_ != 0;
  using RpoCounts = ReplicationStatus::RpoCounts;
  status.rpo_counts = age_ns != 0 ? RpoCounts::kOldestWrite : RpoCounts::kNothing;
  if (lacking && gap_since_ns_ != 0 && now_ns_ - gap_since_ns_ >= age_ns) {
    age_ns = now_ns_ - gap_since_ns_;
    status.rpo_counts = RpoCounts::kGap;
  }
  bool copied = gap_.initial_copy_done();
  if (!session_ && waiting_up_) {  // stopped, and this process has never had a session
    const StreamPosition& position = waiting_up_->position;
    copied = position.initial_copy_done;
    const std::uint64_t wall_ns = clock_.wall_ns();
    if (position.gap_open && wall_ns > position.last_time_ns && wall_ns - position.last_time_ns >= age_ns) {
      age_ns = wall_ns - position.last_time_ns;
      status.rpo_counts = RpoCounts::kGap;
    }
  }
  if (copied) status.rpo_now_ns = age_ns;
  status.rpo_p50_ns = rpo_.percentile_ns(0.50);
  status.rpo_p99_ns = rpo_.percentile_ns(0.99);

  // What the tracker skips by itself (its self-test, disks no longer protected) is released with the next event only.
  const bool all_acknowledged = session_ && writer_.empty() && acknowledgement_.pending_batches() == 0;
  status.backlog_bytes = tracker_.head() - (all_acknowledged ? tracker_.cursor() : tracker_.tail());
  status.ring_bytes = tracker_.ring_bytes();
  show_digests(status);
  show_rates(status);
  status.losses = tracker_.losses();
  status.gap_open = gap_.is_open();
  status.gap_reason = gap_.reason();
  status.gap_since_wall_ns = gap_.is_open() ? gap_since_wall_ns_ : 0;
  status.capture_id = tracker_.capture_id();
  status.epoch = options_.epoch;
  status.generation = writer_.generation();
  status.last_seq = sent_seq_;
  status.acknowledged_seq = acknowledged_seq_;
  return status;
}

}  // namespace understudy
