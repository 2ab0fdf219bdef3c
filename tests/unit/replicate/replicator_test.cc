// SPDX-License-Identifier: Apache-2.0
// One behaviour of the whole replicator each; random histories are in replicator_property_test.cc.
#include "tests/unit/replicate/replicate_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

using Kind = ReplicatorEvent::Kind;

// A harness with a first full copy done.
std::unique_ptr<Harness> realtime(const HarnessOptions& options = {}) {
  auto harness = std::make_unique<Harness>(options);
  harness->write(0, 0, 64 << 10);
  harness->receiver->connect();
  REQUIRE(harness->settle());
  return harness;
}

}  // namespace

TEST_CASE("the first full copy goes to the base, then phase and events say so") {
  Harness harness;
  harness.write(0, 8192, 16384);
  CHECK(harness.replicator->phase() == Phase::kWaitingForReceiver);
  harness.receiver->connect();
  harness.step();
  CHECK(harness.replicator->phase() == Phase::kFullCopy);
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.initial_copies > 0);
  CHECK(harness.receiver->store.position.generation == 1);
  CHECK(harness.receiver->store.gaps == 1);
  CHECK(harness.told(Kind::kCopyStarted));
  CHECK(harness.told(Kind::kCopyFinished));
  const ReplicationStatus status = harness.replicator->status();
  CHECK(status.copy_done_bytes == status.copy_total_bytes);
  CHECK(status.copy_total_bytes == 256 << 10);
  CHECK(status.rpo_now_ns == 0u);
}

TEST_CASE("an initial copy goes on where a killed agent left it") {
  Harness harness({.disk_bytes = {1 << 20}});
  harness.write(0, 0, 512 << 10);
  harness.receiver->connect();
  for (int i = 0; i < 2000 && harness.receiver->store.copied_bytes < (400u << 10); ++i) {
    harness.step();
    harness.reader->progress(harness.random, 8);
    harness.receiver->travel(1);
    harness.receiver->commit(1);
  }
  harness.step();  // takes the acknowledgement
  const std::uint64_t before = harness.receiver->store.copied_bytes;
  REQUIRE(before >= 400u << 10);
  REQUIRE(before < 1u << 20);
  harness.stop_agent();
  harness.start_agent();
  harness.receiver->connect();
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.position.generation == 1);
  CHECK(harness.receiver->store.copied_bytes < (1u << 20) + (128u << 10));  // what was unacknowledged, not all again
}

TEST_CASE("a restarted agent and a lost connection lose nothing and copy nothing") {
  auto harness = realtime();
  const std::uint64_t copied = harness->receiver->store.copied_bytes;
  harness->write(0, 4096, 4096);
  harness->step();
  harness->receiver->cut(false);
  harness->write(0, 8192, 4096);
  harness->step();
  CHECK(harness->replicator->phase() == Phase::kWaitingForReceiver);
  CHECK(*harness->replicator->status().rpo_now_ns > 0);
  CHECK(harness->replicator->status().backlog_bytes > 8192);
  harness->stop_agent();
  harness->write(0, 12288, 4096);
  harness->start_agent();
  harness->receiver->connect();
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  CHECK(harness->receiver->store.copied_bytes == copied);
  CHECK(harness->receiver->store.gaps == 1);
}

