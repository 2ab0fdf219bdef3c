// SPDX-License-Identifier: Apache-2.0
// Cuts a byte stream into frames without copying: says where the next bytes belong, and the caller reads them there.
//
//   loop: n = read(reader.space()); step = reader.advance(n)
//     kMore    -> go on
//     kHeader  -> check header(), then set_payload() with header().payload_bytes of memory
//     kFrame   -> the payload is complete; reset() for the next frame
//
// Pure: no I/O, no allocation. Threads: one at a time.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "daemon/base/check.h"
#include "daemon/base/result.h"
#include "daemon/wire/frame_codec.h"

namespace understudy {

class FrameReader {
 public:
  enum class Step : std::uint8_t { kMore, kHeader, kFrame };

  // Never empty while a frame is incomplete.
  std::span<std::byte> space() {
    return in_payload_ ? payload_.subspan(filled_) : std::span<std::byte>(header_bytes_).subspan(filled_);
  }

  // `bytes` were read into space(). An error: these are no frames; the stream is lost.
  Result<Step> advance(std::size_t bytes) {
    filled_ += bytes;
    if (in_payload_) {
      CHECK_LE(filled_, payload_.size());
      return filled_ == payload_.size() ? Step::kFrame : Step::kMore;
    }
    CHECK_LE(filled_, header_bytes_.size());
    if (filled_ < header_bytes_.size()) return Step::kMore;
    ASSIGN_OR_RETURN(header_, decode_frame_header(std::span<const std::byte, kFrameHeaderBytes>(header_bytes_)));
    return Step::kHeader;
  }

  const FrameHeader& header() const { return header_; }
  std::span<const std::byte> payload() const { return payload_; }
  // Some bytes of a frame are here, but not all.
  bool in_frame() const { return in_payload_ || filled_ > 0; }

  // Memory for the payload, owned by the caller, valid until reset(). True = the frame is complete already (no
  // payload).
  bool set_payload(std::span<std::byte> memory) {
    CHECK_EQ(memory.size(), std::size_t{header_.payload_bytes});
    payload_ = memory;
    in_payload_ = true;
    filled_ = 0;
    return memory.empty();
  }

  void reset() {
    payload_ = {};
    in_payload_ = false;
    filled_ = 0;
  }

 private:
  std::array<std::byte, kFrameHeaderBytes> header_bytes_{};
  FrameHeader header_;
  std::span<std::byte> payload_;
  std::size_t filled_ = 0;
  bool in_payload_ = false;
};

}  // namespace understudy
