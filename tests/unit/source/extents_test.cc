// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/extents.h"

#include <random>
#include <vector>

#include "daemon/source/crc.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::size_t kSpan = 200;

std::vector<bool> painted(const ExtentList& list) {
  std::vector<bool> map(kSpan);
  for (const Extent& extent : list) {
    for (std::uint64_t i = extent.offset_bytes; i < extent.end_bytes(); ++i) map.at(i) = true;
  }
  return map;
}

bool well_formed(const ExtentList& list) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].length_bytes == 0 || (i > 0 && list[i].offset_bytes < list[i - 1].end_bytes())) return false;
  }
  return true;
}

TEST_CASE("sets of extents behave as sets of bytes") {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    const auto draw = [&random] {
      std::vector<Extent> extents;
      for (unsigned i = random() % 12; i > 0; --i) extents.push_back({random() % 180, random() % 20});
      return extents;
    };
    const ExtentList a = normalized(draw());
    const ExtentList b = normalized(draw());
    const auto in_a = painted(a);
    const auto in_b = painted(b);
    std::vector<bool> both(kSpan);
    std::vector<bool> rest(kSpan);
    for (std::size_t i = 0; i < kSpan; ++i) {
      both[i] = in_a[i] && in_b[i];
      rest[i] = in_a[i] && !in_b[i];
    }
    REQUIRE(well_formed(a));
    REQUIRE(well_formed(subtracted(a, b)));
    REQUIRE(painted(subtracted(a, b)) == rest);
    REQUIRE(painted(intersected(a, b)) == both);
    std::uint64_t bytes = 0;
    for (const bool set : in_a) bytes += set ? 1 : 0;
    REQUIRE(total_bytes(a) == bytes);
  }
}

TEST_CASE("a builder merges neighbours, drops the short ones and refuses disorder") {
  ExtentBuilder builder(10);
  CHECK(builder.add(0, 6));
  CHECK(builder.add(6, 6));
  CHECK(builder.add(20, 9));
  CHECK(!builder.add(28, 5));
  CHECK(!builder.add(5, 1));
  CHECK(!builder.add(UINT64_MAX, 2));
  CHECK(builder.add(40, 10));
  CHECK(builder.take() == ExtentList{{0, 12}, {40, 10}});
  CHECK(builder.take().empty());
}

TEST_CASE("checksums of file systems have their published values") {
  const char* text = "123456789";
  const auto bytes = std::as_bytes(std::span(text, 9));
  CHECK(~crc32c(~0u, bytes) == 0xe3069283u);  // RFC 3720
  CHECK(crc16(0, bytes) == 0xbb3d);           // CRC-16/ARC
}

}  // namespace
}  // namespace understudy
