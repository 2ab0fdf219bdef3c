// SPDX-License-Identifier: Apache-2.0
// The bytes of a run (runs/<from>-<to>.run). FORMAT.md beside this file is the document; keep both equal.
//
//   run    := RunHeader state padding stream frame* padding index
//   index  := IndexHeader pages blocks directory fences events places       (segment_index_format.h)
//   blocks := frame*                                                        (batches in block order)
//
// A run says what a row of adjacent segments said: the stream part has their batches one by one, without the payloads
// of writes and copies, which stand in the blocks in the order of the index.
#pragma once

#include <cstddef>
#include <cstdint>

#include "daemon/base/little_endian.h"

namespace understudy {

// "UNDSRUNF" in file order.
inline constexpr std::uint64_t kRunMagic = 0x464e555253444e55ull;
inline constexpr std::uint16_t kRunVersion = 1;
inline constexpr std::uint32_t kRunIncompatibleKnown = 0;

struct RunHeader {
  le64 magic;
  le16 version;
  le16 header_bytes;  // of this struct
  le32 compatible_flags;
  le32 incompatible_flags;
  le32 state_bytes;  // of the state behind this header, padding included; a multiple of 8
  std::uint8_t server[16];
  std::uint8_t store[16];
  le64 first_number;  // of the segments that it stands for
  le64 last_number;
  le64 first_seq;
  le64 last_seq;
  le64 previous_bytes;  // as in the header of the first of these segments
  std::uint8_t previous_digest[32];
  le64 last_bytes;  // as in the header of the segment behind the last of them: the hash chain goes on here
  std::uint8_t last_digest[32];
  le64 frames_end_bytes;     // of the stream part
  le64 index_offset_bytes;   // the index reaches from here to the end; its offsets count from here
  le64 blocks_offset_bytes;  // of the file
  le64 blocks_end_bytes;
  le64 file_bytes;
  le64 state_checksum;        // xxh3-64 of the state, padding included
  std::uint8_t reserved[32];  // zero
  le64 header_checksum;       // xxh3-64 of the header up to here
};
static_assert(sizeof(RunHeader) == 256 && alignof(RunHeader) == 1);
static_assert(offsetof(RunHeader, first_number) == 56 && offsetof(RunHeader, last_digest) == 136 &&
              offsetof(RunHeader, header_checksum) == 248);

}  // namespace understudy
