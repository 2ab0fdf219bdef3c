// SPDX-License-Identifier: Apache-2.0
// Stop, restart, repair and errors of a whole replicator: what is sent, what is not, and what is copied again.
#include "tests/unit/replicate/replicate_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

using Name = ReplicationStateName;
using Command = ReplicationCommand;

constexpr std::uint64_t kDisk = 1 << 20;

Name state_of(const Harness& harness) { return harness.replicator->replication_state().state; }

// A disk without zeros, under a first full copy that has got through a part of it.
std::unique_ptr<Harness> copying(std::uint64_t copied_min) {
  auto harness = std::make_unique<Harness>(HarnessOptions{.disk_bytes = {kDisk}});
  for (std::uint64_t at = 0; at < kDisk; at += 64 << 10) harness->write(0, at, 64 << 10);
  harness->receiver->connect();
  for (int i = 0; i < 2000 && harness->receiver->store.copied_bytes < copied_min; ++i) {
    harness->step();
    harness->reader->progress(harness->random, 8);
    harness->receiver->travel(1);
    harness->receiver->commit(1);
  }
  REQUIRE(harness->receiver->store.copied_bytes >= copied_min);
  REQUIRE(harness->receiver->store.copied_bytes < kDisk);
  return harness;
}

std::unique_ptr<Harness> realtime(const HarnessOptions& options = {}) {
  auto harness = std::make_unique<Harness>(options);
  harness->write(0, 0, 64 << 10);
  harness->receiver->connect();
  REQUIRE(harness->settle());
  REQUIRE(state_of(*harness) == Name::kRealtime);
  return harness;
}

void turn(Harness& harness, int turns = 200) {
  for (int i = 0; i < turns; ++i) {
    harness.step();
    harness.reader->progress(harness.random, 64);
    harness.receiver->travel(64);
    harness.receiver->commit(64);
  }
}

}  // namespace

TEST_CASE("stop in a full copy keeps the break-point: after a restart nothing is copied twice") {
  for (const bool killed : {false, true}) {
    CAPTURE(killed);
    auto harness = copying(300 << 10);
    REQUIRE(harness->replicator->command(Command::kStop).ok());
    CHECK(state_of(*harness) == Name::kFullStopping);
    turn(*harness);
    CHECK(state_of(*harness) == Name::kFullStopped);
    CHECK(harness->replicator->phase() == Phase::kStopped);
    const Seq seq = harness->receiver->store.position.seq;
    const std::uint64_t copied = harness->receiver->store.copied_bytes;
    CHECK(harness->tracker->dirty().pending_count(0) * 4096 == kDisk - copied);
    if (killed) {
      harness->stop_agent();
      harness->start_agent();
      harness->receiver->connect();
    }
    turn(*harness, 50);
    CHECK(harness->receiver->store.position.seq == seq);
    REQUIRE(harness->replicator->command(Command::kRestart).ok());
    REQUIRE(harness->settle());
    CHECK(harness->replica_equals_disk());
    CHECK(harness->receiver->store.copied_bytes == kDisk);
    CHECK(harness->receiver->store.position.generation == 1);
    CHECK(state_of(*harness) == Name::kRealtime);
  }
}

TEST_CASE("stop in real time: capture goes on, the ring is sent after the restart, nothing is copied") {
  auto harness = realtime();
  const std::uint64_t copied = harness->receiver->store.copied_bytes;
  harness->write(0, 4096, 4096);
  harness->step();
  REQUIRE(harness->replicator->command(Command::kStop).ok());
  harness->write(0, 8192, 4096);  // behind the stop: not sent
  turn(*harness);
  CHECK(state_of(*harness) == Name::kRealtimeStopped);
  const Seq seq = harness->receiver->store.position.seq;
  harness->write(0, 12288, 4096);
  turn(*harness);
  CHECK(harness->receiver->store.position.seq == seq);
  CHECK_FALSE(harness->replica_equals_disk());
  const ReplicationStatus status = harness->replicator->status();
  CHECK(status.backlog_bytes >= 8192);
  CHECK(*status.rpo_now_ns > 0);
  CHECK(status.rpo_counts == ReplicationStatus::RpoCounts::kOldestWrite);
  CHECK(harness->replicator->command(Command::kStop).ok());  // again: nothing to do
  REQUIRE(harness->replicator->command(Command::kRestart).ok());
  CHECK(state_of(*harness) == Name::kRealtimeStarting);
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  CHECK(harness->receiver->store.copied_bytes == copied);
  CHECK(harness->receiver->store.gaps == 1);
  CHECK(state_of(*harness) == Name::kRealtime);
}

