// SPDX-License-Identifier: Apache-2.0
// Digest scans in the stream: when they run, where their questions stand, and what their findings lead to.
#include <utility>

#include "daemon/base/text.h"
#include "daemon/replicate/replicator.h"

namespace understudy {

void Replicator::request_digest_scan(DigestPurpose purpose, DigestDone done) {
  const auto refuse = [&](ErrorKind kind, const std::string& why) {
    done(Error(kind, std::string(digest_purpose_name(purpose)) + ": " + why));
  };
  if (!streaming()) return refuse(ErrorKind::kClosed, "no session with the receiver; try again when it is connected");
  if (!digests_.possible()) return refuse(ErrorKind::kRefused, "the receiver cannot compare digests; update it");
  if (stopping_) return refuse(ErrorKind::kClosed, "the agent is stopping");
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

// A gap in which everything counts as changed until it is compared.
void Replicator::start_repair() {
  repair_wanted_ = false;
  // First the figure, then the map: what is lost from here on opens a gap of its own.
  const Losses losses = tracker_.losses();
  for (const TrackedDisk& disk : tracker_.disks()) tracker_.dirty().mark(disk.slot, 0, disk.size_bytes);
  gap_.open(GapReason::kRequested, losses.total);
  insert_gap(GapReason::kRequested);
  digests_.begin_clearing(DigestPurpose::kRepair);
}

void Replicator::run_digests() {
  if (repair_wanted_ && streaming() && drained_ && !gap_.is_open()) start_repair();
  DigestRunner::Situation situation;
  situation.now_ns = now_ns_;
  situation.copies_settled = copier_.settled();
  situation.whole = streaming() && !gap_.is_open() && heal_seq_ == 0 && !stopping_;
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
  if (progress.undecided_bytes > 0) text += ", " + format_bytes(progress.undecided_bytes) + " undecided";
  if (progress.given_up) text += "; too much differs for comparing to pay, the rest is copied unseen";
  tell(ReplicatorEvent::Kind::kDigestScan, ReplicatorEvent::Severity::kInfo, text);
  if (repair && progress.different_bytes > 0) {
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

// Differences that nothing lost explains: an alarm. They are copied anew in a gap, so that points are right again.
void Replicator::report_findings(std::vector<DigestFinding> findings) {
  if (findings.empty()) return;
  const Losses losses = tracker_.losses();
  // Something was lost since: it may explain them, and what it dirtied is copied anyway. The next round looks again.
  if (gap_.is_open() || losses.total != gap_.accounted_losses()) return;
  for (const DigestFinding& finding : findings) {
    std::string path = std::to_string(finding.disk);
    for (const TrackedDisk& disk : tracker_.disks()) {
      if (disk.slot == finding.disk) path = disk.path;
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
    tracker_.dirty().mark(finding.disk, finding.offset_bytes, finding.length_bytes);
  }
  gap_.open(GapReason::kRequested, losses.total);
  insert_gap(GapReason::kRequested);
}

}  // namespace understudy
