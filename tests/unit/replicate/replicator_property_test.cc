// SPDX-License-Identifier: Apache-2.0
// Random histories of one server: writes that complete late and reach the disk at any moment, reads that see half of
// them, a small ring, a flapping link, agents that are killed, a receiver that forgets what was not durable or comes
// back older. The oracle knows every write in the order of submission.
//
// Checked whenever records become durable outside a gap: the replica is exactly the prefix of the writes that the
// cursor says. At the end, when everything has calmed down: the replica is the disk.
//
// UNDERSTUDY_SEED=<n> replays one seed, UNDERSTUDY_SEEDS=<n> sets how many are run.

#include "tests/unit/replicate/replicate_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

#include <cstdlib>
#include <map>

namespace understudy {
namespace {

constexpr std::uint64_t kSector = 512;

// One submitted write, as the oracle remembers it.
struct Submitted {
  enum class How { kCaptured, kLost, kMissed } how = How::kCaptured;
  std::uint64_t number = 0;  // captured: ring position behind it; lost: loss count after it; missed: identities before
  std::uint16_t disk = 0;
  std::uint64_t offset_bytes = 0;
  std::vector<std::byte> data;
};

struct Profile {
  std::uint64_t ring_bytes;
  std::uint32_t write_percent, cut_percent, kill_percent, fault_percent, command_percent;
};

class History {
 public:
  explicit History(std::uint64_t seed) : random_(seed), harness_(make_options(seed)) {
    harness_.random.seed(seed ^ 0x9e3779b97f4a7c15ull);
    static constexpr Profile kProfiles[] = {
        {4 << 20, 60, 1, 1, 1, 0},    // calm
        {48 << 10, 70, 2, 1, 2, 2},   // a ring that overflows
        {256 << 10, 50, 6, 4, 3, 1},  // sessions that hardly last
        {24 << 10, 80, 3, 3, 8, 8},   // everything at once
    };
    repairs_ = random_() % 3 == 0;
    profile_ = kProfiles[random_() % 4];
    harness_.capture->set_ring_bytes(profile_.ring_bytes);
    for (std::uint16_t disk = 0; disk < disk_count(); ++disk) {
      expected_.emplace_back(harness_.capture->disk_bytes(disk).size());
      before_.emplace_back(harness_.capture->disk_bytes(disk).size());
    }
    identities_.push_back(harness_.tracker->capture_id());
    static constexpr std::uint32_t kBatchBytes[] = {1, 4096, 32768, 1 << 20};
    harness_.stop_agent();
    harness_.replicator_options.stream.batch_payload_bytes_max = kBatchBytes[random_() % 4];
    harness_.replicator_options.digest.scrub_enabled = random_() % 2 == 0;
    harness_.replicator_options.digest.scrub_period_ns = 1;
    harness_.replicator_options.digest.scrub_bytes_per_second = 1ull << (20 + random_() % 10);
    harness_.replicator_options.digest.recheck_pause_ns = 5'000'000;
    // A backlog that is given up after a while, in every fourth history; steps are up to 2 ms apart.
    if (seed % 4 == 0) harness_.replicator_options.collapse_after_ns = 1'000'000 * (1 + random_() % 20);
    harness_.replicator_options.events_per_step_max = random_() % 2 == 0 ? 8192 : 1 + random_() % 4;
    harness_.start_agent();
    watch_steps();
    harness_.receiver->on_durable = [this](const BatchReader&) { check_point(); };
  }

  void run() {
    // Some disks have content that no event ever tells of.
    if (chance(70)) preload();
    const std::uint64_t steps = 60 + random_() % 240;
    for (std::uint64_t i = 0; i < steps; ++i) turn();
    calm_down();
  }

  std::uint64_t points_checked() const { return points_checked_; }
  std::uint64_t wholes_without_rest() const { return wholes_without_rest_; }
  // Backlogs that became a gap.
  std::uint64_t collapses() const {
    return static_cast<std::uint64_t>(
        std::count_if(harness_.events.begin(), harness_.events.end(), [](const ReplicatorEvent& event) {
          return event.text.starts_with("the backlog is older than");
        }));
  }
  std::uint64_t losses() const { return harness_.tracker->losses().total; }