TEST_CASE("an overflow while stopped becomes a resync of what is dirty") {
  auto harness = realtime({.disk_bytes = {kDisk}, .ring_bytes = 64 << 10});
  const std::uint64_t copied = harness->receiver->store.copied_bytes;
  REQUIRE(harness->replicator->command(Command::kStop).ok());
  turn(*harness, 20);
  for (int i = 0; i < 40; ++i) harness->write(0, static_cast<std::uint64_t>(i % 20) * 4096, 4096);
  turn(*harness, 20);
  REQUIRE(harness->replicator->command(Command::kRestart).ok());
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  CHECK(harness->receiver->store.gaps == 2);
  CHECK(harness->receiver->store.copied_bytes - copied <= 20 * 4096);
}

TEST_CASE("stopping lasts until everything captured before is acknowledged; a restart in it waits") {
  auto harness = realtime();
  harness->write(0, 4096, 4096);
  REQUIRE(harness->replicator->command(Command::kStop).ok());
  for (int i = 0; i < 20; ++i) harness->step();
  CHECK(state_of(*harness) == Name::kRealtimeStopping);
  REQUIRE(harness->replicator->command(Command::kRestart).ok());
  CHECK(state_of(*harness) == Name::kRealtimeStopping);
  harness->receiver->travel(64);
  harness->receiver->commit(64);
  harness->step();
  CHECK(state_of(*harness) != Name::kRealtimeStopped);
  REQUIRE(harness->settle());
  CHECK(state_of(*harness) == Name::kRealtime);
}

