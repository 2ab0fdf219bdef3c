// SPDX-License-Identifier: Apache-2.0
// Full copies that leave out what a survey found to be free, with writes and losses at every moment.
#include "daemon/replicate/left_out.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "tests/unit/replicate/replicate_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kGranule = 4 << 10;
constexpr std::uint64_t kGranules = 64;
constexpr std::uint64_t kWaitNs = 100'000'000;

// A disk full of bytes that no event tells of, and a replicator that asks for surveys.
std::unique_ptr<Harness> surveyed(std::uint64_t wait_ns = kWaitNs) {
  auto harness = std::make_unique<Harness>(HarnessOptions{.disk_bytes = {kGranules * kGranule}});
  harness->stop_agent();
  harness->replicator_options.survey_wait_ns = wait_ns;
  harness->start_agent();
  for (std::uint64_t i = 0; i < kGranules; ++i) harness->write(0, i * kGranule, kGranule);
  harness->receiver->connect();
  return harness;
}

std::uint64_t requested(Harness& harness) {
  for (int i = 0; i < 10; ++i) {
    harness.step();
    if (const auto request = harness.replicator->take_survey_request()) return *request;
  }
  FAIL("no survey was asked for");
  return 0;
}

bool granule_equals_disk(const Harness& harness, std::uint64_t granule) {
  const auto disk = harness.capture->disk_bytes(0);
  const auto replica = harness.receiver->store.content(0);
  return std::equal(disk.begin() + static_cast<std::ptrdiff_t>(granule * kGranule),
                    disk.begin() + static_cast<std::ptrdiff_t>((granule + 1) * kGranule),
                    replica.begin() + static_cast<std::ptrdiff_t>(granule * kGranule));
}

void check_copied_but(const Harness& harness, std::uint64_t first, std::uint64_t count) {
  for (std::uint64_t i = 0; i < kGranules; ++i) {
    CAPTURE(i);
    CHECK(granule_equals_disk(harness, i) == (i < first || i >= first + count));
  }
}

}  // namespace

TEST_CASE("left out: free granules are not copied, and the total says so") {
  const auto harness = surveyed();
  harness->replicator->leave_out(requested(*harness), {{0, 10, 30}});
  REQUIRE(harness->settle());
  check_copied_but(*harness, 10, 30);
  CHECK(harness->receiver->store.copied_bytes == (kGranules - 30) * kGranule);
  const ReplicationStatus status = harness->replicator->status();
  CHECK(status.copy_left_out_bytes == 30 * kGranule);
  CHECK(status.copy_total_bytes == (kGranules - 30) * kGranule);
  CHECK(status.copy_done_bytes == status.copy_total_bytes);
  CHECK_FALSE(harness->replicator->take_survey_request());
}

TEST_CASE("left out: a write to free space after the survey began is in the replica") {
  const auto harness = surveyed();
  const std::uint64_t request = requested(*harness);
  harness->write(0, 12 * kGranule, kGranule);
  harness->replicator->leave_out(request, {{0, 10, 30}});
  harness->write(0, 13 * kGranule, kGranule);
  harness->step();
  harness->write(0, 14 * kGranule, kGranule);
  REQUIRE(harness->settle());
  for (const std::uint64_t granule : {12, 13, 14}) CHECK(granule_equals_disk(*harness, granule));
  CHECK_FALSE(granule_equals_disk(*harness, 15));
}

TEST_CASE("left out: after a lost write the survey is made again, a few times, then everything is copied") {
  const auto harness = surveyed();
  std::uint64_t last = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const std::uint64_t request = requested(*harness);
    CHECK(request != last);
    last = request;
    harness->capture->skip_next(1);
    harness->write(0, 20 * kGranule, kGranule);
    harness->replicator->leave_out(request, {{0, 10, 30}});
    for (int i = 0; i < 60; ++i) {
      harness->step();
      harness->reader->progress(harness->random, 64);
    }
  }
  CHECK_FALSE(harness->replicator->take_survey_request());
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
  CHECK(harness->replicator->status().copy_left_out_bytes == 0);
}

TEST_CASE("left out: copying waits so long and no longer; a late answer still counts") {
  const auto harness = surveyed();
  const std::uint64_t request = requested(*harness);
  for (int i = 0; i < 50; ++i) harness->step();
  CHECK(harness->reader->in_progress() == 0);
  harness->step(kWaitNs);
  harness->step();
  CHECK(harness->reader->in_progress() > 0);
  harness->replicator->leave_out(request, {{0, 40, 20}});
  REQUIRE(harness->settle());
  check_copied_but(*harness, 40, 20);
}

TEST_CASE("left out: no answer at all is a full copy, and an answer to an older question is ignored") {
  const auto harness = surveyed();
  const std::uint64_t request = requested(*harness);
  harness->receiver->cut(false);
  harness->step();
  harness->receiver->connect();
  const std::uint64_t newer = requested(*harness);
  CHECK(newer != request);
  harness->replicator->leave_out(request, {{0, 0, kGranules}});
  REQUIRE(harness->settle(20000));
  CHECK(harness->replica_equals_disk());
  harness->replicator->leave_out(newer, {{0, 0, kGranules}});
  harness->write(0, 0, kGranule);
  REQUIRE(harness->settle());
  CHECK(harness->replica_equals_disk());
}

