// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/encoder_effort.h"

#include <string>

#include "daemon/base/limits.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

constexpr Compression kWanted{Codec::kZstd, 9};
constexpr EncoderEffort::Load kStarving{kLinkBacklogBatches, 0};
constexpr EncoderEffort::Load kLinkIsSlow{kLinkBacklogBatches, kLinkEncodedBytesMax / 2};
constexpr EncoderEffort::Load kCalm{1, 0};

}  // namespace

TEST_CASE("without a backlog everything is done for a batch") {
  EncoderEffort effort;
  for (int i = 0; i < 100; ++i) {
    const auto plan = effort.decide(kCalm, kWanted, true);
    CHECK(plan.deltas);
    CHECK(plan.compression.codec == Codec::kZstd);
    CHECK(plan.compression.level == 9);
  }
  CHECK(effort.name() == std::string("full"));
}

TEST_CASE("while the socket starves, less is done step by step") {
  EncoderEffort effort;
  auto plan = effort.decide(kStarving, kWanted, true);
  CHECK(plan.deltas);
  CHECK(plan.compression.codec == Codec::kLz4);
  plan = effort.decide(kStarving, kWanted, true);
  CHECK_FALSE(plan.deltas);
  CHECK(plan.compression.codec == Codec::kNone);
  CHECK(effort.name() == std::string("plain"));
  plan = effort.decide(kStarving, kWanted, true);
  CHECK(plan.compression.codec == Codec::kNone);
}

TEST_CASE("a slow link brings the effort back at once, a calm time slowly") {
  EncoderEffort effort;
  (void)effort.decide(kStarving, kWanted, true);
  (void)effort.decide(kStarving, kWanted, true);
  CHECK(effort.decide(kLinkIsSlow, kWanted, true).compression.codec == Codec::kLz4);
  CHECK(effort.decide(kLinkIsSlow, kWanted, true).compression.codec == Codec::kZstd);
  (void)effort.decide(kStarving, kWanted, true);
  for (unsigned i = 1; i < EncoderEffort::kCalmDecisions; ++i)
    CHECK(effort.decide(kCalm, kWanted, true).compression.codec == Codec::kLz4);
  CHECK(effort.decide(kCalm, kWanted, true).compression.codec == Codec::kZstd);
}

TEST_CASE("a backlog that the socket still lives on changes nothing") {
  EncoderEffort effort;
  (void)effort.decide(kStarving, kWanted, true);
  for (int i = 0; i < 100; ++i) (void)effort.decide({100, 1}, kWanted, true);
  CHECK(effort.name() == std::string("light"));
}

TEST_CASE("light without lz4 at the receiver is the lowest level of zstd; lz4 and none stay what they are") {
  EncoderEffort effort;
  auto plan = effort.decide(kStarving, kWanted, false);
  CHECK(plan.compression.codec == Codec::kZstd);
  CHECK(plan.compression.level == 1);
  plan = effort.decide({1, 1}, {Codec::kLz4, 1}, true);
  CHECK(plan.compression.codec == Codec::kLz4);
  plan = effort.decide({1, 1}, {Codec::kNone, 1}, true);
  CHECK(plan.compression.codec == Codec::kNone);
  CHECK(plan.deltas);
}

TEST_CASE("a host that is short of processor gets the lowest level of zstd, until it is not any more") {
  EncoderEffort effort;
  for (int i = 0; i < 10; ++i) effort.encoded(1000, 300);
  CHECK(effort.decide(kCalm, kWanted, true).compression.level == 1);
  CHECK(effort.decide(kCalm, kWanted, true).deltas);
  for (int i = 0; i < 40; ++i) effort.encoded(1000, 1000);
  CHECK(effort.decide(kCalm, kWanted, true).compression.level == 9);
}
