// SPDX-License-Identifier: Apache-2.0
// The receiver's half: answers questions about regions from the content at their stream position. Pure but for the
// content, which is behind an interface.
//
// The leaves of the last regions that differed are kept, so that the second question about one costs no reading.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "daemon/digest/digest_message.h"

namespace understudy {

// What the receiver holds at one stream position.
class DigestContent {
 public:
  virtual ~DigestContent() = default;
  virtual Seq seq() const = 0;
  // nullopt = there is no such disk.
  virtual std::optional<std::uint64_t> disk_bytes(std::uint16_t disk) const = 0;
  // True when the extent is known to be zeros without reading anything.
  virtual bool known_zeros(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) const = 0;
  // The bytes of an extent: in the content's own memory, where they lie together there, until the next call; else in
  // `room`, which is as long as the extent. An error: they are lost to the receiver, and therefore different from any.
  virtual Result<std::span<const std::byte>> read(std::uint16_t disk, std::uint64_t offset_bytes,
                                                  std::span<std::byte> room) = 0;
};

class DigestCheck {
 public:
  static constexpr std::size_t kRegionsKeptMax = 16;

  // Begins with a question; `content` stands at its seq, unless it is about leaves. The answer, if nothing needs to be
  // read for it; else go_on() gives it. What was begun before and has no answer yet is dropped.
  std::optional<DigestAnswer> begin(const DigestQuestion& question, const DigestContent& content);
  // Reads and hashes about `bytes_max`, at least a chunk; the answer when all is done. The content is the same, and
  // stands where it stood. Only after a begin() without an answer.
  std::optional<DigestAnswer> go_on(DigestContent& content, std::uint64_t bytes_max);
  // Both, to the end.
  DigestAnswer answer(const DigestQuestion& question, DigestContent& content);

  // What cannot be read, since the last call; for the receiver's log.
  std::optional<Error> take_error();
  std::uint64_t bytes_compared() const { return bytes_compared_; }

 private:
  struct Kept {
    std::uint64_t token = 0;
    Seq seq = 0;
    std::uint16_t disk = 0;
    std::uint64_t offset_bytes = 0;
    std::uint64_t chunk_mask = 0;
    std::vector<std::vector<Digest>> leaves;  // of the chunks of the mask
  };
  DigestAnswer region_answer();
  DigestAnswer answer_leaves(const DigestQuestion& question) const;
  std::vector<Digest> chunk_leaves(unsigned chunk, DigestContent& content);

  std::optional<DigestQuestion> question_;  // under way
  unsigned next_chunk_ = 0;
  Kept region_;                             // of question_, as far as it is read
  std::vector<Digest> chunks_;              // the same
  std::deque<Kept> kept_;
  std::vector<std::byte> buffer_;
  std::optional<Error> error_;
  std::uint64_t bytes_compared_ = 0;
};

}  // namespace understudy
