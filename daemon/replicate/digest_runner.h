// SPDX-License-Identifier: Apache-2.0
// Drives digest scans on the agent: reads regions of the disks, asks the receiver about them at the right stream
// position, and turns its answers into clean granules, proofs and findings. It is to DigestRegion what the Copier is to
// copies, and like it has no thread, no clock and no link; the Replicator calls it in every step.
//
// Two kinds of scan:
//
//   clearing  inside a gap, before the copies: what is dirty is claimed, read and compared; equal granules become
//             clean, the others dirty again, and the Copier sends them. After a crash (all is dirty) and for `repair`
//             (all is made dirty). The claim makes it safe against losses: a granule that was lost meanwhile stays
//             dirty. When most of it differs, comparing is given up and everything left is copied.
//   scrub     outside gaps, for ever, at a limited rate: proves, changes nothing. That disk and replica are equal needs
//             no copy mode to be true; that they differ might be a write in flight. So a difference is looked at once
//             more after a pause, with copy mode on and no write in flight over it, and only then reported: no known
//             loss explains it.
//
// What a full copy left out (left_out.h) was never made equal. The scrub looks at it, too, but a leaf (64 KiB) with any
// of it may differ, without end, until it is proved equal once: DigestProofs keeps which. So a flipped block in such a
// leaf is not noticed; nobody could say what belongs there.
//
// Reads go through a DiskReader of its own with buffers of at least kDigestChunkBytes.
//
// Threads: one. Owned by the Replicator.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "daemon/digest/digest_proofs.h"
#include "daemon/digest/digest_region.h"
#include "daemon/replicate/disk_reader.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

enum class DigestPurpose : std::uint8_t { kRepair, kAfterCrash, kScrub };
std::string_view digest_purpose_name(DigestPurpose purpose);

struct DigestOptions {
  bool scrub_enabled = false;
  std::uint64_t scrub_period_ns = 24ull * 3600 * 1'000'000'000;  // wanted for a round; not 0
  std::uint64_t scrub_bytes_per_second = 20u << 20;  // at most
  std::uint64_t scrub_region_bytes = 8u << 20;       // read at a stroke; the pauses between make the rate
  std::uint64_t recheck_pause_ns = 1'000'000'000;    // before a difference is looked at again
  // Under way at a time, so that a receiver that is slow for a while holds up no reads: what waits are digests, not
  // bytes. Less than what DigestCheck keeps for the second question.
  std::uint32_t regions_max = 12;
  // Clearing is given up when, after so much, more than half differs.
  std::uint64_t worthwhile_after_bytes = 256u << 20;
};

// How a scan went, or goes.
struct DigestProgress {
  DigestPurpose purpose = DigestPurpose::kScrub;
  std::uint64_t total_bytes = 0;
  std::uint64_t done_bytes = 0;       // of total: compared, or left out because nothing was to be compared
  std::uint64_t equal_bytes = 0;
  std::uint64_t different_bytes = 0;  // in leaves that differ
  std::uint64_t left_out_bytes = 0;   // in leaves that differ and may: free space that a full copy left out
  std::uint64_t undecided_bytes = 0;  // written, lost or unreadable meanwhile
  std::uint64_t duration_ns = 0;      // from the first read
  bool given_up = false;              // not worthwhile: the rest was copied without comparing
};

// A stretch of a disk that is not what the replica holds, though nothing lost explains it.
struct DigestFinding {
  std::uint16_t disk = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::uint64_t proved_wall_ns = 0;  // when it was proved equal last; 0 = never
  // Never proved, and what a full copy left out is not known any more: it may be that.
  bool may_be_left_out = false;
};

class DigestRunner {
 public:
  // What of the outside matters in a step.
  struct Situation {
    std::uint64_t now_ns = 0;
    bool copies_settled = false;  // the Copier's copy mode is on and settled
    bool copier_active = false;   // it has a copy mode of its own
    bool may_claim = false;       // nobody else has claims that are not in the stream yet: a clearing may go on
    bool whole = false;           // no gap, and its HEAL is acknowledged: a scrub may run
  };

  // `reader` may be null: no scan ever runs.
  DigestRunner(Tracker& tracker, DiskReader* reader, const std::vector<DiskGeometry>& disks,
               const DigestOptions& options);

  // A session began; `possible`: its receiver answers questions.
  void session_up(bool possible);
  void session_down();
  bool possible() const { return possible_; }

  // A gap is open and copies are about to begin. Does nothing when no scan is possible.
  void begin_clearing(DigestPurpose purpose);
  // While true, nothing else may claim granules, and the gap must stay open.
  bool clearing() const { return mode_ == Mode::kClearing; }
  // The stream starts anew, or the session is gone: everything under way is dropped (claims are the caller's to undo).
  void abort();
  // The same, and gives back what is claimed.
  void give_up();
  // Granules are claimed.
  bool claims() const { return clearing() && !active_.empty(); }

