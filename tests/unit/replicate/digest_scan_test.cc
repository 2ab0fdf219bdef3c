// SPDX-License-Identifier: Apache-2.0
// Digest scans through the whole replicator, over a simulated capture, disk and receiver.
#include <algorithm>

#include "daemon/digest/compare_notice.h"
#include "tests/unit/replicate/replicate_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kMib = 1 << 20;

HarnessOptions large_disks() {
  HarnessOptions options;
  options.disk_bytes = {3 * kMib + 8192, kMib};
  options.granule_bytes = 64 << 10;
  options.buffer_bytes = 256 << 10;
  options.ring_bytes = 4 << 20;
  return options;
}

// As a reboot: what the store has is of a capture that nobody knows any more.
void become_new_capture(Harness& harness) {
  harness.stop_agent();
  harness.receiver->store.position.cursor.capture_id = Uuid::random();
  harness.start_agent();
}

void fill_and_copy(Harness& harness) {
  for (std::uint64_t at = 0; at < 3 * kMib; at += 64 << 10) harness.write(0, at, 64 << 10);
  harness.write(1, 0, 512 << 10);
  harness.receiver->connect();
  REQUIRE(harness.settle());
  REQUIRE(harness.replica_equals_disk());
}

void flip(Harness& harness, std::uint16_t disk, std::uint64_t offset) {
  ModelStore::Image& image = harness.receiver->store.images.at(disk);
  (image.in_journal[offset / 512] ? image.journal : image.base)[offset] ^= std::byte{1};
}

const ReplicatorEvent* difference(const Harness& harness) {
  for (const ReplicatorEvent& event : harness.events) {
    if (event.kind == ReplicatorEvent::Kind::kDigestDifference) return &event;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("after a crash, only what differs is sent") {
  Harness harness(large_disks());
  fill_and_copy(harness);
  become_new_capture(harness);
  flip(harness, 0, kMib + 70'000);
  flip(harness, 1, 100);
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  harness.receiver->connect();
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.copied_bytes - copied == 2 * (64 << 10));
  CHECK(harness.receiver->store.position.generation == 2);
  CHECK(difference(harness) == nullptr);  // after a crash nobody wonders
  CHECK(harness.replicator->status().digest.different_bytes == 2 * (64 << 10));
}

TEST_CASE("a whole equal replica is proved with next to nothing on the wire") {
  Harness harness(large_disks());
  fill_and_copy(harness);
  become_new_capture(harness);
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  harness.receiver->connect();
  REQUIRE(harness.settle());
  CHECK(harness.receiver->store.copied_bytes == copied);
  CHECK(harness.receiver->digest_wire_bytes * 1000 < 4 * kMib);
  CHECK(harness.replicator->status().proved_bytes == 4 * kMib + 8192);
}

TEST_CASE("a receiver that cannot compare gets a full copy") {
  Harness harness(large_disks());
  fill_and_copy(harness);
  become_new_capture(harness);
  harness.receiver->digests = false;
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  harness.receiver->connect();
  REQUIRE(harness.settle());
  CHECK(harness.receiver->store.copied_bytes - copied == 4 * kMib + 8192);
  CHECK(harness.receiver->questions_asked == 0);
}

TEST_CASE("when most of it differs, comparing is given up") {
  Harness harness(large_disks());
  harness.stop_agent();
  harness.replicator_options.digest.worthwhile_after_bytes = kMib;
  harness.replicator_options.digest.regions_max = 1;
  harness.start_agent();
  fill_and_copy(harness);
  become_new_capture(harness);
  for (std::uint64_t at = 0; at < 3 * kMib; at += 64 << 10) flip(harness, 0, at);
  harness.receiver->connect();
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.replicator->status().digest.given_up);
}

TEST_CASE("writes and losses during the scan: the replica becomes the disk") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Harness harness(large_disks());
    harness.random.seed(seed);
    fill_and_copy(harness);
    become_new_capture(harness);
    for (int i = 0; i < 5; ++i) flip(harness, 0, harness.random() % (3 * kMib));
    harness.receiver->connect();
    for (int i = 0; i < 300; ++i) {
      if (harness.random() % 3 == 0) {
        if (harness.random() % 6 == 0) harness.capture->skip_next(1);
        harness.write(0, harness.random() % (3 * kMib / 512) * 512, 512 * (1 + harness.random() % 16));
      }
      harness.step();
      harness.reader->progress(harness.random, 8);
      harness.digest_reader->progress(harness.random, static_cast<std::uint32_t>(harness.random() % 400));
      harness.receiver->travel(harness.random() % 3);
      harness.receiver->commit(harness.random() % 3);
    }
    REQUIRE(harness.settle());
    REQUIRE(harness.replica_equals_disk());
    CHECK(harness.receiver->answers_not_now == 0);
  }
}

