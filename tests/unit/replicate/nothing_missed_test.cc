// SPDX-License-Identifier: Apache-2.0
// What may go wrong between two lives of an agent or a receiver, and the reaction that is right: nothing, a resync of
// what is dirty, a new generation. Random mixtures are in replicator_property_test.cc.
#include "tests/unit/replicate/replicate_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

std::unique_ptr<Harness> realtime(const HarnessOptions& options = {}) {
  auto harness = std::make_unique<Harness>(options);
  for (std::uint64_t at = 0; at < options.disk_bytes[0]; at += 64 << 10) harness->write(0, at, 64 << 10);
  harness->receiver->connect();
  REQUIRE(harness->settle());
  return harness;
}

void come_back(Harness& harness) {
  harness.start_agent();
  harness.receiver->connect();
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
}

}  // namespace

TEST_CASE("a reboot: a new generation, everything is verified, what nobody saw is found") {
  for (const bool digests : {false, true}) {
    CAPTURE(digests);
    auto harness = realtime({.digests = digests});
    const ModelStore before = harness->receiver->store;
    harness->stop_agent();
    harness->capture->reboot();
    harness->capture->write_unseen(0, 8192, harness->bytes(4096));
    come_back(*harness);
    CHECK(harness->receiver->store.position.generation == before.position.generation + 1);
    CHECK(harness->receiver->store.copied_bytes - before.copied_bytes == (digests ? kDigestLeafBytes : 256 << 10));
    CHECK(harness->receiver->store.gaps == before.gaps + 1);
  }
}

TEST_CASE("an agent away with its capture going on: nothing; with an overflow: what is dirty") {
  auto harness = realtime({.disk_bytes = {256 << 10}, .ring_bytes = 64 << 10});
  const ModelStore before = harness->receiver->store;
  harness->stop_agent();
  harness->write(0, 4096, 4096);
  come_back(*harness);
  CHECK(harness->receiver->store.gaps == before.gaps);
  CHECK(harness->receiver->store.copied_bytes == before.copied_bytes);
  harness->stop_agent();
  for (int i = 0; i < 40; ++i) harness->write(0, static_cast<std::uint64_t>(i % 16) * 4096, 4096);
  come_back(*harness);
  CHECK(harness->receiver->store.gaps == before.gaps + 1);
  CHECK(harness->receiver->store.copied_bytes - before.copied_bytes <= 16 * 4096);
  CHECK(harness->receiver->store.position.generation == before.position.generation);
}

TEST_CASE("an older store that lacks copies only is known by what the ring keeps, also to a new agent") {
  for (const bool killed : {false, true}) {
    CAPTURE(killed);
    Harness harness({.disk_bytes = {1 << 20}});
    const auto content = harness.bytes(1 << 20);
    harness.capture->write_unseen(0, 0, content);  // no event tells of it: the ring is empty all the time
    harness.receiver->connect();
    for (int i = 0; i < 2000 && harness.receiver->store.copied_bytes < (300u << 10); ++i) {
      harness.step();
      harness.reader->progress(harness.random, 8);
      harness.receiver->travel(1);
      harness.receiver->commit(1);
    }
    const ModelStore older = harness.receiver->store;
    REQUIRE(older.copied_bytes < 1u << 20);
    REQUIRE(harness.settle());
    const std::uint64_t generation = harness.receiver->store.position.generation;
    if (killed) {
      harness.stop_agent();
    } else {
      harness.receiver->cut(true);
      harness.step();
    }
    harness.receiver->store = older;
    if (killed) harness.start_agent();
    harness.receiver->connect();
    REQUIRE(harness.settle());
    CHECK(harness.replica_equals_disk());
    CHECK(harness.receiver->store.position.generation == generation + 1);
  }
}

TEST_CASE("a disk that grew or was added: only what is new is copied, in a gap; the shape is in the stream") {
  auto harness = realtime();
  const ModelStore before = harness->receiver->store;
  harness->stop_agent();
  harness->grow_disk(0, harness->bytes(128 << 10));
  come_back(*harness);
  CHECK(harness->receiver->store.copied_bytes - before.copied_bytes == 128 << 10);
  CHECK(harness->receiver->store.gaps == before.gaps + 1);
  CHECK(harness->receiver->store.position.disks[0].size_bytes == 384 << 10);
  CHECK(harness->receiver->store.position.generation == before.position.generation);
  harness->stop_agent();
  harness->add_disk(harness->bytes(64 << 10));
  harness->start_agent();
  harness->receiver->connect();
  harness->step();
  harness->step(6'000'000);
  harness->receiver->travel(64);
  harness->receiver->commit(64);
  CHECK(harness->receiver->store.position.disks.size() == 2);
  CHECK(harness->receiver->store.position.gap_open);  // no point claims the new disk before it is there
  CHECK(harness->replicator->replication_state().state == ReplicationStateName::kRealtimeStarting);
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  CHECK(harness->receiver->store.copied_bytes - before.copied_bytes == 192 << 10);
  CHECK(harness->receiver->store.position.generation == before.position.generation);
}

}  // namespace understudy
