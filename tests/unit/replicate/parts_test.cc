// SPDX-License-Identifier: Apache-2.0
// The pure parts of the replicator, each by itself.
#include <random>
#include <set>

#include "daemon/replicate/acknowledgement.h"
#include "daemon/replicate/gap_tracker.h"
#include "daemon/replicate/interval_set.h"
#include "daemon/replicate/phase.h"
#include "daemon/replicate/rpo_meter.h"
#include "daemon/replicate/session.h"
#include "daemon/replicate/status.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {

TEST_CASE("interval set: agrees with a set of single numbers") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    IntervalSet set;
    std::set<std::uint64_t> model;
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t begin = random() % 64;
      const std::uint64_t end = begin + random() % 12;
      if (random() % 3 != 0) {
        set.add({begin, end});
        for (auto n = begin; n < end; ++n) model.insert(n);
      } else {
        set.remove({begin, end});
        for (auto n = begin; n < end; ++n) model.erase(n);
      }
      REQUIRE(set.total() == model.size());
      for (std::size_t k = 0; k < set.intervals().size(); ++k) {
        REQUIRE(set.intervals()[k].begin < set.intervals()[k].end);
        if (k > 0) REQUIRE(set.intervals()[k - 1].end < set.intervals()[k].begin);  // never touching
      }
      const std::uint64_t from = random() % 70;
      const std::uint64_t to = from + random() % 20;
      std::set<std::uint64_t> gaps;
      set.for_each_gap({from, to}, [&](Interval gap) {
        for (auto n = gap.begin; n < gap.end; ++n) gaps.insert(n);
      });
      bool overlaps = false;
      for (auto n = from; n < to; ++n) {
        REQUIRE((gaps.count(n) == 1) == (model.count(n) == 0));
        overlaps = overlaps || model.count(n) == 1;
      }
      REQUIRE(set.overlaps({from, to}) == overlaps);
    }
  }
}

TEST_CASE("acknowledgement: whole batches release the ring, copies finish with their seq") {
  Acknowledgement acknowledgement;
  acknowledgement.copy_emitted(3, {0, 10, 4});
  acknowledgement.batch_sent(4, 1000, 77);
  acknowledgement.copy_emitted(6, {0, 20, 4});
  acknowledgement.batch_sent(8, 2000, 0);
  CHECK(acknowledgement.oldest_event_ns() == 77);
  {
    const auto& outcome = acknowledgement.acknowledge(3);
    CHECK_FALSE(outcome.release_position.has_value());
    REQUIRE(outcome.finished.size() == 1);
    CHECK(outcome.finished[0].first == 10);
  }
  CHECK(acknowledgement.acknowledge(7).release_position == 1000);
  CHECK(acknowledgement.oldest_event_ns() == 0);
  CHECK(acknowledgement.acknowledge(8).release_position == 2000);
  CHECK(acknowledgement.pending_batches() == 0);
}

TEST_CASE("acknowledgement: a granule that was claimed again is not finished by the older copy") {
  Acknowledgement acknowledgement;
  acknowledgement.copy_emitted(5, {1, 0, 10});
  acknowledgement.copy_superseded({1, 3, 2});
  acknowledgement.copy_superseded({0, 0, 10});  // another disk
  acknowledgement.copy_emitted(9, {1, 3, 2});
  {
    const auto& outcome = acknowledgement.acknowledge(5);
    REQUIRE(outcome.finished.size() == 2);
    CHECK(outcome.finished[0].first == 0);
    CHECK(outcome.finished[0].count == 3);
    CHECK(outcome.finished[1].first == 5);
    CHECK(outcome.finished[1].count == 5);
  }
  const auto& outcome = acknowledgement.acknowledge(9);
  REQUIRE(outcome.finished.size() == 1);
  CHECK(outcome.finished[0].first == 3);
}