TEST_CASE("a cut link in the middle: what was proved is not read again") {
  HarnessOptions options = large_disks();
  options.disk_bytes = {130 * kMib};
  Harness harness(options);
  harness.write(0, 0, kMib);
  harness.receiver->connect();
  REQUIRE(harness.settle(20'000));
  become_new_capture(harness);
  flip(harness, 0, 129 * kMib);
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  harness.receiver->connect();
  for (int i = 0; i < 20'000 && harness.replicator->status().digest.equal_bytes == 0; ++i) {
    harness.step();
    harness.digest_reader->progress(harness.random, 512);
    harness.receiver->travel(8);
    harness.receiver->commit(8);
  }
  REQUIRE(harness.replicator->digests().clearing());
  REQUIRE(harness.tracker->dirty().pending_count(0) < 130 * 16);
  harness.receiver->cut(true);
  harness.step();
  const std::uint64_t reads = harness.digest_reader->reads_done;
  harness.receiver->connect();
  REQUIRE(harness.settle(20'000));
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.copied_bytes - copied == 64 << 10);
  CHECK(harness.digest_reader->reads_done - reads <= 66);
}

TEST_CASE("what a scan cannot read is not equal: it stays dirty, and is copied or named") {
  Harness harness(large_disks());
  fill_and_copy(harness);
  become_new_capture(harness);
  flip(harness, 0, kMib + 70'000);
  harness.digest_reader->bad_offsets = {kMib + 70'000};
  harness.reader->bad_offsets = {kMib + 70'000};
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  harness.receiver->connect();
  CHECK_FALSE(harness.settle(1000));
  CHECK(harness.receiver->store.position.gap_open);
  CHECK(harness.replicator->status().digest.undecided_bytes == kMib);
  CHECK(harness.replicator->status().digest.equal_bytes == 3 * kMib + 8192);
  CHECK(harness.replicator->status().unreadable_bytes == (64 << 10));
  CHECK(harness.told(ReplicatorEvent::Kind::kDiskReadFailed));
  CHECK_FALSE(harness.replica_equals_disk());
  harness.reader->bad_offsets.clear();
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.copied_bytes - copied == kMib);  // what was beside it could not be compared, either
}

TEST_CASE("repair compares everything in a gap of its own and copies what differs") {
  Harness harness(large_disks());
  fill_and_copy(harness);
  flip(harness, 0, 5);
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  const std::uint64_t gaps = harness.receiver->store.gaps;
  std::optional<Result<DigestProgress>> done;
  harness.replicator->request_digest_scan(DigestPurpose::kRepair, [&](auto result) { done = std::move(result); });
  std::optional<Result<DigestProgress>> second;
  harness.replicator->request_digest_scan(DigestPurpose::kRepair, [&](auto result) { second = std::move(result); });
  REQUIRE(second);
  CHECK_FALSE(second->ok());
  harness.step();
  REQUIRE(harness.settle());
  REQUIRE(done);
  REQUIRE(done->ok());
  CHECK((*done)->different_bytes == 64 << 10);
  CHECK((*done)->equal_bytes == 4 * kMib + 8192 - (64 << 10));
  CHECK(harness.receiver->store.copied_bytes - copied == 64 << 10);
  CHECK(harness.receiver->store.gaps == gaps + 1);
  CHECK(harness.replica_equals_disk());
  REQUIRE(difference(harness) != nullptr);
  CHECK(difference(harness)->severity == ReplicatorEvent::Severity::kWarning);
}

TEST_CASE("an operator's repair in real time compares, and says so when it finds what nothing explains") {
  Harness harness(large_disks());
  fill_and_copy(harness);
  flip(harness, 0, 2 * kMib);
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  REQUIRE(harness.replicator->command(ReplicationCommand::kRepair).ok());
  CHECK(harness.replicator->command(ReplicationCommand::kRepair).error().kind() == ErrorKind::kBusy);
  harness.step();
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.copied_bytes - copied == 64 << 10);
  CHECK(harness.replicator->replication_state().state == ReplicationStateName::kRealtime);
  CHECK(difference(harness) != nullptr);
  harness.receiver->cut(true);
  harness.step();
  harness.receiver->digests = false;
  harness.receiver->connect();
  REQUIRE(harness.settle());
  const Status refused = harness.replicator->command(ReplicationCommand::kRepair);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message().find("cannot compare") != std::string::npos);
}

TEST_CASE("a difference that a lost write explains is no reason to doubt the replica") {
  Harness harness(large_disks());
  fill_and_copy(harness);
  REQUIRE(harness.replicator->command(ReplicationCommand::kRepair).ok());
  harness.step();
  REQUIRE(harness.replicator->digests().clearing());
  harness.capture->skip_next(1);
  harness.write(0, kMib, 4096);
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(difference(harness) == nullptr);
}

TEST_CASE("a repair leaves out what is free, and copies what only was free once") {
  HarnessOptions options = large_disks();
  Harness harness(options);
  harness.stop_agent();
  harness.replicator_options.survey_wait_ns = 1'000'000'000;
  harness.replicator_options.digest.scrub_enabled = true;
  harness.replicator_options.digest.scrub_period_ns = 1;
  harness.replicator_options.digest.scrub_bytes_per_second = 1 << 30;
  harness.start_agent();
  for (std::uint64_t at = 0; at < 3 * kMib; at += 64 << 10) harness.write(0, at, 64 << 10);
  // The survey of a full copy says that two granules are free, that of a repair only one.
  std::vector<GranuleRange> free = {{0, 20, 2}};
  const auto survey = [&] {
    if (const auto request = harness.replicator->take_survey_request()) harness.replicator->leave_out(*request, free);
  };
  const auto settle = [&] {
    harness.clock.boot += 2'000'000'000;  // figures are counted anew
    for (int i = 0; i < 400; ++i) {
      harness.step();
      survey();
      harness.reader->progress(harness.random, 64);
      harness.digest_reader->progress(harness.random, 4096);
      harness.receiver->travel(64);
      harness.receiver->commit(64);
    }
    REQUIRE(harness.settle());
  };
  harness.receiver->connect();
  settle();
  CHECK_FALSE(harness.replica_equals_disk());
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  const std::uint64_t whole = 4 * kMib + 8192;
  CHECK(harness.replicator->status().provable_bytes == whole - (128 << 10));
  harness.clock.boot += 2'000'000'000;
  CHECK(harness.replicator->status().proved_bytes == whole - (128 << 10));
  CHECK(difference(harness) == nullptr);  // and the scrub copies nothing
  CHECK(harness.receiver->store.copied_bytes == copied);
  free = {{0, 20, 1}};
  REQUIRE(harness.replicator->command(ReplicationCommand::kRepair).ok());
  settle();
  CHECK(harness.receiver->store.copied_bytes - copied == 64 << 10);
  CHECK(difference(harness) == nullptr);
  settle();
  harness.clock.boot += 2'000'000'000;
  harness.step();
  CHECK(harness.replicator->status().provable_bytes == whole - (64 << 10));
}

TEST_CASE("the scrub proves everything, and a flipped block is an alarm and is copied anew") {
  Harness harness(large_disks());
  harness.stop_agent();
  harness.replicator_options.digest.scrub_enabled = true;
  harness.replicator_options.digest.scrub_period_ns = 1;
  harness.replicator_options.digest.scrub_bytes_per_second = 1 << 30;
  harness.start_agent();
  fill_and_copy(harness);
  const auto turn = [&] {
    harness.step();
    harness.reader->progress(harness.random, 64);
    harness.digest_reader->progress(harness.random, 4096);
    harness.receiver->travel(8);
    harness.receiver->commit(8);
  };
  for (int i = 0; i < 2000 && harness.replicator->status().scrub_round_wall_ns == 0; ++i) turn();
  CHECK(harness.replicator->status().scrub_round_wall_ns != 0);
  harness.clock.boot += 2'000'000'000;
  CHECK(harness.replicator->status().proved_bytes == 4 * kMib + 8192);
  CHECK(difference(harness) == nullptr);
  flip(harness, 0, 2 * kMib + 3);
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  for (int i = 0; i < 4000 && difference(harness) == nullptr; ++i) turn();
  REQUIRE(difference(harness) != nullptr);
  CHECK(difference(harness)->severity == ReplicatorEvent::Severity::kError);
  CHECK(difference(harness)->text.find(" at offset 2097152 are not what the replica holds") != std::string::npos);
  CHECK(harness.receiver->store.copied_bytes == copied);
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.copied_bytes - copied == 64 << 10);
  CHECK(harness.receiver->store.position.generation == 1);
}

TEST_CASE("what the receiver has lost is compared at once, not when its turn comes") {
  Harness harness(large_disks());
  harness.stop_agent();
  harness.replicator_options.digest.scrub_enabled = true;
  harness.replicator_options.digest.scrub_period_ns = 365ull * 24 * 3600 * 1'000'000'000;  // no round comes that far
  harness.replicator_options.digest.scrub_region_bytes = kMib;
  harness.start_agent();
  fill_and_copy(harness);
  const auto turn = [&] {
    harness.step();
    harness.reader->progress(harness.random, 64);
    harness.digest_reader->progress(harness.random, 4096);
    harness.receiver->travel(8);
    harness.receiver->commit(8);
  };
  for (int i = 0; i < 300; ++i) turn();
  flip(harness, 0, 2 * kMib + 70'000);
  flip(harness, 0, 3 * kMib + 5000);
  for (int i = 0; i < 300; ++i) turn();
  REQUIRE(difference(harness) == nullptr);
  const std::uint64_t copied = harness.receiver->store.copied_bytes;
  // A part that is sound, a part of what is damaged, one behind the end of the disk and a disk that is not there.
  for (const CompareRequest& lost : {CompareRequest{0, kMib - 512, 1024}, {0, 2 * kMib + 65536, kMib - 65536},
                                     {0, 3 * kMib + 4096, 1 << 30}, {0, 1ull << 40, 512}, {7, 0, 512}})
    harness.receiver->notice(true, "lost", compare_notice_code(lost));
  for (int i = 0; i < 300 && difference(harness) == nullptr; ++i) turn();
  REQUIRE(difference(harness) != nullptr);
  CHECK(harness.replicator->status().notice.empty());
  REQUIRE(harness.settle());
  for (int i = 0; i < 300; ++i) turn();
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  CHECK(harness.receiver->store.copied_bytes - copied == (64 << 10) + 8192);
}

TEST_CASE("the code of a notice names an extent, or is another code") {
  const CompareRequest request{3, 1ull << 50, 65536};
  CHECK(compare_notice_code(request) == "compare:3:1125899906842624:65536");
  CHECK(parse_compare_notice(compare_notice_code(request)) == request);
  for (const char* code : {"", "compare", "store-full", "compare:0:0:0", "compare:64:0:1", "compare:0:0:1:",
                           "compare:::", "compare:0:-1:5", "compare:0:1152921504606846976:1",
                           "compare:0:5:18446744073709551615"}) {
    CAPTURE(code);
    CHECK_FALSE(parse_compare_notice(code));
  }
}

}  // namespace understudy
