// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/dirty_map.h"

#include <doctest/doctest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace understudy {
namespace {

constexpr std::uint32_t kGranule = 64 * 1024;

struct Fixture {
  // 20 granules, the last one half; a second disk right behind.
  std::vector<std::uint64_t> memory = std::vector<std::uint64_t>(8);
  std::uint32_t all_dirty = 0;
  GranuleMap map{{region(0, 0), region(3, 32)}};

  DirtyRegion region(std::uint16_t disk, std::size_t at) {
    return {disk, reinterpret_cast<std::uint8_t*>(memory.data()) + at, 19 * kGranule + kGranule / 2, kGranule,
            disk == 0 ? &all_dirty : nullptr};
  }
  std::uint8_t& state(std::size_t granule) { return reinterpret_cast<std::uint8_t*>(memory.data())[granule]; }
};

TEST_CASE("marking an extent marks every granule it touches, of its disk only") {
  Fixture f;
  f.map.mark(0, kGranule - 512, 1024);
  f.map.mark(0, 5 * kGranule, kGranule);
  CHECK(f.map.dirty_count(0) == 3);
  CHECK(f.map.dirty_count(3) == 0);
  f.map.mark(3, 0, ~std::uint64_t{0});
  CHECK(f.map.dirty_count(3) == 20);
  f.map.mark(0, 20 * kGranule, 512);  // behind the end
  f.map.mark(0, 7 * kGranule, 0);
  CHECK(f.map.dirty_count(0) == 3);
}

TEST_CASE("claims come as runs, in order, no longer than asked for") {
  Fixture f;
  f.map.mark(0, 2 * kGranule, 5 * kGranule);
  f.map.mark(0, 19 * kGranule, 512);
  auto first = f.map.claim_next(0, 0, 3);
  REQUIRE(first.has_value());
  CHECK(first->first == 2);
  CHECK(first->count == 3);
  auto second = f.map.claim_next(0, 0, 100);
  REQUIRE(second.has_value());
  CHECK(second->first == 5);
  CHECK(second->count == 2);
  auto last = f.map.claim_next(0, 7, 100);
  REQUIRE(last.has_value());
  CHECK(last->first == 19);
  CHECK(last->count == 1);
  CHECK(!f.map.claim_next(0, 0, 1).has_value());
  CHECK(!f.map.claim_next(0, 20, 1).has_value());
  CHECK(f.map.dirty_count(0) == 0);
  CHECK(f.map.pending_count(0) == 6);
}

TEST_CASE("what became dirty while it was claimed stays dirty when the claim is finished") {
  Fixture f;
  f.map.mark(0, 0, 4 * kGranule);
  auto range = f.map.claim_next(0, 0, 4);
  f.map.mark(0, 2 * kGranule, 1);
  f.map.finish(*range);
  CHECK(f.map.pending_count(0) == 1);
  CHECK(f.map.dirty_count(0) == 1);
  auto again = f.map.claim_next(0, 0, 4);
  REQUIRE(again.has_value());
  CHECK(again->first == 2);
  f.map.unclaim(*again);
  CHECK(f.map.dirty_count(0) == 1);
}

TEST_CASE("after an agent died every claim is dirty again") {
  Fixture f;
  f.map.mark(0, 0, 20 * kGranule);
  f.map.mark(3, 3 * kGranule, 1);
  REQUIRE(f.map.claim_next(0, 0, 10).has_value());
  REQUIRE(f.map.claim_next(3, 0, 10).has_value());
  GranuleMap next_agent({f.region(0, 0), f.region(3, 32)});
  next_agent.unclaim_all();
  CHECK(next_agent.dirty_count(0) == 20);
  CHECK(next_agent.dirty_count(3) == 1);
}

TEST_CASE("an extent too long to mark makes every granule dirty before anything is claimed or counted") {
  Fixture f;
  f.map.mark(0, 0, 2 * kGranule);
  f.map.finish(*f.map.claim_next(0, 0, 1));
  f.all_dirty = 1;
  CHECK(f.map.dirty_count(0) == 20);
  CHECK(f.all_dirty == 0);
  f.map.finish(*f.map.claim_next(0, 0, 100));
  CHECK(f.map.pending_count(0) == 0);
  f.all_dirty = 2;  // an agent died while it folded
  auto range = f.map.claim_next(0, 0, 100);
  REQUIRE(range.has_value());
  CHECK(range->count == 20);
  CHECK(f.state(20) == 0);
}

TEST_CASE("no loss is overwritten while another thread marks") {
  Fixture f;
  std::atomic<bool> stop{false};
  std::vector<std::atomic<std::uint64_t>> marked(20), seen(20);
  std::thread kernel([&] {
    std::mt19937 random(1);
    for (int i = 0; i < 200'000; ++i) {
      const std::size_t granule = random() % 20;
      marked[granule].fetch_add(1);                              // the data changes ...
      std::atomic_ref<std::uint8_t>(f.state(granule)).store(1);  // ... and then the granule is marked
    }
    stop.store(true);
  });
  const auto pass = [&] {
    std::uint64_t from = 0;
    while (const auto range = f.map.claim_next(0, from, 4)) {
      for (std::uint64_t i = range->first; i < range->first + range->count; ++i) seen[i].store(marked[i].load());
      f.map.finish(*range);
      from = range->first + range->count;
    }
  };
  while (!stop.load()) pass();
  kernel.join();
  pass();
  for (std::size_t i = 0; i < 20; ++i) CHECK(seen[i].load() == marked[i].load());
  CHECK(f.map.pending_count(0) == 0);
}

}  // namespace
}  // namespace understudy
