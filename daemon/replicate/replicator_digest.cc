// SPDX-License-Identifier: Apache-2.0
// Digest scans in the stream: when they run, where their questions stand, and what their findings lead to.
#include <memory>
#include <utility>

#include "daemon/base/text.h"
#include "daemon/digest/compare_notice.h"
#include "daemon/replicate/replicator.h"

namespace understudy {

void Replicator::request_digest_scan(DigestPurpose purpose, DigestDone done) {
  const auto refuse = [&](ErrorKind kind, const std::string& why) {
    done(Error(kind, std::string(digest_purpose_name(purpose)) + ": " + why));
  };
  if (!streaming()) return refuse(ErrorKind::kClosed, "no session with the receiver; try again when it is connected");
  if (!digests_.possible()) return refuse(ErrorKind::kRefused, "the receiver cannot compare digests; update it");
  if (stopping_) return refuse(ErrorKind::kClosed, "the agent is stopping");
  if (gate_ != Gate::kOpen) return refuse(ErrorKind::kClosed, "replication is being stopped; restart it first");
  if (purpose == DigestPurpose::kScrub && !digests_.options().scrub_enabled) {
    return refuse(ErrorKind::kRefused, "the scrub is switched off; set scrub.enabled to true");
  }
  if (purpose == DigestPurpose::kAfterCrash) return refuse(ErrorKind::kRefused, "begins by itself");
  if (purpose == DigestPurpose::kRepair) {
    if (gap_.is_open() || repair_wanted_) {
      return refuse(ErrorKind::kBusy, "a copy is under way; what it copies is right afterwards, try again then");
    }
    repair_wanted_ = true;
  }
  scans_.emplace_back(purpose, std::move(done));
}

void Replicator::end_scans(const Error& error) {
  repair_wanted_ = false;
  for (auto& [purpose, done] : std::exchange(scans_, {})) done(error);
}

// Asked for while all is well, so nothing but the disks' and the replica's own bytes is to be doubted: what differs is
// expected to be little. What is free is left out again; what was free once is not forgiven now.
void Replicator::start_repair() {
  repair_wanted_ = false;
  // First the figure, then the map: what is lost from here on opens a gap of its own.
  const Losses losses = tracker_.losses();
  repair_losses_.reset();
  if (losses.total == gap_.accounted_losses()) repair_losses_ = losses.total;
  mark_all_dirty();
  gap_partial_ = gap_repairs_ = true;
  gap_.open(GapReason::kRequested, losses.total);
  if (insert_gap(GapReason::kRequested)) compare_dirty(DigestPurpose::kRepair);
}

Status Replicator::repair_in_realtime() {
  auto refused = std::make_shared<Status>(ok_status());
  request_digest_scan(DigestPurpose::kRepair, [refused](const Result<DigestProgress>& result) {
    if (!result.ok()) *refused = Status(result.error());
  });
  return *refused;
}

// Where nobody knows what differs, comparing comes before copying; a comparison that was interrupted goes on.
void Replicator::begin_comparison() {
  if (!gap_.is_open() || gap_.copies_are_initial()) return;
  const GapReason reason = gap_.reason();
  if (reason == GapReason::kRequested) compare_dirty(DigestPurpose::kRepair);
  if (reason == GapReason::kNewCapture || reason == GapReason::kReceiverBehind) {
    compare_dirty(DigestPurpose::kAfterCrash);
  }
}

// Anew if one is under way: what it has claimed may have become dirty since. The closed gate begins none; open_gate()
// does.
void Replicator::compare_dirty(DigestPurpose purpose) {
  if (gate_ != Gate::kOpen) return;
  digests_.give_up();
  digests_.begin_clearing(purpose);
}

void Replicator::interrupt_digests() {
  if (digests_.clearing() && digests_.progress().purpose == DigestPurpose::kRepair) repair_interrupted_ = true;
  digests_.session_down();
  end_scans(Error(ErrorKind::kClosed, "digest scan: the session with the receiver ended"));
}

// The gate closes: claims go back, the gap stays open, and open_gate() goes on with what is still dirty.
void Replicator::suspend_digests() {
  if (digests_.clearing() && digests_.progress().purpose == DigestPurpose::kRepair) repair_interrupted_ = true;
  digests_.give_up();
  end_scans(Error(ErrorKind::kClosed, "digest scan: replication was stopped before it ended"));
}

std::optional<std::uint64_t> Replicator::take_survey_request() {
  const auto request = left_out_.take_request();
  if (request) digests_.proofs().forget_all();
  return request;
}

void Replicator::note_left_out() {
  for (const GranuleRange& range : left_out_.take_left_out()) {
    for (const TrackedDisk& disk : tracker_.disks()) {
      if (disk.slot != range.disk) continue;
      const std::uint64_t granule = disk.granule_bytes;
      digests_.proofs().note_left_out(range.disk, range.first * granule, range.count * granule);
    }
  }
}

void Replicator::run_digests() {
  if (repair_wanted_ && streaming() && gate_ == Gate::kOpen && drained_ && !gap_.is_open()) {
    start_repair();
  }
  DigestRunner::Situation situation;
  situation.now_ns = now_ns_;
  situation.copies_settled = copier_.settled();
  situation.copier_active = copier_.active();
  // A chunk that was read before a loss must not be acknowledged for a granule that is claimed here after it.
  situation.may_claim = gate_ == Gate::kOpen && !stopping_ && copier_.chunks_in_use() == 0 &&
                        !left_out_.holds_copy(now_ns_);
  situation.whole = streaming() && gate_ == Gate::kOpen && !gap_.is_open() && heal_seq_ == 0 && !stopping_;
  const Status status = digests_.work(situation, [this](const GranuleRange& range) {
    acknowledgement_.copy_superseded(range);
  });
  if (!status.ok()) last_error_ = status.error().message();
  if (!streaming()) return;
  // A question is about exactly what was sent: the open batch goes first, and nothing is added before the question.
  if (digests_.question_due(tracker_.cursor())) {
    if (!writer_.empty() && !send_batch()) return;
    while (const auto question = digests_.take_question(tracker_.cursor(), sent_seq_, clock_.wall_ns())) {
      link_.ask_digest(*question);
    }
  }
  report_findings(digests_.take_findings());
  if (const auto finished = digests_.take_finished()) report_finished(*finished);
}

void Replicator::report_finished(const DigestProgress& progress) {
  const bool repair = progress.purpose == DigestPurpose::kRepair;
  if (repair) repair_interrupted_ = false;
  if (progress.purpose == DigestPurpose::kScrub) scrub_round_wall_ns_ = clock_.wall_ns();
  std::string text = std::string(digest_purpose_name(progress.purpose)) + ": compared " +
                     format_bytes(progress.equal_bytes + progress.different_bytes) + ", " +
                     format_bytes_exact(progress.different_bytes) + " differ";
  if (progress.left_out_bytes > 0) {
    text += ", " + format_bytes(progress.left_out_bytes) + " differ as free space that was not copied may";
  }
  if (progress.undecided_bytes > 0) text += ", " + format_bytes(progress.undecided_bytes) + " undecided";
  if (progress.given_up) text += "; too much differs for comparing to pay, the rest is copied unseen";
  tell(ReplicatorEvent::Kind::kDigestScan, ReplicatorEvent::Severity::kInfo, text);
  // A write that was lost since it began explains a difference.
  const bool explained = !repair_losses_ || *repair_losses_ != tracker_.losses().total;
  if (repair) repair_losses_.reset();
  if (repair && progress.different_bytes > 0 && !explained) {
    tell(ReplicatorEvent::Kind::kDigestDifference, ReplicatorEvent::Severity::kWarning,
         "repair: " + format_bytes_exact(progress.different_bytes) +
             " of the replica were not what the disks hold; points before this repair may be wrong there");
  }
  for (std::size_t i = 0; i < scans_.size();) {
    if (scans_[i].first != progress.purpose) {
      ++i;
      continue;
    }
    DigestDone done = std::move(scans_[i].second);
    scans_.erase(scans_.begin() + static_cast<std::ptrdiff_t>(i));
    done(progress);
  }
}

// The receiver can't read what it has: the scrub finds out what differs, and has it copied.
void Replicator::compare_lost(const CompareRequest& lost, const std::string& text) {
  digests_.compare_soon(lost.disk, lost.offset_bytes, lost.length_bytes);
  const bool possible = digests_.possible() && digests_.options().scrub_enabled;
  tell(ReplicatorEvent::Kind::kLinkNotice, ReplicatorEvent::Severity::kWarning,
       "receiver '" + receiver_name_ + "': " + text +
           (possible ? "; comparing it now" : "; the scrub is switched off here, 'understudyctl repair' mends it"));
}

// Differences that nothing lost explains: an alarm. They are copied anew in a gap, so that points are right again.
void Replicator::report_findings(std::vector<DigestFinding> findings) {
  if (findings.empty()) return;
  const Losses losses = tracker_.losses();
  // Something was lost since: it may explain them, and what it dirtied is copied anyway. The next round looks again.
  if (gate_ != Gate::kOpen || gap_.is_open() || losses.total != gap_.accounted_losses()) return;
  for (const DigestFinding& finding : findings) {
    std::string path = std::to_string(finding.disk);
    for (const TrackedDisk& disk : tracker_.disks()) {
      if (disk.slot == finding.disk) path = disk.path;
    }
    tracker_.dirty().mark(finding.disk, finding.offset_bytes, finding.length_bytes);
    if (finding.may_be_left_out) {
      tell(ReplicatorEvent::Kind::kDigestScan, ReplicatorEvent::Severity::kInfo,
           "disk '" + path + "': " + format_bytes_exact(finding.length_bytes) + " at offset " +
               std::to_string(finding.offset_bytes) +
               " were never proved equal and differ, as free space that was not copied may; copied now");
      continue;
    }
    findings_total_ += finding.length_bytes;
    digests_.proofs().forget(finding.disk, finding.offset_bytes, finding.length_bytes);
    last_finding_ = "disk '" + path + "': " + format_bytes_exact(finding.length_bytes) + " at offset " +
                    std::to_string(finding.offset_bytes) +
                    " are not what the replica holds, and no lost write explains it; points since " +
                    (finding.proved_wall_ns == 0 ? "the first copy" : format_time_local(finding.proved_wall_ns)) +
                    " may be wrong there; copied anew from seq " + std::to_string(writer_.last_seq() + 1) + " on";
    last_error_ = last_finding_;
    tell(ReplicatorEvent::Kind::kDigestDifference, ReplicatorEvent::Severity::kError, last_finding_);
  }
  gap_partial_ = true;  // only these are copied
  gap_.open(GapReason::kRequested, losses.total);
  insert_gap(GapReason::kRequested);
}

}  // namespace understudy