 private:
  static HarnessOptions make_options(std::uint64_t seed) {
    std::mt19937_64 random(seed * 31 + 7);
    HarnessOptions options;
    options.disk_bytes.clear();
    const std::size_t disks = 1 + random() % 3;
    for (std::size_t i = 0; i < disks; ++i) {
      options.disk_bytes.push_back((8 + random() % 120) * 1024 + kSector * (random() % 3));
    }
    options.granule_bytes = 4096u << (random() % 2);
    options.buffers = 1 + static_cast<std::uint32_t>(random() % 5);
    options.buffer_bytes = 8192u << (random() % 3);
    options.digests = random() % 4 != 0;
    return options;
  }
  std::uint16_t disk_count() const { return static_cast<std::uint16_t>(harness_.replicator_options.disks.size()); }
  bool chance(std::uint32_t percent) { return random_() % 100 < percent; }

  void preload() {
    // Before capture begins for the receiver: written, and then everything is released by a first life of the agent
    // that never met a receiver. Events stay in the ring; a new stream skips them.
    for (int i = 0; i < 20; ++i) submit();
    complete_all();
  }

  void turn() {
    harness_.clock.boot += random_() % 2'000'000;
    if (chance(1)) harness_.clock.offset += random_() % 2 == 0 ? 3'000'000'000 : -3'000'000'000ull;
    if (chance(profile_.write_percent)) {
      for (std::uint64_t n = random_() % 6; n > 0; --n) submit();
    }
    if (chance(60)) complete_some();
    if (chance(profile_.fault_percent)) fault();
    if (chance(60)) harness_.reader->progress(random_, static_cast<std::uint32_t>(random_() % 24));
    if (harness_.digest_reader && chance(60)) {
      harness_.digest_reader->progress(random_, static_cast<std::uint32_t>(random_() % 400));
    }
    if (chance(70)) step();
    if (repairs_ && chance(2)) harness_.replicator->request_digest_scan(DigestPurpose::kRepair, [](const auto&) {});
    if (!harness_.receiver->connected() && chance(30)) harness_.receiver->connect();
    if (chance(60)) harness_.receiver->travel(random_() % 4);
    if (chance(50)) chance(90) ? harness_.receiver->commit(random_() % 4) : harness_.receiver->commit_silently(1);
    if (chance(profile_.cut_percent)) harness_.receiver->cut(chance(50));
    if (chance(profile_.kill_percent)) kill_agent();
    if (chance(1) && chance(30)) receiver_goes_back();
    if (chance(5)) snapshot_ = harness_.receiver->store;
    if (chance(2)) mark();
    if (chance(profile_.command_percent)) command();
  }

  // An operator who is not sure what he wants.
  void command() {
    static constexpr ReplicationCommand kCommands[] = {ReplicationCommand::kStop, ReplicationCommand::kRestart,
                                                       ReplicationCommand::kRepair};
    (void)harness_.replicator->command(kCommands[random_() % (repairs_ ? 3 : 2)]);
    if (chance(10)) harness_.replicator->set_auto_resume(chance(70));
  }

  // Other CPUs do not stop for the agent: writes come and complete in the middle of its steps.
  void watch_steps() {
    const auto meanwhile = [this] {
      if (!in_step_ || !chance(4)) return;
      in_step_ = false;  // nothing interrupts the interruption
      if (chance(2 * profile_.fault_percent)) chance(50) ? harness_.capture->skip_next(1) : miss();
      submit();
      if (chance(50)) complete_some();
      if (chance(20)) harness_.reader->progress(random_, 4);
      in_step_ = true;
    };
    harness_.tracker->meanwhile = meanwhile;
    harness_.reader->meanwhile = meanwhile;
    if (harness_.digest_reader) harness_.digest_reader->meanwhile = meanwhile;
    harness_.receiver->meanwhile = meanwhile;
  }

