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
  // An error: these bytes are lost to the receiver, and therefore different from any.
  virtual Status read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) = 0;
};

class DigestCheck {
 public:
  static constexpr std::size_t kRegionsKeptMax = 16;

  // `content` stands at the question's seq, unless the question is about leaves.
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
  DigestAnswer answer_region(const DigestQuestion& question, DigestContent& content);
  DigestAnswer answer_leaves(const DigestQuestion& question) const;
  std::vector<Digest> chunk_leaves(const DigestQuestion& question, unsigned chunk, DigestContent& content);

  std::deque<Kept> kept_;
  std::vector<std::byte> buffer_;
  std::optional<Error> error_;
  std::uint64_t bytes_compared_ = 0;
};

}  // namespace understudy