TEST_CASE("gap tracker: a loss opens one gap, further ones in it are only counted") {
  GapTracker gap;
  StreamPosition position;
  position.initial_copy_done = true;
  position.generation = 1;
  position.cursor.loss_count = 4;
  gap.resume(position);
  CHECK_FALSE(gap.before_event(4).has_value());
  CHECK(gap.before_event(6) == GapReason::kOverflow);
  CHECK(gap.accounted_losses() == 6);
  CHECK_FALSE(gap.before_event(7).has_value());
  CHECK_FALSE(gap.drained(9).has_value());
  CHECK(gap.accounted_losses() == 9);
  gap.heal();
  CHECK_FALSE(gap.before_event(8).has_value());  // made before a loss that is accounted for already
  CHECK_FALSE(gap.drained(9).has_value());
  CHECK(gap.drained(10) == GapReason::kOverflow);
}

TEST_CASE("gap tracker: after a loss in the first full copy no copy goes to the base any more") {
  GapTracker gap;
  gap.start_anew(GapReason::kInitialCopy, 3, false, kFirstGeneration);
  CHECK(gap.copies_are_initial());
  CHECK_FALSE(gap.before_event(3).has_value());
  CHECK(gap.before_event(4) == GapReason::kOverflow);
  CHECK(gap.is_open());
  CHECK_FALSE(gap.copies_are_initial());
  gap.heal();
  CHECK(gap.initial_copy_done());

  // The same seen by an agent that was started later: the generation says it.
  StreamPosition position;
  position.gap_open = true;
  position.generation = kFirstGeneration + 1;
  GapTracker later;
  later.resume(position);
  CHECK_FALSE(later.copies_are_initial());
  position.generation = kFirstGeneration;
  later.resume(position);
  CHECK(later.copies_are_initial());
  // An event from before the initial GAP's losses may have been overwritten by one of them.
  later.start_anew(GapReason::kInitialCopy, 8, false, kFirstGeneration);
  CHECK(later.before_event(7) == GapReason::kOverflow);
}

TEST_CASE("phase: every way through the diagram") {
  PhaseState state;
  const auto step = [&state](PhaseEventKind kind, CopyScope scope = CopyScope::kNone) {
    state = phase_step(state, {kind, scope});
    return state.phase;
  };
  CHECK(state.phase == Phase::kStarting);
  CHECK(step(PhaseEventKind::kAttached) == Phase::kWaitingForReceiver);
  CHECK(step(PhaseEventKind::kLinkUp, CopyScope::kAll) == Phase::kFullCopy);
  CHECK(step(PhaseEventKind::kGapOpened, CopyScope::kDirty) == Phase::kFullCopy);
  CHECK(step(PhaseEventKind::kHealed) == Phase::kRealtime);
  CHECK(step(PhaseEventKind::kGapOpened, CopyScope::kDirty) == Phase::kResync);
  CHECK(step(PhaseEventKind::kLinkDown) == Phase::kWaitingForReceiver);
  CHECK(step(PhaseEventKind::kErrorRaised) == Phase::kError);
  CHECK(step(PhaseEventKind::kLinkUp, CopyScope::kDirty) == Phase::kError);
  CHECK(step(PhaseEventKind::kErrorsCleared) == Phase::kResync);
  CHECK(step(PhaseEventKind::kHealed) == Phase::kRealtime);
  CHECK(step(PhaseEventKind::kStopped) == Phase::kStopped);
  CHECK(step(PhaseEventKind::kErrorRaised) == Phase::kStopped);
}