  void step() {
    in_step_ = !calm_;
    harness_.step(random_() % 1'000'000);
    in_step_ = false;
    const Uuid identity = harness_.tracker->capture_id();
    if (identity != identities_.back()) identities_.push_back(identity);
  }

  // Writes that overlap one in flight have no defined order on a disk, and no file system or database sends them.
  bool overlaps_in_flight(std::uint16_t disk, std::uint64_t offset, std::uint64_t length) const {
    for (const auto& [id, index] : in_flight_) {
      const Submitted& other = log_[index];
      if (other.disk == disk && offset < other.offset_bytes + other.data.size() &&
          other.offset_bytes < offset + length) {
        return true;
      }
    }
    return false;
  }

  void submit() {
    const auto disk = static_cast<std::uint16_t>(random_() % disk_count());
    const std::uint64_t sectors = before_[disk].size() / kSector;
    const std::uint64_t length = std::min<std::uint64_t>(1 + random_() % (chance(10) ? 64 : 8), sectors);
    std::uint64_t first = random_() % (sectors - length + 1);
    if (chance(50)) first = std::min(first % 24, sectors - length);  // a hot spot: overwrites, and copies under writes
    if (overlaps_in_flight(disk, first * kSector, length * kSector)) return;
    if (chance(8)) harness_.capture->flush(disk);
    Submitted entry;
    entry.disk = disk;
    entry.offset_bytes = first * kSector;
    const bool zero = chance(15);
    entry.data = zero ? std::vector<std::byte>(length * kSector) : harness_.bytes(length * kSector);
    const Losses before = harness_.tracker->losses();
    std::uint64_t id = 0;
    if (zero) {
      id = harness_.capture->submit_zero(disk, entry.offset_bytes, length * kSector, chance(50));
    } else {
      id = harness_.capture->submit_write(disk, entry.offset_bytes, entry.data, {chance(5), chance(5)});
    }
    const Losses after = harness_.tracker->losses();
    if (after.unprovable != before.unprovable) {
      entry.how = Submitted::How::kMissed;
      entry.number = identities_.size();
    } else if (after.total != before.total) {
      entry.how = Submitted::How::kLost;
      entry.number = after.total;
    } else {
      entry.number = harness_.tracker->head();
    }
    log_.push_back(std::move(entry));
    in_flight_.emplace(id, log_.size() - 1);
    if (chance(40)) complete(id);
  }

  void complete(std::uint64_t id) {
    harness_.capture->complete(id);
    in_flight_.erase(id);
  }
  void complete_some() {
    std::vector<std::uint64_t> ids;
    for (const auto& [id, index] : in_flight_) ids.push_back(id);
    for (const std::uint64_t id : ids) {
      if (chance(20)) harness_.capture->apply(id);
      if (chance(30)) complete(id);
    }
  }
  void complete_all() {
    while (!in_flight_.empty()) complete(in_flight_.begin()->first);
  }

  // Each costs a full copy, so that a history with many of them never gets anywhere.
  void miss() {
    if (misses_left_ == 0) return;
    --misses_left_;
    harness_.capture->miss_first_program(1);
  }

  void fault() {
    switch (random_() % 7) {
      case 0: harness_.capture->skip_next(1); break;
      case 1: harness_.capture->fail_reads_next(1 + random_() % 2); break;
      case 2:
        if (chance(20)) miss();
        break;
      case 3: harness_.capture->fail_settle_next(1); break;
      case 4: harness_.capture->set_ring_bytes(16384 + random_() % profile_.ring_bytes); break;
      case 5: harness_.reader->bad_offsets.insert(random_() % (64 << 10)); break;
      case 6: harness_.reader->bad_offsets.clear(); break;
    }
  }

