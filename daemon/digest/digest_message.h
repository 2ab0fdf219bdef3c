// SPDX-License-Identifier: Apache-2.0
// What the two ends of a digest scan say to each other, and its bytes (daemon/wire/FORMAT.md, frames 12 and 13). Pure;
// thread-safe. Nothing that is decoded is trusted: every number is within its bounds, or it is an error.
//
//   agent: region, seq, ONE digest          --> receiver: the same? equal. Else the digest of each of its chunks
//   agent: chunks that differ, their leaves --> receiver: which leaves differ
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/digest/digest_tree.h"
#include "daemon/record/record.h"

namespace understudy {

enum class DigestLevel : std::uint8_t { kRegion = 1, kLeaves = 2 };

struct DigestQuestion {
  std::uint64_t token = 0;         // of the region; returned with the answer
  DigestLevel level = DigestLevel::kRegion;
  std::uint16_t disk = 0;
  Seq seq = 0;                     // the stream position at which the digests are true
  std::uint64_t offset_bytes = 0;  // of the region; a multiple of kDigestChunkBytes
  std::uint64_t length_bytes = 0;  // 1 to kDigestRegionBytes
  std::uint64_t chunk_mask = 0;    // the chunks that are asked for, lowest bit first; never 0
  // kRegion: one, over the digests of the chunks of the mask. kLeaves: those of all leaves of the chunks of the mask.
  std::vector<Digest> digests;
  bool operator==(const DigestQuestion&) const = default;
};

enum class DigestVerdict : std::uint8_t {
  kEqual = 1,
  kDifferent = 2,
  kAgain = 3,        // not answered: too much at a time, or the region is forgotten; read it again
  kUnavailable = 4,  // the receiver does not hold this disk, or not at this position
};

struct DigestAnswer {
  std::uint64_t token = 0;
  DigestLevel level = DigestLevel::kRegion;
  DigestVerdict verdict = DigestVerdict::kAgain;
  std::uint64_t chunk_mask = 0;          // of the question when kDifferent, else 0
  std::vector<Digest> digests;           // kRegion and kDifferent: the receiver's, one for each chunk of the mask
  std::vector<std::uint16_t> different;  // kLeaves and kDifferent: for each chunk of the mask, its different leaves
  bool operator==(const DigestAnswer&) const = default;
};

inline constexpr std::uint32_t kDigestQuestionBytesMax =
    48 + kDigestChunksPerRegion * kDigestLeavesPerChunk * sizeof(Digest);
inline constexpr std::uint32_t kDigestAnswerBytesMax = 24 + kDigestChunksPerRegion * sizeof(Digest);

// The digests that a question of this shape carries.
std::size_t digest_count(const DigestQuestion& question);
// Why such a question cannot be; empty = it can.
std::string digest_question_mistake(const DigestQuestion& question);

void encode_digest_question(const DigestQuestion& question, std::vector<std::byte>& out);
void encode_digest_answer(const DigestAnswer& answer, std::vector<std::byte>& out);
// kCorrupt, in words.
Result<DigestQuestion> decode_digest_question(std::span<const std::byte> payload);
Result<DigestAnswer> decode_digest_answer(std::span<const std::byte> payload);

}  // namespace understudy