TEST_CASE("session: what a receiver's position leads to") {
  SessionFacts facts;
  facts.epoch = 2;
  facts.capture_id.bytes[0] = std::byte{9};
  facts.ring_tail = 100;
  facts.ring_head = 500;
  facts.disks = {{0, Uuid{}, "/dev/a", 1 << 20, 512}};
  StreamPosition position;
  CHECK(plan_session(facts, position).start == SessionStart::kFirst);
  CHECK(plan_session(facts, position).generation == 1);
  CHECK(plan_session(facts, position).send_geometry);

  position.seq = 40;
  position.epoch = 2;
  position.generation = 3;
  position.cursor = {facts.capture_id, 200, 0};
  position.disks = facts.disks;
  SessionPlan plan = plan_session(facts, position);
  CHECK(plan.start == SessionStart::kContinue);
  CHECK(plan.generation == 3);
  CHECK_FALSE(plan.send_geometry);
  CHECK(plan.new_parts.empty());

  StreamPosition other = position;
  other.epoch = 3;
  CHECK(plan_session(facts, other).start == SessionStart::kRefused);
  other = position;
  other.cursor.capture_id = Uuid{};
  plan = plan_session(facts, other);
  CHECK(plan.start == SessionStart::kNewCapture);
  CHECK(plan.gap_reason == GapReason::kNewCapture);
  CHECK(plan.generation == 4);
  other = position;
  other.cursor.position = 99;
  plan = plan_session(facts, other);
  CHECK(plan.start == SessionStart::kReceiverBehind);
  CHECK(plan.gap_reason == GapReason::kReceiverBehind);
  other.cursor.position = 501;
  CHECK(plan_session(facts, other).start == SessionStart::kRefused);
  CHECK(plan_session(facts, other).refusal == ErrorReason::kReceiverAhead);

  facts.acknowledged_seq = 41;
  CHECK(plan_session(facts, position).start == SessionStart::kReceiverBehind);
  facts.acknowledged_seq = 40;
  facts.sent_seq = 45;
  CHECK(plan_session(facts, position).start == SessionStart::kContinue);
  facts.sent_seq = 39;
  facts.acknowledged_seq = 0;
  CHECK(plan_session(facts, position).refusal == ErrorReason::kReceiverAhead);
  facts.sent_seq = 0;

  facts.disks.push_back({1, Uuid{}, "/dev/b", 1 << 20, 512});
  plan = plan_session(facts, position);
  CHECK(plan.start == SessionStart::kContinue);
  CHECK(plan.send_geometry);
  REQUIRE(plan.new_parts.size() == 1);
  CHECK(plan.new_parts[0].disk == 1);
  CHECK(plan.new_parts[0].from_bytes == 0);
}

TEST_CASE("rpo meter: percentiles over time, not over acknowledgements") {
  RpoMeter meter;
  CHECK_FALSE(meter.percentile_ns(0.5).has_value());
  constexpr std::uint64_t kMs = 1'000'000;
  std::uint64_t now = 1'000 * kMs;
  meter.advance(now, 0);
  // One write waits 100 ms: its age is spread evenly over 0 to 100 ms.
  meter.advance(now + 100 * kMs, now);
  CHECK(*meter.percentile_ns(0.50) >= 48 * kMs);
  CHECK(*meter.percentile_ns(0.50) <= 55 * kMs);
  CHECK(*meter.percentile_ns(0.99) >= 96 * kMs);
  CHECK(*meter.percentile_ns(0.99) <= 107 * kMs);
  // Idle time does not flatter.
  meter.advance(now + 30'000 * kMs, 0);
  CHECK(*meter.percentile_ns(0.50) >= 48 * kMs);
  meter.reset(now + 30'000 * kMs);
  CHECK_FALSE(meter.percentile_ns(0.5).has_value());
  // The window forgets.
  now += 30'000 * kMs;
  meter.advance(now + 10 * kMs, now);
  meter.advance(now + 200'000 * kMs, 0);
  CHECK_FALSE(meter.percentile_ns(0.5).has_value());
}

TEST_CASE("status line: one plain line per phase") {
  ReplicationStatus status;
  status.phase = Phase::kRealtime;
  status.disks = 2;
  status.rpo_now_ns = 120'000'000;
  status.backlog_bytes = 1258291;
  CHECK(status_line(status) == "realtime: 2 disks, rpo 0.12 s, backlog 1.2 MiB");
  status.phase = Phase::kFullCopy;
  status.disks = 1;
  status.rpo_now_ns.reset();
  status.copy_done_bytes = 1 << 20;
  status.copy_total_bytes = 4 << 20;
  status.backlog_bytes = 0;
  CHECK(status_line(status) == "full-copy: 1 disk, 1 MiB of 4 MiB copied, backlog 0 B");
  status.phase = Phase::kError;
  status.errors = {"disk '/dev/vdb' is gone"};
  CHECK(status_line(status) == "error: disk '/dev/vdb' is gone");
}

}  // namespace understudy