  void kill_agent() {
    auto bad = harness_.reader->bad_offsets;
    harness_.stop_agent(chance(50));
    if (reboots_left_ > 0 && chance(10)) {
      reboot();
    } else if (chance(50)) {
      submit_without_agent();
    }
    if (changes_left_ > 0 && chance(15)) change_disks();
    if (snapshot_ && chance(10)) go_back();  // while the agent is away: what it had acknowledged is known to the next
    harness_.start_agent();
    if (identities_.empty()) identities_.push_back(harness_.tracker->capture_id());
    harness_.reader->bad_offsets = bad;
    watch_steps();
  }
  // The tracker's figures need an agent's half: opened for the moment, as a new agent would.
  void submit_without_agent() {
    harness_.tracker = std::make_unique<InterruptedTracker>(harness_.capture->open());
    for (std::uint64_t n = random_() % 12; n > 0; --n) submit();
    harness_.tracker.reset();
  }

  // What was in flight is on the disk or not; then somebody writes before capture begins. What the stream says of the
  // time before is not checked any more: it was, and no point of it may come after this.
  void reboot() {
    --reboots_left_;
    for (const auto& [id, index] : in_flight_) {
      if (chance(50)) harness_.capture->apply(id);
    }
    in_flight_.clear();
    harness_.capture->reboot();
    for (std::uint64_t n = random_() % 4; n > 0; --n) {
      const auto disk = static_cast<std::uint16_t>(random_() % disk_count());
      const std::uint64_t sector = random_() % (before_[disk].size() / kSector);
      harness_.capture->write_unseen(disk, sector * kSector, harness_.bytes(kSector));
    }
    log_.clear();
    identities_.clear();
    for (std::uint16_t disk = 0; disk < disk_count(); ++disk) {
      const auto bytes = harness_.capture->disk_bytes(disk);
      before_[disk].assign(bytes.begin(), bytes.end());
    }
    reset_oracle();
  }

  // A disk is added, or one grows; what is new has content that no event tells of.
  void change_disks() {
    --changes_left_;
    const auto content = harness_.bytes(kSector * (1 + random_() % 100));
    if (disk_count() < 4 && chance(50)) {
      harness_.add_disk(content);
      before_.push_back(content);
      expected_.push_back(content);
      return;
    }
    const auto disk = static_cast<std::uint16_t>(random_() % disk_count());
    harness_.grow_disk(disk, content);
    before_[disk].insert(before_[disk].end(), content.begin(), content.end());
    expected_[disk].insert(expected_[disk].end(), content.begin(), content.end());
  }

  void go_back() {
    harness_.receiver->store = *snapshot_;
    reset_oracle();
  }

  void receiver_goes_back() {
    if (!snapshot_ || snapshot_->position.seq == harness_.receiver->store.position.seq) return;
    harness_.receiver->cut(false);
    step();
    harness_.receiver->store = *snapshot_;
    reset_oracle();
    harness_.receiver->connect();
    step();
  }

  void mark() {
    const std::string name = "m" + std::to_string(next_mark_++);
    // While nothing is in flight, the mark is exactly what the disk holds now, whatever is written behind it.
    std::optional<std::vector<std::byte>> expected;
    if (harness_.capture->writes_in_flight().empty()) {
      const auto now = harness_.capture->disk_bytes(0);
      expected.emplace(now.begin(), now.end());
    }
    harness_.replicator->request_mark_described_later(
        name,
        [name, calls = random_() % 2 == 0 ? 0 : random_() % 100]() mutable {
          return calls == 0 || --calls == 0 ? std::optional(MarkInfo{name, Consistency::kCrash, ""}) : std::nullopt;
        },
        harness_.clock.boot + random_() % 2'000'000'000, [this, name, expected](Result<Seq> result) {
          if (!result.ok()) return;
          const auto& store = harness_.receiver->store;
          const bool there = std::any_of(store.marks.begin(), store.marks.end(), [&](const auto& m) {
            return m.first == *result && m.second.name == name;
          });
          CHECK_MESSAGE(there, "an acknowledged mark is not in the store");
          if (expected) CHECK_MESSAGE(store.content_at_mark.at(name) == *expected, "a mark stands in the wrong place");
        });
  }