TEST_CASE("stopped: no mark, no session begins, and a connection that comes back changes nothing") {
  auto harness = realtime();
  REQUIRE(harness->replicator->command(Command::kStop).ok());
  turn(*harness, 20);
  std::optional<ErrorKind> refused;
  harness->replicator->request_mark({"m", Consistency::kCrash}, harness->clock.boot + 1'000'000'000,
                                    [&](Result<Seq> result) {
                                      if (!result.ok()) refused = result.error().kind();
                                    });
  harness->step();
  CHECK(refused == ErrorKind::kBusy);
  harness->receiver->cut(false);
  harness->write(0, 4096, 4096);
  harness->step();
  harness->receiver->connect();
  turn(*harness, 20);
  CHECK(state_of(*harness) == Name::kRealtimeStopped);
  CHECK_FALSE(harness->replica_equals_disk());
  REQUIRE(harness->replicator->command(Command::kRestart).ok());
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("without auto-resume an interruption is an error; repair verifies everything") {
  auto harness = realtime();
  harness->replicator->set_auto_resume(false);
  harness->receiver->cut(false);
  harness->step();
  CHECK(state_of(*harness) == Name::kError);
  ReplicationStatus status = harness->replicator->status();
  CHECK(status.phase == Phase::kError);
  CHECK(status.state.reason == ErrorReason::kInterrupted);
  REQUIRE(status.errors.size() == 1);
  CHECK(harness->told(ReplicatorEvent::Kind::kError));
  harness->receiver->connect();
  harness->write(0, 4096, 4096);
  turn(*harness, 20);
  CHECK(state_of(*harness) == Name::kError);
  CHECK_FALSE(harness->replica_equals_disk());
  // Somebody has damaged the replica: only a repair can find that.
  harness->receiver->store.images.at(0).journal.at(70'000) ^= std::byte{1};
  harness->receiver->store.images.at(0).in_journal.at(70'000 / 512) = true;
  const std::uint64_t gaps = harness->receiver->store.gaps;
  REQUIRE(harness->replicator->command(Command::kRepair).ok());
  CHECK(state_of(*harness) == Name::kRepairing);
  harness->step();
  harness->receiver->travel(64);
  harness->receiver->commit(64);
  CHECK(harness->receiver->store.position.gap_open);
  CHECK(harness->receiver->store.position.gap_reason == GapReason::kRequested);
  REQUIRE(harness->settle());
  CHECK(harness->receiver->store.gaps == gaps + 1);
  CHECK(state_of(*harness) == Name::kRealtime);
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("a repair that is stopped, or whose agent is killed, goes on and is not begun again") {
  auto harness = realtime({.disk_bytes = {kDisk}, .digests = false});
  for (std::uint64_t at = 0; at < kDisk; at += 64 << 10) harness->write(0, at, 64 << 10);
  REQUIRE(harness->settle());
  harness->replicator->set_auto_resume(false);
  harness->receiver->cut(false);
  harness->step();
  harness->receiver->connect();
  harness->step();
  const std::uint64_t before = harness->receiver->store.copied_bytes;
  REQUIRE(harness->replicator->command(Command::kRepair).ok());
  for (int i = 0; i < 30; ++i) {
    harness->step();
    harness->reader->progress(harness->random, 8);
    harness->receiver->travel(1);
    harness->receiver->commit(1);
  }
  REQUIRE(harness->replicator->command(Command::kStop).ok());
  turn(*harness, 30);
  CHECK(state_of(*harness) == Name::kRepairStopped);
  CHECK(harness->replicator->command(Command::kRestart).error().kind() == ErrorKind::kRefused);
  harness->stop_agent();
  harness->start_agent();
  harness->receiver->connect();
  turn(*harness, 10);
  REQUIRE(harness->replicator->command(Command::kRepair).ok());
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  CHECK(harness->receiver->store.copied_bytes - before == kDisk);
}

TEST_CASE("a receiver that acknowledges what was never sent is refused: nothing is given up on its word") {
  auto harness = realtime();
  harness->write(0, 4096, 4096);
  harness->step();
  harness->step(6'000'000);
  const std::uint64_t tail = harness->tracker->tail();
  harness->receiver->lie(harness->receiver->store.position.seq + 1000);
  harness->step();
  CHECK(state_of(*harness) == Name::kError);
  CHECK(harness->replicator->replication_state().reason == ErrorReason::kReceiverAhead);
  CHECK(harness->tracker->tail() == tail);
  turn(*harness, 20);
  CHECK(state_of(*harness) == Name::kError);
  const std::uint64_t generation = harness->receiver->store.position.generation;
  REQUIRE(harness->replicator->command(Command::kRepair).ok());
  REQUIRE(harness->settle());
  CHECK(harness->receiver->store.position.generation == generation + 1);
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("a receiver that is ahead of what was captured is refused until an operator asks for a repair") {
  auto harness = realtime();
  harness->receiver->cut(true);
  harness->step();
  const ModelStore honest = harness->receiver->store;
  harness->receiver->store.position.cursor.position = harness->tracker->head() + 4096;
  harness->receiver->connect();
  turn(*harness, 20);
  CHECK(state_of(*harness) == Name::kError);
  CHECK(harness->replicator->replication_state().reason == ErrorReason::kReceiverAhead);
  CHECK(harness->receiver->store.position.seq == honest.position.seq);
  CHECK(harness->replicator->command(Command::kRestart).error().kind() == ErrorKind::kRefused);
  REQUIRE(harness->replicator->command(Command::kRepair).ok());
  REQUIRE(harness->settle());
  CHECK(harness->receiver->store.position.generation == honest.position.generation + 1);
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("a disk that comes back ends its error by itself, and only with auto-resume") {
  for (const bool auto_resume : {true, false}) {
    CAPTURE(auto_resume);
    auto harness = realtime();
    harness->replicator->set_auto_resume(auto_resume);
    harness->reader->vanished.insert(0);
    harness->step(4'000'000'000);
    CHECK(state_of(*harness) == Name::kError);
    CHECK(harness->replicator->replication_state().reason == ErrorReason::kDiskGone);
    CHECK(harness->replicator->command(Command::kStop).error().kind() == ErrorKind::kRefused);
    harness->write(0, 4096, 4096);
    harness->reader->vanished.clear();
    harness->step(4'000'000'000);
    if (!auto_resume) {
      CHECK(state_of(*harness) == Name::kError);
      REQUIRE(harness->replicator->command(Command::kRestart).ok());
    }
    REQUIRE(harness->settle());
    CHECK(harness->replica_equals_disk());
    CHECK(state_of(*harness) == Name::kRealtime);
  }
}

TEST_CASE("a status that is old says so, and its recovery point has grown") {
  ReplicationStatus status;
  status.rpo_now_ns = 5;
  status = aged(status, 7);
  CHECK(status.rpo_now_ns == 12u);
  CHECK(status.age_ns == 7u);
  CHECK(status.rpo_counts == ReplicationStatus::RpoCounts::kOldestWrite);
  status.rpo_now_ns.reset();
  CHECK_FALSE(aged(status, 7).rpo_now_ns.has_value());
}

}  // namespace understudy
