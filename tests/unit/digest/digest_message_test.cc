// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <random>

#include "daemon/base/limits.h"
#include "daemon/digest/digest_message.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

DigestQuestion leaves_question() {
  DigestQuestion question;
  question.token = 9;
  question.level = DigestLevel::kLeaves;
  question.disk = 2;
  question.seq = 77;
  question.offset_bytes = 128 * kDigestChunkBytes;
  question.length_bytes = 2 * kDigestChunkBytes + 512;
  question.chunk_mask = 0b101;
  question.digests.resize(17);
  return question;
}

template <typename Change>
bool accepted(DigestQuestion question, Change change) {
  std::vector<std::byte> bytes;
  encode_digest_question(question, bytes);
  change(bytes);
  return decode_digest_question(bytes).ok();
}

}  // namespace

TEST_CASE("questions must be about what can be") {
  const DigestQuestion good = leaves_question();
  CHECK(accepted(good, [](auto&) {}));
  CHECK_FALSE(accepted(good, [](auto& b) { b.pop_back(); }));
  CHECK_FALSE(accepted(good, [](auto& b) { b.push_back(std::byte{0}); }));
  const auto set64 = [](std::size_t at, std::uint64_t value) {
    return [at, value](std::vector<std::byte>& bytes) { std::memcpy(bytes.data() + at, &value, sizeof(value)); };
  };
  CHECK_FALSE(accepted(good, [](auto& b) { b[8] = std::byte{3}; }));         // level
  CHECK_FALSE(accepted(good, [](auto& b) { b[9] = std::byte{1}; }));         // reserved
  CHECK_FALSE(accepted(good, [](auto& b) { b[10] = std::byte{kDisksMax}; }));  // disk
  CHECK_FALSE(accepted(good, set64(24, 512)));                               // offset inside a chunk
  CHECK_FALSE(accepted(good, set64(24, ~std::uint64_t{0} - kDigestChunkBytes + 1)));
  CHECK_FALSE(accepted(good, set64(32, 0)));
  CHECK_FALSE(accepted(good, set64(32, kDigestRegionBytes + 1)));
  CHECK_FALSE(accepted(good, set64(40, 0)));
  CHECK_FALSE(accepted(good, set64(40, 0b1001)));  // a chunk behind the end
  CHECK_FALSE(accepted(good, set64(40, 0b111)));   // another number of digests
}

TEST_CASE("answers must add up") {
  DigestAnswer answer;
  answer.token = 1;
  answer.level = DigestLevel::kLeaves;
  answer.verdict = DigestVerdict::kDifferent;
  answer.chunk_mask = 0b11;
  answer.different = {1, 0x8000};
  std::vector<std::byte> bytes;
  encode_digest_answer(answer, bytes);
  const auto decoded = decode_digest_answer(bytes);
  REQUIRE(decoded.ok());
  CHECK(*decoded == answer);
  for (const auto& [at, value] : {std::pair{8, 0}, {8, 3}, {9, 0}, {9, 5}, {9, 1}, {10, 1}, {12, 3}, {16, 1}}) {
    CAPTURE(at);
    auto wrong = bytes;
    wrong[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
    CHECK_FALSE(decode_digest_answer(wrong).ok());
  }
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CHECK_FALSE(decode_digest_answer(std::span(bytes).first(length)).ok());
  }
}

TEST_CASE("random bytes never decode into something that does not encode to them") {
  std::mt19937_64 random(11);
  std::vector<std::byte> good;
  encode_digest_question(leaves_question(), good);
  for (int i = 0; i < 20'000; ++i) {
    auto bytes = good;
    for (int n = 1 + static_cast<int>(random() % 3); n > 0; --n) {
      bytes[random() % 48] = static_cast<std::byte>(random());
    }
    const auto question = decode_digest_question(bytes);
    if (!question.ok()) continue;
    std::vector<std::byte> again;
    encode_digest_question(*question, again);
    REQUIRE(again == bytes);
  }
}

}  // namespace understudy
