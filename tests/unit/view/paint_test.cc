// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/paint.h"

#include <random>

#include <doctest/doctest.h>

namespace understudy {
namespace {

TEST_CASE("later extents cover earlier ones, exactly as when painting byte by byte") {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    std::vector<PaintedExtent> extents(random() % 60);
    std::vector<int> bytes(200, -1);
    for (std::size_t i = 0; i < extents.size(); ++i) {
      extents[i].begin_bytes = random() % 199;
      extents[i].end_bytes = extents[i].begin_bytes + 1 + random() % (200 - extents[i].begin_bytes - 1 + 1);
      if (extents[i].end_bytes > 200) extents[i].end_bytes = 200;
      for (std::uint64_t at = extents[i].begin_bytes; at < extents[i].end_bytes; ++at) bytes[at] = static_cast<int>(i);
    }
    const std::vector<PaintedPiece> pieces = paint(std::span<const PaintedExtent>(extents));
    std::vector<int> painted(200, -1);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      REQUIRE(pieces[i].begin_bytes < pieces[i].end_bytes);
      if (i > 0) {
        REQUIRE(pieces[i - 1].end_bytes <= pieces[i].begin_bytes);
        // As long as they can be.
        REQUIRE((pieces[i - 1].end_bytes < pieces[i].begin_bytes || pieces[i - 1].extent != pieces[i].extent));
      }
      for (std::uint64_t at = pieces[i].begin_bytes; at < pieces[i].end_bytes; ++at)
        painted[at] = static_cast<int>(pieces[i].extent);
    }
    REQUIRE(painted == bytes);
  }
}

}  // namespace
}  // namespace understudy
