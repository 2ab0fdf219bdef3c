// SPDX-License-Identifier: Apache-2.0
#include "daemon/digest/digest_region.h"

#include <algorithm>

#include "daemon/base/check.h"

namespace understudy {

DigestRegion::DigestRegion(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                           std::uint64_t wanted)
    : disk_(disk),
      offset_bytes_(offset_bytes),
      length_bytes_(length_bytes),
      wanted_(wanted),
      chunks_(digest_chunk_count(length_bytes)) {
  CHECK_LE(chunks_.size(), std::size_t{kDigestChunksPerRegion});
  for (unsigned i = 0; i < chunks_.size(); ++i) {
    if ((wanted_ >> i & 1) != 0) chunks_[i].state = State::kToRead;
  }
}

std::optional<unsigned> DigestRegion::next_to_read() const {
  for (unsigned i = 0; i < chunks_.size(); ++i) {
    if (chunks_[i].state == State::kToRead) return i;
  }
  return std::nullopt;
}

void DigestRegion::read_begins(unsigned chunk, std::uint64_t head_before) {
  Chunk& read = chunks_.at(chunk);
  CHECK(read.state == State::kToRead);
  read.state = State::kReading;
  ++read.attempts;
  read.head_before = head_before;
}

void DigestRegion::read_finished(unsigned chunk, std::span<const std::byte> data, std::uint64_t head_after) {
  Chunk& read = chunks_.at(chunk);
  CHECK_EQ(data.size(), chunk_bytes(chunk));
  if (read.state == State::kOverwritten) return overwritten(read);
  CHECK(read.state == State::kReading);
  read.leaves.clear();
  append_leaf_digests(data, read.leaves);
  read.digest = digest_of_digests(read.leaves);
  read.head_after = head_after;
  read.state = State::kRead;
}

void DigestRegion::give_up(unsigned chunk) { chunks_.at(chunk).state = State::kGivenUp; }

void DigestRegion::overwritten(Chunk& chunk) {
  chunk.state = chunk.attempts < kReadAttemptsMax ? State::kToRead : State::kGivenUp;
}

void DigestRegion::note_event(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                              std::uint64_t position) {
  if (asked_ || disk != disk_ || length_bytes == 0) return;
  const std::uint64_t end_bytes = offset_bytes + length_bytes;
  if (end_bytes <= offset_bytes_ || offset_bytes >= offset_bytes_ + length_bytes_) return;
  const std::uint64_t begin = std::max(offset_bytes, offset_bytes_) - offset_bytes_;
  const std::uint64_t end = std::min(end_bytes, offset_bytes_ + length_bytes_) - offset_bytes_;
  for (std::uint64_t i = begin / kDigestChunkBytes; i * kDigestChunkBytes < end; ++i) {
    Chunk& chunk = chunks_.at(i);
    if (position <= chunk.head_before) continue;
    if (chunk.state == State::kReading) chunk.state = State::kOverwritten;
    if (chunk.state == State::kRead) overwritten(chunk);
  }
}

bool DigestRegion::complete(std::uint64_t stream_position) const {
  return std::all_of(chunks_.begin(), chunks_.end(), [&](const Chunk& chunk) {
    return chunk.state == State::kNotWanted || chunk.state == State::kGivenUp ||
           (chunk.state == State::kRead && chunk.head_after <= stream_position);
  });
}

DigestQuestion DigestRegion::question(DigestLevel level, std::uint64_t mask) const {
  DigestQuestion question = last_question_;
  question.level = level;
  question.disk = disk_;
  question.offset_bytes = offset_bytes_;
  question.length_bytes = length_bytes_;
  question.chunk_mask = mask;
  question.digests.clear();
  for (unsigned i = 0; i < chunks_.size(); ++i) {
    if ((mask >> i & 1) == 0) continue;
    const Chunk& chunk = chunks_[i];
    if (level == DigestLevel::kRegion) {
      question.digests.push_back(chunk.digest);
    } else {
      question.digests.insert(question.digests.end(), chunk.leaves.begin(), chunk.leaves.end());
    }
  }
  if (level == DigestLevel::kRegion) question.digests = {digest_of_digests(question.digests)};
  return question;
}

std::optional<DigestQuestion> DigestRegion::ask_region(std::uint64_t token, Seq seq) {
  CHECK(!asked_);
  std::uint64_t mask = 0;
  for (unsigned i = 0; i < chunks_.size(); ++i) {
    if (chunks_[i].state == State::kRead) mask |= std::uint64_t{1} << i;
  }
  asked_ = true;
  if (mask == 0) return std::nullopt;
  last_question_.token = token;
  last_question_.seq = seq;
  last_question_ = question(DigestLevel::kRegion, mask);
  return last_question_;
}

std::optional<DigestQuestion> DigestRegion::take_answer(const DigestAnswer& answer) {
  if (!asked_ || answer.level != last_question_.level) return std::nullopt;
  const std::uint64_t mask = last_question_.chunk_mask;
  if (answer.verdict == DigestVerdict::kEqual && answer.level == DigestLevel::kRegion) {
    equal_ = mask;
    return std::nullopt;
  }
  if (answer.verdict != DigestVerdict::kDifferent || answer.chunk_mask != mask) return std::nullopt;
  std::uint64_t different = 0;
  std::size_t item = 0;
  for (unsigned i = 0; i < chunks_.size(); ++i) {
    const std::uint64_t bit = std::uint64_t{1} << i;
    if ((mask & bit) == 0) continue;
    if (answer.level == DigestLevel::kRegion) {
      if (answer.digests.at(item++) == chunks_[i].digest) {
        equal_ |= bit;
      } else {
        different |= bit;
      }
      continue;
    }
    const unsigned leaves = digest_leaf_count(chunk_bytes(i));
    different_leaves_[i] = static_cast<std::uint16_t>(answer.different.at(item++) & ((1u << leaves) - 1));
    // Equal leaves cannot make different chunks: such an answer decides nothing.
    if (different_leaves_[i] != 0) different_ |= bit;
  }
  if (answer.level == DigestLevel::kLeaves || different == 0) return std::nullopt;
  last_question_ = question(DigestLevel::kLeaves, different);
  return last_question_;
}

}  // namespace understudy