TEST_CASE("records that are sent again after a lost connection keep the times of their capture") {
  auto harness = realtime();
  const std::uint64_t first_ns = harness->clock.wall_ns();
  harness->write(0, 4096, 4096);
  harness->step();
  harness->step(6'000'000);  // sent, and another one much later, too; neither arrives
  harness->clock.boot += 5'000'000'000;
  const std::uint64_t second_ns = harness->clock.wall_ns();
  harness->write(0, 8192, 4096);
  harness->step();
  harness->step(6'000'000);
  REQUIRE(harness->receiver->queued() == 2);
  harness->receiver->cut(false);
  harness->step(3'000'000'000);
  std::vector<std::uint64_t> times;
  harness->receiver->on_durable = [&](const BatchReader& batch) {
    for (const Record& record : batch.records()) {
      if (record.kind == RecordKind::kWrite) times.push_back(record.time_ns);
    }
  };
  harness->receiver->connect();
  REQUIRE(harness->settle());
  REQUIRE(times.size() == 2);
  CHECK(times[0] == first_ns);
  CHECK(times[1] == second_ns);
}

TEST_CASE("a full ring becomes a gap and a resync of what is dirty only") {
  auto harness = realtime({.disk_bytes = {1 << 20}, .ring_bytes = 64 << 10});
  const std::uint64_t copied = harness->receiver->store.copied_bytes;
  harness->receiver->cut(false);
  for (int i = 0; i < 40; ++i) harness->write(0, static_cast<std::uint64_t>(i % 20) * 4096, 4096);
  harness->receiver->connect();
  harness->step();
  harness->step();
  CHECK(harness->replicator->phase() == Phase::kResync);
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  CHECK(harness->receiver->store.gaps == 2);
  CHECK(harness->receiver->store.position.generation == 1);
  CHECK(harness->receiver->store.copied_bytes - copied <= 20 * 4096);
  CHECK(harness->told(Kind::kGapOpened));
  CHECK(harness->told(Kind::kGapHealed));
}

TEST_CASE("an old backlog is collapsed: fewer bytes, exact points before it, and a gap that says why") {
  auto harness = realtime({.disk_bytes = {1 << 20}});
  harness->stop_agent();
  harness->replicator_options.collapse_after_ns = 300'000'000'000;
  harness->start_agent();
  harness->receiver->connect();
  REQUIRE(harness->settle());
  harness->write(0, 0, 4096);
  REQUIRE(harness->settle());
  const Seq seq_before = harness->receiver->store.position.seq;
  const std::uint64_t copied = harness->receiver->store.copied_bytes;

  // Young enough: every write is sent.
  harness->receiver->cut(false);
  for (int i = 0; i < 50; ++i) harness->write(0, static_cast<std::uint64_t>(i % 10) * 4096, 4096);
  harness->clock.boot += 200'000'000'000;
  harness->receiver->connect();
  REQUIRE(harness->settle());
  CHECK(harness->receiver->store.gaps == 1);
  CHECK(harness->receiver->store.position.seq >= seq_before + 50);
  CHECK(harness->receiver->store.copied_bytes == copied);

  // Too old: what was written 50 times goes once.
  harness->receiver->cut(false);
  const Seq seq = harness->receiver->store.position.seq;
  const auto last_exact = harness->receiver->store.content(0);
  for (int i = 0; i < 50; ++i) harness->write(0, static_cast<std::uint64_t>(i % 10) * 4096, 4096);
  harness->capture->zero(0, 65536, 4096);
  harness->clock.boot += 301'000'000'000;
  bool exact = false;
  harness->receiver->on_durable = [&](const BatchReader& batch) {
    if (batch.info().first_seq != seq + 1) return;
    exact = batch.records()[0].kind == RecordKind::kGap && harness->receiver->store.content(0) == last_exact;
    CHECK(decode_gap(batch.records()[0].payload)->reason == GapReason::kCollapsed);
  };
  harness->receiver->connect();
  harness->step();
  harness->step();
  CHECK(harness->replicator->phase() == Phase::kResync);
  CHECK(harness->replicator->status().gap_reason == GapReason::kCollapsed);
  CHECK(*harness->replicator->status().rpo_now_ns >= 301'000'000'000);
  REQUIRE(harness->settle());
  CHECK(exact);
  CHECK(harness->replica_equals_disk());
  CHECK(harness->receiver->store.gaps == 2);
  CHECK(harness->receiver->store.position.generation == 1);
  CHECK(harness->receiver->store.position.seq < seq + 20);
  CHECK(harness->receiver->store.copied_bytes - copied <= 11 * 4096);
}

TEST_CASE("a collapsed backlog whose gap never arrived is still there") {
  auto harness = realtime({.disk_bytes = {1 << 20}});
  harness->receiver->cut(false);
  harness->stop_agent();
  harness->replicator_options.collapse_after_ns = 10'000'000'000;
  harness->start_agent();
  for (int i = 0; i < 20; ++i) harness->write(0, static_cast<std::uint64_t>(i) * 8192, 4096);
  harness->clock.boot += 20'000'000'000;
  harness->receiver->connect();
  harness->step();
  harness->step();
  harness->receiver->cut(false);  // nothing of it was durable
  harness->stop_agent();
  harness->replicator_options.collapse_after_ns = 0;
  harness->start_agent();
  harness->receiver->connect();
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("a loss during the first full copy ends the use of the base") {
  Harness harness;
  harness.receiver->connect();
  harness.step();
  harness.capture->skip_next(1);
  harness.write(0, 4096, 4096);
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.position.generation == 2);
}

TEST_CASE("a skipped first program is a new generation, and the points before stay honest") {
  auto harness = realtime();
  harness->write(0, 4096, 4096);
  harness->capture->miss_first_program(1);
  harness->write(0, 65536, 4096);
  harness->write(0, 8192, 4096);
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  CHECK(harness->receiver->store.position.generation == 2);
  CHECK(harness->receiver->store.gaps == 2);
  CHECK(harness->told(Kind::kCaptureUnprovable));
}

TEST_CASE("a skipped first program just before the first batch leaves: the disks are announced all the same") {
  Harness harness;
  harness.stop_agent();
  harness.start_agent();
  bool missed = false;
  harness.receiver->connect();
  harness.reader->meanwhile = [&] {  // in the middle of the step that begins the stream
    if (missed) return;
    missed = true;
    harness.capture->miss_first_program(1);
    harness.write(0, 4096, 4096);
  };
  REQUIRE(harness.settle());
  CHECK(missed);
  CHECK(harness.receiver->store.position.generation == 2);
  CHECK(harness.receiver->store.position.disks == harness.replicator_options.disks);
  CHECK(harness.replica_equals_disk());
}

TEST_CASE("a mark stands behind everything captured before it and is answered when it is durable") {
  auto harness = realtime();
  harness->write(0, 4096, 4096);
  std::optional<Result<Seq>> answer;
  harness->replicator->request_mark({"before-upgrade", Consistency::kApplication}, harness->clock.boot + 1'000'000'000,
                                    [&](Result<Seq> result) { answer = std::move(result); });
  harness->write(0, 8192, 4096);
  harness->step();
  CHECK_FALSE(answer.has_value());
  REQUIRE(harness->settle());
  REQUIRE(answer.has_value());
  REQUIRE(answer->ok());
  REQUIRE(harness->receiver->store.marks.size() == 1);
  CHECK(harness->receiver->store.marks[0].first == answer->value());
  CHECK(harness->receiver->store.marks[0].second.name == "before-upgrade");
  CHECK(harness->receiver->store.marks[0].second.consistency == Consistency::kApplication);
}

TEST_CASE("a mark stands before everything captured after its request, also when the session has to go back") {
  for (const bool cut : {false, true}) {
    CAPTURE(cut);
    auto harness = realtime();
    harness->write(0, 4096, 4096);
    const auto at_mark = harness->capture->disk_bytes(0);
    const std::vector<std::byte> wanted(at_mark.begin(), at_mark.end());
    std::vector<Result<Seq>> answers;
    harness->replicator->request_mark({"m", Consistency::kCrash}, harness->clock.boot + 60'000'000'000,
                                      [&](Result<Seq> result) { answers.push_back(std::move(result)); });
    for (int i = 0; i < 20; ++i) harness->write(0, 4096, 4096);
    if (cut) {
      harness->step();
      harness->receiver->cut(false);
      harness->step();
      harness->receiver->connect();
    }
    REQUIRE(harness->settle());
    REQUIRE(answers.size() == 1);
    REQUIRE(answers[0].ok());
    const auto& content = harness->receiver->store.content_at_mark;
    REQUIRE(content.contains("m"));
    CHECK(content.at("m") == wanted);
    CHECK(harness->replica_equals_disk());
  }
}

TEST_CASE("the stream waits at a mark until it is described") {
  auto harness = realtime();
  harness->write(0, 4096, 4096);
  std::optional<MarkInfo> description;
  std::optional<Result<Seq>> answer;
  harness->replicator->request_mark_described_later(
      "m", [&] { return description; }, harness->clock.boot + 60'000'000'000,
      [&](Result<Seq> result) { answer = std::move(result); });
  harness->write(0, 8192, 4096);
  for (int i = 0; i < 10; ++i) harness->step();
  CHECK(harness->replicator->status().backlog_bytes > 0);
  CHECK_FALSE(answer.has_value());
  CHECK(harness->receiver->store.marks.empty());
  description = MarkInfo{"m", Consistency::kCrash, "hook 'x' failed"};
  REQUIRE(harness->settle());
  REQUIRE(answer.has_value());
  CHECK(answer->ok());
  REQUIRE(harness->receiver->store.marks.size() == 1);
  CHECK(harness->receiver->store.marks[0].second.reason == "hook 'x' failed");
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("a mark that is never described goes at its deadline, and the stream goes on") {
  auto harness = realtime();
  std::optional<Result<Seq>> answer;
  harness->replicator->request_mark_described_later(
      "m", [] { return std::optional<MarkInfo>(); }, harness->clock.boot + 20'000'000,
      [&](Result<Seq> result) { answer = std::move(result); });
  harness->write(0, 8192, 4096);
  REQUIRE(harness->settle());
  REQUIRE(answer.has_value());
  CHECK(answer->error().kind() == ErrorKind::kTimeout);
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("a mark in a gap, or without a receiver, is refused in words") {
  Harness harness;
  std::optional<Result<Seq>> answer;
  const auto ask = [&](std::uint64_t wait_ns) {
    answer.reset();
    harness.replicator->request_mark({"m", Consistency::kCrash}, harness.clock.boot + wait_ns,
                                     [&](Result<Seq> result) { answer = std::move(result); });
  };
  ask(2'000'000);
  for (int i = 0; i < 5; ++i) harness.step();
  REQUIRE(answer.has_value());
  CHECK(answer->error().kind() == ErrorKind::kTimeout);
  harness.receiver->connect();
  harness.step();
  ask(1'000'000'000);
  harness.step();
  REQUIRE(answer.has_value());
  CHECK(answer->error().kind() == ErrorKind::kBusy);
  ask(60'000'000'000);
  harness.receiver->cut(false);
  harness.step();
  harness.stop_agent();
  REQUIRE(answer.has_value());
  CHECK(answer->error().kind() == ErrorKind::kClosed);
  harness.start_agent();
}

TEST_CASE("a receiver on this machine with its store on a protected disk is refused by name") {
  Harness harness;
  harness.stop_agent();
  harness.replicator_options.boot_id = Uuid::random();
  harness.start_agent();
  harness.receiver->boot_id = harness.replicator_options.boot_id;
  harness.receiver->store_devices = {harness.tracker->disks()[0].device};
  harness.receiver->connect();
  harness.step();
  CHECK(harness.replicator->phase() == Phase::kError);
  const ReplicationStatus status = harness.replicator->status();
  REQUIRE(status.errors.size() == 1);
  CHECK(status.errors[0].find("/dev/sim0") != std::string::npos);
  for (int i = 0; i < 20; ++i) harness.step();
  CHECK(harness.receiver->queued() == 0);
  // Elsewhere it is none of our business; and it goes away with the receiver.
  harness.receiver->cut(false);
  harness.receiver->store_devices = {99};
  harness.receiver->connect();
  REQUIRE(harness.settle());
}

TEST_CASE("a store of another epoch is refused: somebody else is the writer") {
  auto harness = realtime();
  harness->receiver->cut(true);
  harness->receiver->store.position.epoch = 7;
  harness->receiver->connect();
  harness->step();
  CHECK(harness->replicator->phase() == Phase::kError);
  CHECK(harness->replicator->status().errors[0].find("epoch 7") != std::string::npos);
  CHECK(harness->receiver->queued() == 0);
}

TEST_CASE("a disk that changes its size stops its replication by name; nothing captured is lost") {
  auto harness = realtime();
  harness->reader->sizes[0] = 512 << 10;
  harness->step(5'000'000'000);
  CHECK(harness->replicator->phase() == Phase::kError);
  CHECK(harness->replicator->status().errors[0].find("/dev/sim0") != std::string::npos);
  CHECK(harness->told(Kind::kDiskChanged));
  harness->write(0, 4096, 4096);
  for (int i = 0; i < 20; ++i) harness->step();
  CHECK(harness->replicator->status().backlog_bytes > 4096);
  CHECK(*harness->replicator->status().rpo_now_ns > 0);
  harness->reader->sizes.clear();
  harness->step(5'000'000'000);
  CHECK(harness->replicator->phase() == Phase::kRealtime);
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  harness->reader->vanished.insert(0);
  harness->step(5'000'000'000);
  CHECK(harness->replicator->phase() == Phase::kError);
}

TEST_CASE("what cannot be read stays in the gap, is named once, and is never replaced by zeros") {
  Harness harness;
  harness.write(0, 0, 128 << 10);
  harness.reader->bad_offsets = {40960 + 700};
  harness.receiver->connect();
  CHECK_FALSE(harness.settle(3000));
  CHECK(harness.receiver->store.position.gap_open);
  CHECK(harness.replicator->status().unreadable_bytes == 4096);
  REQUIRE(harness.told(Kind::kDiskReadFailed));
  for (const auto& event : harness.events) {
    if (event.kind == Kind::kDiskReadFailed) {
      CHECK(event.text.find("'/dev/sim0' at offset 40960") != std::string::npos);
    }
  }
  // All the rest is there already.
  const auto content = harness.receiver->store.content(0);
  const auto disk = harness.capture->disk_bytes(0);
  CHECK(std::equal(disk.begin(), disk.begin() + 40960, content.begin()));
  CHECK(std::equal(disk.begin() + 45056, disk.end(), content.begin() + 45056));
  harness.reader->bad_offsets.clear();
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.replicator->status().unreadable_bytes == 0);
}

TEST_CASE("captured writes go before copies, and a slow link holds back copies first") {
  Harness harness({.disk_bytes = {1 << 20}, .ring_bytes = 4 << 20});
  harness.stop_agent();
  harness.replicator_options.stream.batch_payload_bytes_max = 16 << 10;
  harness.replicator_options.copy_window_bytes = 32 << 10;
  harness.replicator_options.link_window_bytes = 256 << 10;
  harness.start_agent();
  harness.write(0, 0, 1 << 20);
  harness.receiver->connect();
  for (int i = 0; i < 200; ++i) {  // nothing travels
    harness.step();
    harness.reader->progress(harness.random, 64);
  }
  CHECK(harness.receiver->statistics().queued_bytes <= (32 << 10) + (16 << 10));
  for (int i = 0; i < 100; ++i) {
    harness.write(0, static_cast<std::uint64_t>(i) * 4096, 4096);
    harness.step();
    harness.step(6'000'000);
  }
  const std::uint64_t queued = harness.receiver->statistics().queued_bytes;
  CHECK(queued > 128 << 10);
  CHECK(queued <= (256 << 10) + (16 << 10));
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
}

TEST_CASE("stop sends what was captured and says when it is acknowledged") {
  auto harness = realtime();
  harness->write(0, 4096, 4096);
  harness->replicator->request_stop();
  harness->step();
  CHECK_FALSE(harness->replicator->stop_complete());
  harness->receiver->travel(9);
  harness->receiver->commit(9);
  harness->step();
  CHECK(harness->replicator->stop_complete());
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("an idle replicator sends nothing, sleeps, and says the same trouble once") {
  auto harness = realtime();
  for (int i = 0; i < 10; ++i) harness->step();
  const std::uint64_t sent = harness->receiver->statistics().batches_sent;
  harness->events.clear();
  for (int i = 0; i < 100; ++i) {
    const StepResult result = harness->step(1'000'000'000);
    CHECK(result.wait == StepResult::Wait::kEvents);
    CHECK(result.until_ns >= harness->clock.boot);
  }
  CHECK(harness->receiver->idle());
  CHECK(harness->receiver->statistics().batches_sent == sent);
  CHECK(harness->events.empty());
  harness->receiver->refuse("no such server");
  for (int i = 0; i < 5; ++i) {
    harness->step(30'000'000'000);
    harness->receiver->refuse("no such server");
  }
  std::size_t told = 0;
  for (const auto& event : harness->events) told += event.kind == Kind::kLinkRefused;
  CHECK(told == 1);
  CHECK(harness->replicator->phase() == Phase::kError);
}

TEST_CASE("a notice of the receiver is shown as long as it holds") {
  auto harness = realtime();
  harness->receiver->notice(true, "its disk is full");
  harness->step();
  CHECK(harness->replicator->status().notice == "its disk is full");
  harness->receiver->notice(false, "there is room again");
  harness->step();
  CHECK(harness->replicator->status().notice.empty());
}

}  // namespace understudy