TEST_CASE("left out: what was left out stays so over a lost connection") {
  const auto harness = surveyed();
  harness->replicator->leave_out(requested(*harness), {{0, 10, 30}});
  for (int i = 0; i < 60; ++i) {
    harness->step();
    harness->receiver->travel(1);
    harness->receiver->commit(1);
  }
  CHECK(harness->replicator->status().copy_left_out_bytes == 30 * kGranule);
  harness->receiver->cut(false);
  harness->step();
  harness->receiver->connect();
  REQUIRE(harness->settle(20000));
  check_copied_but(*harness, 10, 30);
}

TEST_CASE("left out: a resync copies what is dirty, free or not; a disk that is gone is passed over") {
  const auto harness = surveyed();
  harness->replicator->leave_out(requested(*harness), {{7, 0, 10}, {0, 60, 500}});
  REQUIRE(harness->settle());
  check_copied_but(*harness, 60, 4);
  harness->capture->skip_next(1);
  harness->write(0, 61 * kGranule, kGranule);
  harness->step();
  CHECK_FALSE(harness->replicator->take_survey_request());
  REQUIRE(harness->settle());
  CHECK(granule_equals_disk(*harness, 61));
}

namespace {

// A file system of granules: what it says is free it does not ask for again before it has written it.
class History {
 public:
  explicit History(std::uint64_t seed)
      : random_(seed), harness_(surveyed(1 + random_() % 60'000'000)), irrelevant_(kGranules * kSectors) {
    harness_->tracker->meanwhile = [this] {
      if (random_() % 200 == 0) submit();
    };
  }

  void run() {
    const int turns = 50 + static_cast<int>(random_() % 150);
    for (int i = 0; i < turns; ++i) turn();
    harness_->tracker->meanwhile = nullptr;
    for (const Write& write : in_flight_) harness_->capture->complete(write.identity);
    for (int i = 0; i < 10000 && !harness_->settle(1); ++i) {
      if (const auto asked = harness_->replicator->take_survey_request()) harness_->replicator->leave_out(*asked, {});
    }
    REQUIRE(harness_->settle());
    left_out_bytes = harness_->replicator->status().copy_left_out_bytes;
    const auto disk = harness_->capture->disk_bytes(0);
    const auto replica = harness_->receiver->store.content(0);
    for (std::uint64_t sector = 0; sector < irrelevant_.size(); ++sector) {
      const auto at = static_cast<std::ptrdiff_t>(sector * 512);
      if (std::equal(disk.begin() + at, disk.begin() + at + 512, replica.begin() + at)) continue;
      CAPTURE(sector);
      REQUIRE(irrelevant_[sector]);
    }
  }

  std::uint64_t left_out_bytes = 0;

 private:
  static constexpr std::uint64_t kSectors = kGranule / 512;
  struct Write {
    std::uint64_t identity;
    std::uint64_t sector;
    std::uint64_t count;
  };

  void submit() {
    const std::uint64_t sector = random_() % (kGranules * kSectors - 3);
    const std::uint64_t count = 1 + random_() % 3;
    // Nobody may say which of two overlapping writes in flight a disk takes last.
    for (const Write& other : in_flight_) {
      if (sector < other.sector + other.count && other.sector < sector + count) return;
    }
    for (std::uint64_t i = 0; i < count; ++i) irrelevant_[sector + i] = false;
    if (random_() % 12 == 0) harness_->capture->skip_next(1);
    in_flight_.push_back(
        {harness_->capture->submit_write(0, sector * 512, harness_->bytes(count * 512)), sector, count});
  }

  void turn() {
    if (random_() % 8 == 0) submit();
    if (!in_flight_.empty() && random_() % 3 == 0) {
      const auto write = in_flight_.begin() + static_cast<std::ptrdiff_t>(random_() % in_flight_.size());
      harness_->capture->complete(write->identity);
      in_flight_.erase(write);
    }
    harness_->step();
    if (const auto asked = harness_->replicator->take_survey_request()) request_ = asked;
    if (request_ && random_() % 10 == 0) answer();
    if (random_() % 2 == 0) harness_->reader->progress(harness_->random, 4);
    if (random_() % 2 == 0) harness_->receiver->travel(2);
    if (random_() % 2 == 0) harness_->receiver->commit(2);
    if (random_() % 60 == 0) {
      harness_->receiver->cut(random_() % 2 == 0);
      harness_->step();
      harness_->receiver->connect();
    }
  }

  void answer() {
    std::vector<GranuleRange> free;
    for (std::uint64_t granule = 0; granule < kGranules; ++granule) {
      if (random_() % 2 == 0) continue;
      free.push_back({0, granule, 1});
      for (std::uint64_t i = 0; i < kSectors; ++i) irrelevant_[granule * kSectors + i] = true;
    }
    for (std::uint64_t late = random_() % 4; late > 0; --late) {  // the answer is under way
      submit();
      harness_->step();
    }
    harness_->replicator->leave_out(*request_, std::move(free));
    request_.reset();
  }

  std::mt19937_64 random_;
  std::unique_ptr<Harness> harness_;
  std::vector<bool> irrelevant_;  // per sector: free by an answer, and not written since
  std::optional<std::uint64_t> request_;
  std::vector<Write> in_flight_;
};

}  // namespace

TEST_CASE("left out: in random histories everything but unwritten free space is in the replica") {
  std::uint64_t with_something = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    History history(seed);
    history.run();
    with_something += history.left_out_bytes > 0 ? 1 : 0;
  }
  CHECK(with_something > 30);
}

}  // namespace understudy
