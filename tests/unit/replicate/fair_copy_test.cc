// SPDX-License-Identifier: Apache-2.0
// Copies under a write load that the link cannot take: they have their share, so the copy advances and, when the load
// falls or keeps to a part of the disk that is collapsed in the dirty map, ends.
#include "tests/unit/replicate/replicate_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kDiskBytes = 1 << 20;

struct Overload {
  std::uint64_t seed = 1;
  std::uint32_t share_percent = 25;
  std::uint64_t hot_bytes = 256 << 10;  // what is written: the beginning of the disk
  std::uint32_t writes_per_turn = 4;    // of 4 KiB; the link takes about two
};

// A first full copy while the host writes faster than the link takes.
class OverloadedCopy {
 public:
  explicit OverloadedCopy(const Overload& overload)
      : overload_(overload),
        random_(overload.seed),
        harness_({.disk_bytes = {kDiskBytes}, .ring_bytes = 64 << 10, .buffers = 4, .buffer_bytes = 16 << 10}) {
    harness_.stop_agent();
    harness_.replicator_options.copy_share_percent = overload.share_percent;
    harness_.replicator_options.link_window_bytes = 64 << 10;
    harness_.replicator_options.copy_window_bytes = 8 << 10;
    harness_.replicator_options.stream.batch_payload_bytes_max = 8 << 10;
    harness_.start_agent();
    harness_.write(0, 0, 16 << 10);
    for (std::uint64_t at = 0; at < kDiskBytes; at += 64 << 10) {  // no zeros: they would be copied for nothing
      const auto data = harness_.bytes(64 << 10);
      harness_.capture->write(0, at, data);
    }
    harness_.receiver->connect();
  }

  void turn() {
    for (std::uint32_t i = 0; i < overload_.writes_per_turn; ++i) {
      harness_.write(0, random_() % (overload_.hot_bytes / 4096) * 4096, 4096);
      written_bytes_ += 4096;
    }
    harness_.reader->written = written_bytes_;
    harness_.step();
    harness_.reader->progress(random_, 1000);
    harness_.receiver->travel(1);
    harness_.receiver->commit(1);
    harness_.clock.boot += 10'000'000;
  }

  Harness& harness() { return harness_; }
  std::uint64_t copied() const { return harness_.receiver->store.copied_bytes; }
  std::uint64_t sent() const { return harness_.receiver->statistics().raw_bytes_sent; }

 private:
  Overload overload_;
  std::mt19937_64 random_;
  Harness harness_;
  std::uint64_t written_bytes_ = 0;
};

}  // namespace

TEST_CASE("under any write load copies get their share of what is sent") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Overload overload{.seed = seed, .share_percent = 10 + static_cast<std::uint32_t>(seed % 4) * 5};
    overload.hot_bytes = (64u << 10) << (seed % 4);
    overload.writes_per_turn = 3 + static_cast<std::uint32_t>(seed % 5);
    CAPTURE(overload.share_percent);
    OverloadedCopy copy(overload);
    for (int i = 0; i < 60; ++i) copy.turn();
    // In the middle of it, so that what the queue holds at both ends does not count.
    const std::uint64_t copied_before = copy.copied();
    const std::uint64_t sent_before = copy.sent();
    std::uint64_t turns = 0;
    while (copy.sent() - sent_before < (2u << 20)) {
      REQUIRE(++turns < 5000);
      copy.turn();
    }
    const std::uint64_t copied = copy.copied() - copied_before;
    const std::uint64_t sent = copy.sent() - sent_before;
    // Buffers : (ring and queue) is 1 : 2 here, so the share asked for is what bounds it; one chunk may be missing.
    REQUIRE(copied + (16u << 10) >= sent * overload.share_percent / 100);
    // And events are not starved by copies either.
    REQUIRE(copied <= sent * (overload.share_percent + 15) / 100);
    REQUIRE(copy.harness().tracker->losses().ring_full > 0);
  }
}

TEST_CASE("an overloaded copy converges when the load falls, and status says why not before") {
  OverloadedCopy copy({.seed = 7});
  for (int i = 0; i < 500; ++i) copy.turn();
  Harness& harness = copy.harness();
  CHECK_FALSE(harness.receiver->store.whole());
  ReplicationStatus status;
  for (int i = 0; i < 500; ++i) {
    copy.turn();
    if (i % 50 == 0) status = harness.replicator->status();
  }
  status = harness.replicator->status();
  CHECK(status.overloaded);
  REQUIRE(status.host_bytes_per_second.has_value());
  CHECK(*status.host_bytes_per_second > status.raw_bytes_per_second);
  CHECK(overload_text(status).find("exceeds link") != std::string::npos);
  CHECK(status_line(status).find(overload_text(status)) != std::string::npos);
  // Cold data was all copied meanwhile: what is still to be copied lies in the hot quarter.
  CHECK(harness.tracker->dirty().pending_count(0) * 4096 <= (256u << 10) + (64u << 10));
  REQUIRE(harness.settle());
  CHECK(harness.replica_equals_disk());
  harness.step(10'000'000'000);
  (void)harness.replicator->status();
  for (int i = 0; i < 8; ++i) {
    harness.step(1'000'000'000);
    (void)harness.replicator->status();
  }
  CHECK_FALSE(harness.replicator->status().overloaded);
}

TEST_CASE("no share: events always first, as a link that is fast enough wants it") {
  OverloadedCopy copy({.seed = 3, .share_percent = 0});
  for (int i = 0; i < 300; ++i) copy.turn();
  CHECK(copy.copied() < copy.sent() / 10);
}

}  // namespace understudy
