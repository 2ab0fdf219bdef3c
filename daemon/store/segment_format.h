// SPDX-License-Identifier: Apache-2.0
// The bytes of a journal segment. FORMAT.md beside this file is the document; keep both equal.
//
//   segment := SegmentHeader state frame*
//   state   := StateCheckpoint geometry-payload padding         (the stream's state before the first batch)
//   frame   := FrameHeader batch                                (batch: daemon/record/FORMAT.md)
#pragma once

#include <cstddef>
#include <cstdint>

#include "daemon/base/limits.h"
#include "daemon/base/little_endian.h"

namespace understudy {

// "UNDSSEGM" and "UNDSFRAM" in file order.
inline constexpr std::uint64_t kSegmentMagic = 0x4d47455353444e55ull;
inline constexpr std::uint64_t kFrameMagic = 0x4d41524653444e55ull;
inline constexpr std::uint16_t kSegmentVersion = 1;
inline constexpr std::uint32_t kSegmentIncompatibleKnown = 0;
inline constexpr std::uint32_t kFrameIncompatibleKnown = 0;

struct SegmentHeader {
  le64 magic;
  le16 version;
  le16 header_bytes;            // of this struct
  le32 compatible_flags;
  le32 incompatible_flags;
  le32 state_bytes;             // of the state behind this header, padding included; a multiple of 8
  std::uint8_t server[16];
  std::uint8_t store[16];
  le64 number;                  // 1, 2, 3 ... without a hole
  le64 first_seq;               // of the first batch; also in the file name
  le64 epoch;                   // of the batch for which the segment was begun
  le64 generation;
  le64 previous_bytes;          // length of the segment before this one; 0 in the first
  std::uint8_t previous_digest[32];  // SHA-256 of all bytes of the segment before; zeros in the first: the hash chain
  le64 created_ns;              // time_ns of the first record
  le64 state_checksum;          // xxh3-64 of the state, padding included
  std::uint8_t reserved[96];    // zero
  le64 header_checksum;         // xxh3-64 of the header up to here
};
static_assert(sizeof(SegmentHeader) == 248 && alignof(SegmentHeader) == 1);
static_assert(sizeof(SegmentHeader) % 8 == 0);
static_assert(offsetof(SegmentHeader, server) == 24 && offsetof(SegmentHeader, number) == 56 &&
              offsetof(SegmentHeader, previous_digest) == 96 && offsetof(SegmentHeader, header_checksum) == 240);

struct StateCheckpoint {
  le64 seq;                     // last record before the segment
  le64 epoch;
  le64 generation;
  std::uint8_t capture_id[16];
  le64 capture_position;
  le64 capture_loss_count;
  le64 last_time_ns;
  std::uint8_t flags;           // kState*
  std::uint8_t gap_reason;      // GapReason, 0 while no gap is open
  le16 reserved0;               // zero
  le32 geometry_bytes;          // of the GEOMETRY payload that follows
  le64 gap_seq;                 // of the GAP that is open, else 0
  std::uint8_t reserved[16];    // zero
};
static_assert(sizeof(StateCheckpoint) == 96 && alignof(StateCheckpoint) == 1);
inline constexpr std::uint8_t kStateGapOpen = 1 << 0;
inline constexpr std::uint8_t kStateInitialCopyDone = 1 << 1;
inline constexpr std::uint8_t kStateFlagsKnown = 0x03;
// kDisksMax disks with the longest names, and room.
inline constexpr std::uint32_t kStateBytesMax = 32u << 10;

struct FrameHeader {
  le64 magic;
  le64 first_seq;               // of the batch
  le64 durable_seq;             // what was already durable when this frame was made: proof for those before it
  le32 batch_bytes;
  le32 incompatible_flags;
  le64 reserved;                // zero
  le64 checksum;                // bound to server and segment (FORMAT.md)
};
static_assert(sizeof(FrameHeader) == 48 && alignof(FrameHeader) == 1);

// What is hashed for FrameHeader::checksum.
struct FrameBinding {
  FrameHeader header;           // with checksum = 0
  std::uint8_t server[16];
  le64 segment_first_seq;
};
static_assert(sizeof(FrameBinding) == 72);

}  // namespace understudy