  bool included(const Submitted& entry, const CaptureCursor& cursor) const {
    switch (entry.how) {
      case Submitted::How::kCaptured: return entry.number <= cursor.position;
      case Submitted::How::kLost: return entry.number <= cursor.loss_count;
      case Submitted::How::kMissed: break;
    }
    std::size_t identity = 0;
    while (identity < identities_.size() && identities_[identity] != cursor.capture_id) ++identity;
    return identity >= entry.number;
  }

  void reset_oracle() {
    for (std::uint16_t disk = 0; disk < disk_count(); ++disk) expected_[disk] = before_[disk];
    applied_ = 0;
  }

  // Outside gaps the replica is exactly the writes up to the cursor: a prefix in the order of submission.
  void check_point() {
    const ModelStore& store = harness_.receiver->store;
    if (!store.whole()) return;
    const CaptureCursor& cursor = store.position.cursor;
    if (std::find(identities_.begin(), identities_.end(), cursor.capture_id) == identities_.end() &&
        cursor.capture_id != harness_.tracker->capture_id()) {
      return;  // of before the reboot
    }
    if (identities_.back() != harness_.tracker->capture_id()) identities_.push_back(harness_.tracker->capture_id());
    std::size_t count = log_.size();
    for (std::size_t i = applied_; i < log_.size(); ++i) {
      if (!included(log_[i], cursor)) {
        count = i;
        break;
      }
    }
    for (std::size_t i = count; i < log_.size(); ++i) {
      // Behind the first write that is not in, nothing may be in: else the point is no prefix.
      REQUIRE_FALSE(included(log_[i], cursor));
    }
    for (; applied_ < count; ++applied_) {
      const Submitted& entry = log_[applied_];
      std::copy(entry.data.begin(), entry.data.end(),
                expected_[entry.disk].begin() + static_cast<std::ptrdiff_t>(entry.offset_bytes));
    }
    ++points_checked_;
    for (std::uint16_t disk = 0; disk < disk_count(); ++disk) {
      compare(disk, expected_[disk], "a point is not its prefix");
    }
    check_nothing_left_behind(cursor);
  }

  // Whole and nothing lost since: nothing may look dirty, or an agent that is started now would copy it for nothing and
  // could not offer the seconds until then.
  void check_nothing_left_behind(const CaptureCursor& cursor) const {
    // A session that ended before the GAP of a repair, or of a backlog that was given up, was durable leaves what they
    // marked dirty; the next one opens a gap for it.
    if (repairs_ || harness_.replicator_options.collapse_after_ns != 0) return;
    if (cursor.capture_id != harness_.tracker->capture_id()) return;
    if (harness_.tracker->losses().total != cursor.loss_count) return;
    // The next gap is open already, and only its GAP has not arrived.
    if (!harness_.replicator || harness_.replicator->status().gap_open) return;
    for (std::uint16_t disk = 0; disk < disk_count(); ++disk) {
      REQUIRE(harness_.tracker->dirty().pending_count(disk) == 0);
      ++wholes_without_rest_;
    }
  }

  void compare(std::uint16_t disk, std::span<const std::byte> expected, const char* what) const {
    const auto content = harness_.receiver->store.content(disk);
    REQUIRE(content.size() == expected.size());
    if (std::equal(content.begin(), content.end(), expected.begin())) return;
    for (std::size_t at = 0; at < content.size(); ++at) {
      REQUIRE_MESSAGE(content[at] == expected[at], what << ": disk " << disk << ", sector " << at / kSector << ", seq "
                                                        << harness_.receiver->store.position.seq);
    }
  }

