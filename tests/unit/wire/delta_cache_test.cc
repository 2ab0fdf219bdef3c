// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/delta_cache.h"

#include <algorithm>

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

std::vector<std::byte> bytes_of(std::size_t count, unsigned value) {
  return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

void put(DeltaCache& cache, std::uint64_t block, unsigned value) {
  cache.store(0, block, 0, bytes_of(kDeltaBlockBytes, value), true);
}

bool all(std::span<const std::byte> data, unsigned value) {
  return std::all_of(data.begin(), data.end(), [value](std::byte b) { return b == static_cast<std::byte>(value); });
}

}  // namespace

TEST_CASE("a part of a block changes that part, the rest of a new block is zero") {
  DeltaCache cache;
  cache.resize(1 << 20);
  cache.store(3, 7, 512, bytes_of(1024, 9), true);
  auto block = cache.find(3, 7);
  REQUIRE(block.size() == kDeltaBlockBytes);
  CHECK(all(block.first(512), 0));
  CHECK(all(block.subspan(512, 1024), 9));
  CHECK(all(block.subspan(1536), 0));
  cache.store(3, 7, 0, bytes_of(513, 1), false);
  block = cache.find(3, 7);
  CHECK(all(block.first(513), 1));
  CHECK(all(block.subspan(513, 1023), 9));
  CHECK(cache.find(2, 7).empty());
  CHECK(cache.find(3, 8).empty());
}

TEST_CASE("what is not to be inserted is not") {
  DeltaCache cache;
  cache.resize(1 << 20);
  cache.store(0, 1, 0, bytes_of(kDeltaBlockBytes, 1), false);
  CHECK(cache.find(0, 1).empty());
  CHECK(cache.bytes_used() == 0);
}

TEST_CASE("memory grows only when used and never above the bound") {
  DeltaCache cache;
  cache.resize(16 << 20);
  CHECK(cache.bytes_used() == 0);
  put(cache, 1, 1);
  CHECK(cache.bytes_used() <= 256 << 10);
  for (std::uint64_t block = 0; block < 10'000; ++block) put(cache, block, 1);
  CHECK(cache.bytes_used() == 16 << 20);
  CHECK(cache.block_count() == 4096);
  cache.resize(0);
  CHECK(cache.bytes_used() == 0);
  put(cache, 1, 1);
  CHECK(cache.find(0, 1).empty());
}

TEST_CASE("blocks written again outlive a long sequential write") {
  DeltaCache cache;
  cache.resize(64 * kDeltaBlockBytes);
  for (std::uint64_t block = 0; block < 32; ++block) put(cache, block, 1);
  for (std::uint64_t round = 0; round < 20; ++round) {
    for (std::uint64_t block = 0; block < 32; ++block) put(cache, block, 2);
    for (std::uint64_t block = 0; block < 30; ++block) put(cache, 1000 + round * 30 + block, 3);
  }
  std::size_t kept = 0;
  for (std::uint64_t block = 0; block < 32; ++block) kept += cache.find(0, block).empty() ? 0 : 1;
  CHECK(kept == 32);
}

TEST_CASE("forgetting drops every touched block, a very long extent drops none") {
  DeltaCache cache;
  cache.resize(1 << 20);
  for (std::uint64_t block = 0; block < 8; ++block) put(cache, block, 1);
  cache.forget(0, kDeltaBlockBytes * 2 + 4095, 2);  // the last byte of block 2, the first of block 3
  CHECK(cache.find(0, 1).size() > 0);
  CHECK(cache.find(0, 2).empty());
  CHECK(cache.find(0, 3).empty());
  CHECK(cache.find(0, 4).size() > 0);
  cache.forget(0, 0, kDeltaForgetBytesMax + 1);
  CHECK(cache.block_count() == 6);
  cache.forget(0, 0, 0);
  CHECK(cache.block_count() == 6);
  cache.forget(0, 0, kDeltaForgetBytesMax);
  CHECK(cache.block_count() == 0);
  put(cache, 100, 5);  // takes a freed place
  CHECK(all(cache.find(0, 100), 5));
}
