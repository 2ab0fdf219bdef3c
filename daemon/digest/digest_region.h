// SPDX-License-Identifier: Apache-2.0
// The agent's half of the comparison of one region: which chunks are read, whether their digests are still true, what
// to ask, and what the answers say. Pure.
//
//   filling --every chunk is read and the stream has what was captured meanwhile--> ask_region()
//           --different--> leaves() --> finished: each wanted chunk is equal, different in some leaves, or undecided
//
// A chunk's digest is true at a stream position P when its bytes were read after head H (ring position), the stream has
// every event that was captured before the read ended, and no event behind H, as far as the stream reaches at P,
// touches the chunk: then the disk held these bytes when the stream stood at P. A chunk that was written meanwhile is
// read again, a few times; then it stays undecided.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "daemon/digest/digest_message.h"

namespace understudy {

class DigestRegion {
 public:
  static constexpr unsigned kReadAttemptsMax = 4;

  // Chunks of `wanted` only; it has no bit behind the length.
  DigestRegion(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, std::uint64_t wanted);

  std::uint16_t disk() const { return disk_; }
  std::uint64_t offset_bytes() const { return offset_bytes_; }
  std::uint64_t length_bytes() const { return length_bytes_; }
  std::uint64_t wanted() const { return wanted_; }
  std::uint64_t chunk_offset_bytes(unsigned chunk) const { return offset_bytes_ + chunk * kDigestChunkBytes; }
  std::uint64_t chunk_bytes(unsigned chunk) const { return digest_chunk_bytes(length_bytes_, chunk); }

  // --- filling ---
  std::optional<unsigned> next_to_read() const;
  void read_begins(unsigned chunk, std::uint64_t head_before);
  void read_finished(unsigned chunk, std::span<const std::byte> data, std::uint64_t head_after);
  // The chunk cannot be read, or must not be now.
  void give_up(unsigned chunk);
  // An event that became a record, at this ring position.
  void note_event(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, std::uint64_t position);
  // True when everything is read or given up, and the stream reaches far enough.
  bool complete(std::uint64_t stream_position) const;

  // --- asking ---
  // nullopt: nothing could be read; the region is finished.
  std::optional<DigestQuestion> ask_region(std::uint64_t token, Seq seq);
  // nullopt: finished. Else the next question. Answers that do not fit leave the chunks undecided.
  std::optional<DigestQuestion> take_answer(const DigestAnswer& answer);
  bool asked() const { return asked_; }

  // --- finished ---
  std::uint64_t equal_chunks() const { return equal_; }
  std::uint64_t undecided_chunks() const { return wanted_ & ~equal_ & ~different_; }
  std::uint64_t different_chunks() const { return different_; }
  // Leaves of a different chunk that differ, lowest bit first.
  std::uint16_t different_leaves(unsigned chunk) const { return different_leaves_[chunk]; }

 private:
  enum class State : std::uint8_t { kNotWanted, kToRead, kReading, kOverwritten, kRead, kGivenUp };
  struct Chunk {
    State state = State::kNotWanted;
    unsigned attempts = 0;
    std::uint64_t head_before = 0;
    std::uint64_t head_after = 0;
    std::vector<Digest> leaves;
    Digest digest{};
  };
  void overwritten(Chunk& chunk);
  DigestQuestion question(DigestLevel level, std::uint64_t mask) const;

  const std::uint16_t disk_;
  const std::uint64_t offset_bytes_;
  const std::uint64_t length_bytes_;
  const std::uint64_t wanted_;
  std::vector<Chunk> chunks_;
  bool asked_ = false;
  DigestQuestion last_question_;
  std::uint64_t equal_ = 0;
  std::uint64_t different_ = 0;
  std::array<std::uint16_t, kDigestChunksPerRegion> different_leaves_{};
};

}  // namespace understudy