  void calm_down() {
    calm_ = true;
    harness_.reader->bad_offsets.clear();
    harness_.capture->set_ring_bytes(8 << 20);
    complete_all();
    if (!harness_.receiver->connected()) harness_.receiver->connect();
    harness_.replicator->set_auto_resume(true);
    for (int i = 0; i < 4000; ++i) {
      step();
      go_on();
      harness_.reader->progress(random_, 64);
      if (harness_.digest_reader) harness_.digest_reader->progress(random_, 64);
      harness_.receiver->travel(8);
      harness_.receiver->commit(8);
      harness_.receiver->acknowledge();
      if (harness_.receiver->store.whole() && harness_.replicator->phase() == Phase::kRealtime &&
          harness_.receiver->idle() && harness_.tracker->tail() == harness_.tracker->head()) {
        break;
      }
    }
    REQUIRE(harness_.replicator->phase() == Phase::kRealtime);
    for (const ReplicatorEvent& event : harness_.events) {
      // Nothing here changes bytes behind the capture's back: a scrub that says so is wrong.
      const bool alarm = event.kind == ReplicatorEvent::Kind::kDigestDifference &&
                         event.severity == ReplicatorEvent::Severity::kError;
      REQUIRE_MESSAGE(!alarm, event.text);
    }
    for (std::uint16_t disk = 0; disk < disk_count(); ++disk) {
      compare(disk, harness_.capture->disk_bytes(disk), "the replica is not the disk");
    }
    step();
    const ReplicationStatus status = harness_.replicator->status();
    CAPTURE(status_line(status));
    CAPTURE(status.gap_open);
    CAPTURE(status.last_seq);
    CAPTURE(status.acknowledged_seq);
    REQUIRE(status.rpo_now_ns.has_value());
    REQUIRE(*status.rpo_now_ns == 0u);
    REQUIRE(status.backlog_bytes == 0u);
    for (const TrackedDisk& disk : harness_.tracker->disks()) {
      REQUIRE(harness_.tracker->dirty().pending_count(disk.slot) == 0);
    }
  }

  // Whatever the commands left: replication is to run.
  void go_on() {
    const ReplicationStateName state = harness_.replicator->replication_state().state;
    if (state_runs(state)) return;
    if (!harness_.replicator->command(ReplicationCommand::kRestart).ok()) {
      (void)harness_.replicator->command(ReplicationCommand::kRepair);
    }
  }

  std::mt19937_64 random_;
  Harness harness_;
  Profile profile_{};
  std::vector<std::vector<std::byte>> before_;    // the disks when capture began
  std::vector<std::vector<std::byte>> expected_;  // ... with the first `applied_` writes
  std::size_t applied_ = 0;
  std::vector<Submitted> log_;
  std::map<std::uint64_t, std::size_t> in_flight_;
  std::vector<Uuid> identities_;
  std::optional<ModelStore> snapshot_;
  std::uint64_t next_mark_ = 1;
  std::uint32_t misses_left_ = 3;
  std::uint32_t reboots_left_ = 2;
  std::uint32_t changes_left_ = 3;
  bool in_step_ = false;
  bool calm_ = false;
  bool repairs_ = false;  // somebody asks for repairs
  std::uint64_t points_checked_ = 0;
  mutable std::uint64_t wholes_without_rest_ = 0;
};

}  // namespace

TEST_CASE("random histories: every point is a prefix, and the replica becomes the disk") {
  std::uint64_t first = 1;
  std::uint64_t count = 2000;
  if (const char* seeds = std::getenv("UNDERSTUDY_SEEDS")) count = std::strtoull(seeds, nullptr, 10);
  if (const char* seed = std::getenv("UNDERSTUDY_SEED")) {
    first = std::strtoull(seed, nullptr, 10);
    count = 1;
  }
  std::uint64_t points = 0;
  std::uint64_t collapses = 0;
  std::uint64_t losses = 0;
  std::uint64_t wholes = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    CAPTURE(seed);
    INFO("replay with UNDERSTUDY_SEED=" << seed);
    History history(seed);
    history.run();
    points += history.points_checked();
    collapses += history.collapses();
    losses += history.losses();
    wholes += history.wholes_without_rest();
  }
  MESSAGE(count << " histories, " << points << " points checked, " << losses << " writes lost on the way, "
                << collapses << " backlogs collapsed");
  if (count > 1000) {
    // The histories must be worth their name.
    CHECK(points > count);
    CHECK(wholes > count);
    CHECK(losses > count);
    CHECK(collapses > count / 20);
  }
}

}  // namespace understudy
