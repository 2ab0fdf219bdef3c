// SPDX-License-Identifier: Apache-2.0
#include "daemon/digest/digest_message.h"

#include <bit>
#include <cstring>

#include "daemon/base/check.h"
#include "daemon/base/limits.h"
#include "daemon/base/little_endian.h"

namespace understudy {
namespace {

// Behind it: the digests.
struct QuestionBytes {
  le64 token;
  std::uint8_t level;
  std::uint8_t reserved;
  le16 disk;
  le32 digest_count;
  le64 seq;
  le64 offset_bytes;
  le64 length_bytes;
  le64 chunk_mask;
};
static_assert(sizeof(QuestionBytes) == 48 && alignof(QuestionBytes) == 1);

// Behind it: digests, or a le16 for each chunk.
struct AnswerBytes {
  le64 token;
  std::uint8_t level;
  std::uint8_t verdict;
  le16 reserved;
  le32 item_count;
  le64 chunk_mask;
};
static_assert(sizeof(AnswerBytes) == 24 && alignof(AnswerBytes) == 1);

template <typename T>
void append_bytes(const T& value, std::vector<std::byte>& out) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_digests(std::span<const Digest> digests, std::vector<std::byte>& out) {
  const auto bytes = std::as_bytes(digests);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

Error bad(const char* frame, const std::string& what) {
  return Error(ErrorKind::kCorrupt, std::string(frame) + " frame: " + what);
}

// Takes a header and exactly `count` items of T behind it.
template <typename T>
bool take_items(std::span<const std::byte> rest, std::size_t count, std::vector<T>& out) {
  if (rest.size() != count * sizeof(T)) return false;
  out.resize(count);
  if (count > 0) std::memcpy(out.data(), rest.data(), rest.size());
  return true;
}

}  // namespace

std::size_t digest_count(const DigestQuestion& question) {
  if (question.level == DigestLevel::kRegion) return 1;
  std::size_t count = 0;
  for (unsigned chunk = 0; chunk < digest_chunk_count(question.length_bytes); ++chunk) {
    if ((question.chunk_mask >> chunk & 1) == 0) continue;
    count += digest_leaf_count(digest_chunk_bytes(question.length_bytes, chunk));
  }
  return count;
}

std::string digest_question_mistake(const DigestQuestion& question) {
  if (question.level != DigestLevel::kRegion && question.level != DigestLevel::kLeaves) return "unknown level";
  if (question.disk >= kDisksMax) return "disk " + std::to_string(question.disk) + " cannot be";
  if (question.length_bytes == 0 || question.length_bytes > kDigestRegionBytes) {
    return "a region of " + std::to_string(question.length_bytes) + " bytes, allowed are 1 to " +
           std::to_string(kDigestRegionBytes);
  }
  if (question.offset_bytes % kDigestChunkBytes != 0 || question.offset_bytes > kDiskBytesMax) {
    return "a region cannot begin at " + std::to_string(question.offset_bytes);
  }
  const unsigned chunks = digest_chunk_count(question.length_bytes);
  const std::uint64_t all = chunks == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << chunks) - 1;
  if (question.chunk_mask == 0 || (question.chunk_mask & ~all) != 0) return "chunks that the region does not have";
  if (question.digests.size() != digest_count(question)) {
    return std::to_string(question.digests.size()) + " digests, expected " + std::to_string(digest_count(question));
  }
  return std::string();
}

void encode_digest_question(const DigestQuestion& question, std::vector<std::byte>& out) {
  CHECK(digest_question_mistake(question).empty());
  QuestionBytes bytes{};
  bytes.token = question.token;
  bytes.level = static_cast<std::uint8_t>(question.level);
  bytes.disk = question.disk;
  bytes.digest_count = static_cast<std::uint32_t>(question.digests.size());
  bytes.seq = question.seq;
  bytes.offset_bytes = question.offset_bytes;
  bytes.length_bytes = question.length_bytes;
  bytes.chunk_mask = question.chunk_mask;
  append_bytes(bytes, out);
  append_digests(question.digests, out);
}

Result<DigestQuestion> decode_digest_question(std::span<const std::byte> payload) {
  QuestionBytes bytes;
  if (payload.size() < sizeof(bytes) || payload.size() > kDigestQuestionBytesMax) {
    return bad("digest-question", "lengths do not add up");
  }
  std::memcpy(&bytes, payload.data(), sizeof(bytes));
  if (bytes.reserved != 0) return bad("digest-question", "reserved bytes are set");
  DigestQuestion question;
  question.token = bytes.token;
  question.level = static_cast<DigestLevel>(bytes.level);
  question.disk = bytes.disk;
  question.seq = bytes.seq;
  question.offset_bytes = bytes.offset_bytes;
  question.length_bytes = bytes.length_bytes;
  question.chunk_mask = bytes.chunk_mask;
  if (!take_items(payload.subspan(sizeof(bytes)), bytes.digest_count, question.digests)) {
    return bad("digest-question", "lengths do not add up");
  }
  if (const std::string mistake = digest_question_mistake(question); !mistake.empty()) {
    return bad("digest-question", mistake);
  }
  return question;
}

void encode_digest_answer(const DigestAnswer& answer, std::vector<std::byte>& out) {
  AnswerBytes bytes{};
  bytes.token = answer.token;
  bytes.level = static_cast<std::uint8_t>(answer.level);
  bytes.verdict = static_cast<std::uint8_t>(answer.verdict);
  bytes.item_count = static_cast<std::uint32_t>(answer.digests.size() + answer.different.size());
  bytes.chunk_mask = answer.chunk_mask;
  append_bytes(bytes, out);
  append_digests(answer.digests, out);
  for (const std::uint16_t leaves : answer.different) {
    le16 item;
    item = leaves;
    append_bytes(item, out);
  }
}

Result<DigestAnswer> decode_digest_answer(std::span<const std::byte> payload) {
  AnswerBytes bytes;
  if (payload.size() < sizeof(bytes) || payload.size() > kDigestAnswerBytesMax) {
    return bad("digest-answer", "lengths do not add up");
  }
  std::memcpy(&bytes, payload.data(), sizeof(bytes));
  if (bytes.reserved != 0) return bad("digest-answer", "reserved bytes are set");
  DigestAnswer answer;
  answer.token = bytes.token;
  answer.level = static_cast<DigestLevel>(bytes.level);
  answer.verdict = static_cast<DigestVerdict>(bytes.verdict);
  answer.chunk_mask = bytes.chunk_mask;
  if (bytes.level < 1 || bytes.level > 2) return bad("digest-answer", "unknown level");
  if (bytes.verdict < 1 || bytes.verdict > 4) return bad("digest-answer", "unknown verdict");
  const bool different = answer.verdict == DigestVerdict::kDifferent;
  const auto chunks = static_cast<std::uint32_t>(std::popcount(answer.chunk_mask));
  if (different ? chunks == 0 || bytes.item_count != chunks : answer.chunk_mask != 0 || bytes.item_count != 0) {
    return bad("digest-answer", "chunks and items do not add up");
  }
  const auto rest = payload.subspan(sizeof(bytes));
  if (answer.level == DigestLevel::kRegion) {
    if (!take_items(rest, bytes.item_count, answer.digests)) return bad("digest-answer", "lengths do not add up");
    return answer;
  }
  std::vector<le16> items;
  if (!take_items(rest, bytes.item_count, items)) return bad("digest-answer", "lengths do not add up");
  for (const le16& item : items) answer.different.push_back(item);
  return answer;
}

}  // namespace understudy
