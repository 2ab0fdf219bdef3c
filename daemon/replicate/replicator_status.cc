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
  return gap_.initial_copy_done() && (gap_.reason() == GapReason::kOverflow || gap_.reason() == GapReason::kRequested)
             ? CopyScope::kDirty : CopyScope::kAll;
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
    raise(ErrorSource::kTracker, ReplicatorEvent::Kind::kInternal, status.error().message());
  }
}

void Replicator::raise(ErrorSource source, ReplicatorEvent::Kind kind, const std::string& text) {
  last_error_ = text;
  if (const auto known = errors_.find(source); known != errors_.end() && known->second == text) return;
  errors_[source] = text;
  note_phase(PhaseEventKind::kErrorRaised);
  tell(kind, ReplicatorEvent::Severity::kError, text);
}

void Replicator::clear(ErrorSource source) {
  if (errors_.erase(source) > 0 && errors_.empty()) note_phase(PhaseEventKind::kErrorsCleared);
}

void Replicator::tell(ReplicatorEvent::Kind kind, ReplicatorEvent::Severity severity, std::string text) {
  if (events_.size() < kEventsMax) events_.push_back({kind, severity, std::move(text)});
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
    proved_bytes_ = digests_.proofs().proved_bytes(wall_ns - std::min(wall_ns, kProvedWindowNs));
  }
  status.proved_bytes = proved_bytes_;
  status.proved_window_ns = kProvedWindowNs;
  status.scrub_round_wall_ns = scrub_round_wall_ns_;
  status.findings_bytes = findings_total_;
  status.last_finding = last_finding_;
}

ReplicationStatus Replicator::status() {
  now_ns_ = clock_.boot_ns();
  rpo_.advance(now_ns_, oldest_event_ns());
  ReplicationStatus status;
  status.phase = phase_.phase;
  status.disks = tracker_.disks().size();
  for (const TrackedDisk& disk : tracker_.disks()) status.protected_bytes += disk.size_bytes;
  status.link_up = session_;
  status.receiver_name = receiver_name_;
  status.notice = notice_;
  for (const auto& [source, text] : errors_) status.errors.push_back(text);
  status.last_error = last_error_;

  if (copier_.active()) refresh_progress();
  status.copy_total_bytes = copy_total_bytes_;
  status.copy_done_bytes = copy_total_bytes_ - std::min(copy_total_bytes_, copy_remaining_bytes_);
  status.unreadable_bytes = copier_.unreadable_bytes();

  const std::uint64_t oldest_ns = oldest_event_ns();
  std::uint64_t age_ns = oldest_ns != 0 && now_ns_ > oldest_ns ? now_ns_ - oldest_ns : 0;
  const bool lacking = gap_.is_open() || heal_seq_ != 0;
  if (lacking && gap_since_ns_ != 0) age_ns = std::max(age_ns, now_ns_ - gap_since_ns_);
  if (gap_.initial_copy_done()) status.rpo_now_ns = age_ns;
  status.rpo_p50_ns = rpo_.percentile_ns(0.50);
  status.rpo_p99_ns = rpo_.percentile_ns(0.99);

  // What the tracker skips by itself (its self-test, disks no longer protected) is released with the next event only.
  const bool all_acknowledged = session_ && writer_.empty() && acknowledgement_.pending_batches() == 0;
  status.backlog_bytes = tracker_.head() - (all_acknowledged ? tracker_.cursor() : tracker_.tail());
  status.ring_bytes = tracker_.ring_bytes();
  const LinkStatistics link = link_.statistics();
  status.raw_bytes_sent = link.raw_bytes_sent;
  status.wire_bytes_sent = link.wire_bytes_sent;
  if (rate_.empty() || now_ns_ - rate_.back().at_ns >= kRateSampleNs) {
    rate_.push_back({now_ns_, link.raw_bytes_sent, link.wire_bytes_sent});
    if (rate_.size() > kRateSamplesMax) rate_.pop_front();
  }
  const RateSample& first = rate_.front();
  if (now_ns_ > first.at_ns) {
    const double seconds = static_cast<double>(now_ns_ - first.at_ns) / 1e9;
    const auto per_second = [seconds](std::uint64_t bytes) {
      return static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds);
    };
    status.raw_bytes_per_second = per_second(link.raw_bytes_sent - first.raw_bytes);
    status.wire_bytes_per_second = per_second(link.wire_bytes_sent - first.wire_bytes);
  }

  show_digests(status);

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
