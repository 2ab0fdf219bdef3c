// SPDX-License-Identifier: Apache-2.0
#include "daemon/digest/digest_check.h"

#include <algorithm>
#include <utility>

namespace understudy {
namespace {

// For bytes that cannot be read: no content has it but with a probability of 2^-128.
Digest digest_of_nothing() {
  Digest digest;
  digest.fill(std::byte{0xff});
  return digest;
}

DigestAnswer verdict(const DigestQuestion& question, DigestVerdict verdict) {
  DigestAnswer answer;
  answer.token = question.token;
  answer.level = question.level;
  answer.verdict = verdict;
  return answer;
}

}  // namespace

std::optional<DigestAnswer> DigestCheck::begin(const DigestQuestion& question, const DigestContent& content) {
  question_.reset();
  if (!digest_question_mistake(question).empty()) return verdict(question, DigestVerdict::kUnavailable);
  if (question.level == DigestLevel::kLeaves) return answer_leaves(question);
  const auto disk_bytes = content.disk_bytes(question.disk);
  const bool there = disk_bytes && question.offset_bytes <= *disk_bytes &&
                     question.length_bytes <= *disk_bytes - question.offset_bytes;
  if (!there || content.seq() != question.seq) return verdict(question, DigestVerdict::kUnavailable);
  question_ = question;
  next_chunk_ = 0;
  region_ = Kept{question.token, question.seq, question.disk, question.offset_bytes, question.chunk_mask, {}};
  chunks_.clear();
  return std::nullopt;
}

std::optional<DigestAnswer> DigestCheck::go_on(DigestContent& content, std::uint64_t bytes_max) {
  const unsigned chunks = digest_chunk_count(question_->length_bytes);
  std::uint64_t bytes = 0;
  for (; next_chunk_ < chunks; ++next_chunk_) {
    if ((question_->chunk_mask >> next_chunk_ & 1) == 0) continue;
    if (bytes > 0 && bytes >= bytes_max) return std::nullopt;
    region_.leaves.push_back(chunk_leaves(next_chunk_, content));
    chunks_.push_back(digest_of_digests(region_.leaves.back()));
    bytes += digest_chunk_bytes(question_->length_bytes, next_chunk_);
  }
  DigestAnswer answer = region_answer();
  question_.reset();
  return answer;
}

DigestAnswer DigestCheck::answer(const DigestQuestion& question, DigestContent& content) {
  if (auto answer = begin(question, content)) return *std::move(answer);
  while (true) {
    if (auto answer = go_on(content, kDigestRegionBytes)) return *std::move(answer);
  }
}

std::vector<Digest> DigestCheck::chunk_leaves(unsigned chunk, DigestContent& content) {
  const std::uint16_t disk = question_->disk;
  const std::uint64_t begin = question_->offset_bytes + chunk * kDigestChunkBytes;
  const std::uint64_t bytes = digest_chunk_bytes(question_->length_bytes, chunk);
  bytes_compared_ += bytes;
  std::vector<Digest> leaves;
  buffer_.resize(kDigestChunkBytes);
  if (!content.known_zeros(disk, begin, bytes)) {
    if (const auto data = content.read(disk, begin, std::span(buffer_).first(bytes)); data.ok()) {
      append_leaf_digests(*data, leaves);
      return leaves;
    }
  }
  // All zeros, or something in it cannot be read: leaf by leaf.
  for (std::uint64_t at = 0; at < bytes; at += kDigestLeafBytes) {
    const std::uint64_t leaf_bytes = std::min(kDigestLeafBytes, bytes - at);
    if (content.known_zeros(disk, begin + at, leaf_bytes)) {
      leaves.push_back(digest_of_zeros(leaf_bytes));
      continue;
    }
    auto data = content.read(disk, begin + at, std::span(buffer_).first(leaf_bytes));
    if (data.ok()) {
      append_leaf_digests(*data, leaves);
    } else {
      leaves.push_back(digest_of_nothing());
      error_ = std::move(data).error();
    }
  }
  return leaves;
}

DigestAnswer DigestCheck::region_answer() {
  if (digest_of_digests(chunks_) == question_->digests[0]) return verdict(*question_, DigestVerdict::kEqual);
  DigestAnswer answer = verdict(*question_, DigestVerdict::kDifferent);
  answer.chunk_mask = question_->chunk_mask;
  answer.digests = std::move(chunks_);
  kept_.push_back(std::move(region_));
  if (kept_.size() > kRegionsKeptMax) kept_.pop_front();
  return answer;
}

DigestAnswer DigestCheck::answer_leaves(const DigestQuestion& question) const {
  const auto region = std::find_if(kept_.rbegin(), kept_.rend(), [&](const Kept& kept) {
    return kept.token == question.token && kept.seq == question.seq && kept.disk == question.disk &&
           kept.offset_bytes == question.offset_bytes && (question.chunk_mask & ~kept.chunk_mask) == 0;
  });
  if (region == kept_.rend()) return verdict(question, DigestVerdict::kAgain);
  DigestAnswer answer = verdict(question, DigestVerdict::kDifferent);
  answer.chunk_mask = question.chunk_mask;
  std::size_t kept_chunk = 0;
  std::size_t asked_digest = 0;
  for (unsigned i = 0; i < kDigestChunksPerRegion; ++i) {
    if ((region->chunk_mask >> i & 1) == 0) continue;
    const std::vector<Digest>& ours = region->leaves[kept_chunk++];
    if ((question.chunk_mask >> i & 1) == 0) continue;
    std::uint16_t different = 0;
    for (unsigned leaf = 0; leaf < ours.size() && asked_digest < question.digests.size(); ++leaf, ++asked_digest) {
      if (ours[leaf] != question.digests[asked_digest]) different |= static_cast<std::uint16_t>(1u << leaf);
    }
    answer.different.push_back(different);
  }
  return answer;
}

std::optional<Error> DigestCheck::take_error() { return std::exchange(error_, std::nullopt); }

}  // namespace understudy