  void note_event(const CaptureEvent& event);
  // Takes finished reads, starts new ones. `on_claim` as in Copier::work().
  Status work(const Situation& situation, const std::function<void(const GranuleRange&)>& on_claim);
  // True when a region can be asked about once everything up to `stream_position` (ring position) was sent.
  bool question_due(std::uint64_t stream_position) const;
  // `seq`: the last one sent, which is what `stream_position` became.
  std::optional<DigestQuestion> take_question(std::uint64_t stream_position, Seq seq, std::uint64_t wall_ns);
  // The next question about the same region, if its answer needs one.
  std::optional<DigestQuestion> take_answer(const DigestAnswer& answer);

  // A clearing, or a whole round of the scrub, that ended.
  std::optional<DigestProgress> take_finished();
  std::vector<DigestFinding> take_findings();

  bool reading() const { return reader_ != nullptr && reader_->in_progress() > 0; }
  // When work() has something to do that no completion announces.
  std::optional<std::uint64_t> wake_at_ns() const;

  // An extent that the replica may have lost: the scrub looks at it next, and reports what differs at once. What can't
  // be kept (there are too many) a whole round finds.
  void compare_soon(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes);
  void set_scrub(bool enabled, std::uint64_t period_ns, std::uint64_t bytes_per_second_max);
  const DigestOptions& options() const { return options_; }
  bool active() const { return mode_ != Mode::kIdle; }
  const DigestProgress& progress() const { return progress_; }
  DigestProofs& proofs() { return proofs_; }
  std::uint64_t wire_bytes() const { return wire_bytes_; }

 private:
  enum class Mode : std::uint8_t { kIdle, kClearing, kScrub };
  struct Active {
    std::uint64_t token = 0;
    DigestRegion region;
    std::vector<GranuleRange> claims;  // clearing only
    bool recheck = false;
    unsigned rechecks = 0;             // of these chunks, before this one
    std::uint64_t asked_wall_ns = 0;
  };
  struct Recheck {
    std::uint16_t disk = 0;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    std::uint64_t chunks = 0;
    std::uint64_t at_ns = 0;
    unsigned rechecks = 0;
  };
  struct Place {  // of a scrub that was interrupted
    std::size_t disk_index = 0;
    std::uint64_t offset_bytes = 0;
    DigestProgress progress;
  };
  struct BufferUse {
    enum class State : std::uint8_t { kFree, kReading, kGivenUp } state = State::kFree;
    std::uint64_t token = 0;
    unsigned chunk = 0;
  };

  void begin(Mode mode, DigestPurpose purpose);
  void begin_scrub();
  void drop_regions();
  void leave_copy_mode();
  void reap();
  Status fill(const std::function<void(const GranuleRange&)>& on_claim);
  bool open_region(const std::function<void(const GranuleRange&)>& on_claim);
  bool open_recheck();
  bool open_scrub_region();
  std::uint64_t scrub_bytes_per_second() const;
  bool open_clear_region(const std::function<void(const GranuleRange&)>& on_claim);
  Status look_and_read(Active& active);
  void read_chunks(Active& active, std::uint64_t head_before, const std::vector<InFlightWrite>* writes);
  std::size_t free_buffers() const;
  bool respects_in_flight(const DigestRegion& region, unsigned chunk, const std::vector<InFlightWrite>& writes) const;
  void finish(std::uint64_t token);
  void finish_claims(const Active& active);
  bool granule_is_equal(const DigestRegion& region, std::uint64_t begin_bytes, std::uint64_t end_bytes) const;
  void finish_scrub(const Active& active);
  // Those of `leaves` of a chunk that differ though they should not.
  std::uint64_t unexplained_leaves(const DigestRegion& region, unsigned chunk) const;
  void recheck_later(const Active& active, std::uint64_t chunks);
  void update_done();
  void end_when_done();
  Active* find(std::uint64_t token);
  const TrackedDisk& tracked(std::uint16_t slot) const;

  Tracker& tracker_;
  DiskReader* reader_;
  DigestOptions options_;
  std::vector<TrackedDisk> disks_;
  DigestProofs proofs_;
  std::vector<BufferUse> buffers_;

  bool possible_ = false;
  Mode mode_ = Mode::kIdle;
  DigestProgress progress_;
  std::size_t disk_index_ = 0;        // where the next region begins
  std::uint64_t offset_bytes_ = 0;
  std::deque<std::unique_ptr<Active>> active_;
  std::uint64_t next_token_ = 1;
  std::uint64_t next_region_ns_ = 0;  // of the scrub
  std::deque<Recheck> rechecks_;
  std::optional<Place> scrub_place_;
  bool may_claim_ = false;
  bool copy_mode_ = false;            // switched on by us, for a recheck
  std::uint64_t now_ns_ = 0;
  std::uint64_t began_ns_ = 0;        // of the first read; 0 = none yet
  std::uint64_t wire_bytes_ = 0;
  std::optional<DigestProgress> finished_;
  std::vector<DigestFinding> findings_;
};

}  // namespace understudy
