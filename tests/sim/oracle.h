// SPDX-License-Identifier: Apache-2.0
// Knows every write that was ever submitted, and checks what the store has against it:
//
//   I1  between two losses, the stream's WRITE, ZERO and BARRIER records are the captured events, one by one, in order
//   I2  a write that is no record lies under a GAP that stands where it is missing, and nowhere else; after the HEAL
//       the disks equal the prefix of writes, whatever was lost
//   I4  the same: copies never show anything but the prefix
//   I5  whatever was promised (ACK, WELCOME) is there after the worst power cut
//   I6  positions in gaps are refused, times never fall, barriers stand where flushes were
//   I7  every byte read is proved: views come from the production code
//
// It looks at the store as it would be after a power cut at that moment, through Store and PointInTimeView.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/store/journal.h"
#include "daemon/store/store.h"
#include "daemon/tracker/tracker.h"
#include "tests/sim/receiver_host.h"
#include "tests/sim/world.h"

namespace understudy::sim {

// One event of the ring, or the part of a write that never became one.
struct LoggedEvent {
  enum class How : std::uint8_t {
    kCaptured,  // number = ring position behind it
    kLost,      // number = losses with it
    kMissed,    // number = index of the capture identity that has to cover it
  };
  How how = How::kCaptured;
  std::uint64_t number = 0;
  CaptureKind kind = CaptureKind::kWrite;
  bool preflush = false;
  bool fua = false;
  std::uint16_t disk = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::vector<std::byte> data;  // of a write
  std::uint64_t checksum = 0;
  std::uint64_t wall_ns = 0;    // when it was submitted
};

class Oracle final : public ReceiverWatch {
 public:
  explicit Oracle(World& world, std::uint64_t segment_bytes) : world_(world), segment_bytes_(segment_bytes) {}

  // --- the source's side ---
  // A capture begins over disks with this content (a boot of the source).
  void capture_begins(const Uuid& capture_id, std::vector<std::vector<std::byte>> content);
  void capture_has(const Uuid& capture_id);  // called often; notes a new identity
  std::size_t identity_index() const { return captures_.back().identities.size(); }
  void log(LoggedEvent event) { captures_.back().log.push_back(std::move(event)); }
  void wall_jumped() { exact_times_ = false; }
  // A session goes on behind `seq`: its agent may find granules dirty that no loss explains.
  void session_began(Seq seq) { session_starts_.insert(seq); }
  void repair_asked() { repair_asked_ = true; }
  void mark_done(Seq seq, const std::string& name) { marks_promised_.emplace_back(seq, name); }

  // --- ReceiverWatch ---
  void promised(Seq seq, MemoryFileSystem& disk) override;
  void restarted(MemoryFileSystem& disk) override;
  // The store is older now than what was promised.
  void store_went_back();

  // Reads what is new in the store and checks it all.
  void inspect(MemoryFileSystem& disk);
  // At the end: the replica is whole and equals these disks, the journal is as it was seen before, its points are
  // right, every byte of it is proved, and one that flips is found or does not matter.
  void final_inspection(MemoryFileSystem& disk, const std::vector<std::vector<std::byte>>& disks);

  std::uint64_t records_checked() const { return records_checked_; }
  std::uint64_t points_checked() const { return points_checked_; }
  std::uint64_t heals_checked() const { return heals_checked_; }
  // What was read of the store is whole and has every event of the log.
  bool complete() const {
    return !gap_open_ && at_ && at_->capture + 1 == captures_.size() && next_event_ == captures_.back().log.size();
  }
  Seq seq() const { return seq_; }

 private:
  struct Capture {
    std::vector<Uuid> identities;
    std::vector<std::vector<std::byte>> before;    // the disks when it began
    std::vector<LoggedEvent> log;
    std::vector<std::vector<std::byte>> expected;  // with the first `applied` events
    std::size_t applied = 0;
  };
  struct Where {
    std::size_t capture = 0;
    std::size_t identity = 0;
  };
  struct PointKnown {
    Seq seq = 0;
    std::size_t capture = 0;
    std::size_t events = 0;  // of its log
  };

  StoreOptions options(MemoryFileSystem& disk) const;
  std::unique_ptr<Store> open(MemoryFileSystem& disk, bool damage_allowed);
  Where where(const Uuid& capture_id) const;
  bool included(const LoggedEvent& event, const CaptureCursor& cursor, const Where& place) const;
  std::size_t prefix_at(const CaptureCursor& cursor, const Where& place, Seq seq) const;
  void check_batch(const BatchReader& batch);
  void check_record(const Record& record, const BatchInfo& info);
  void check_event(const Record& record);
  void check_barrier();
  void check_gap(const Record& record);
  LoggedEvent* next_captured();
  void check_time(const Record& record, const LoggedEvent& event);
  void check_point(const Store& store, const PointKnown& point);
  const std::vector<std::vector<std::byte>>& expected_at(const PointKnown& point);
  void check_offers(const Store& store);
  void check_flip(MemoryFileSystem& disk);
  void start_over();

  World& world_;
  const std::uint64_t segment_bytes_;
  std::vector<Capture> captures_;
  bool exact_times_ = true;
  std::set<Seq> session_starts_;
  Seq promised_ = 0;
  bool repair_asked_ = false;

  // The stream as far as it was read.
  Seq seq_ = 0;
  std::optional<Where> at_;       // of the records read last
  bool gap_open_ = true;          // before the first HEAL nothing is a point
  bool gap_seen_ = false;
  bool healed_once_ = false;
  std::size_t next_event_ = 0;    // of the capture's log: everything before is in the stream or was left out by a gap
  bool preflush_seen_ = false;    // of next_event_
  bool fua_due_ = false;          // the event before next_event_ still needs its barrier
  std::uint64_t time_ns_ = 0;
  std::vector<std::pair<Seq, Seq>> gaps_;  // first, last; 0 = open
  std::vector<PointKnown> points_;         // ends of batches outside gaps, and heals
  std::vector<std::uint64_t> hashes_;      // of the records, by seq - 1
  std::map<Seq, std::string> marks_;
  std::vector<std::pair<Seq, std::string>> marks_promised_;

  std::uint64_t records_checked_ = 0;
  std::uint64_t points_checked_ = 0;
  std::uint64_t heals_checked_ = 0;
};

}  // namespace understudy::sim
