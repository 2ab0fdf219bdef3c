// SPDX-License-Identifier: Apache-2.0
// The bytes of a batch and of the structured payloads. FORMAT.md beside this file is the document; keep both equal.
//
//   batch   := BatchHeader table payloads padding
//   table   := BatchTableEntry * record_count, compressed by table_codec
//   payloads:= the records' payloads back to back, compressed by payload_codec
//   padding := zero bytes up to a multiple of 8
#pragma once

#include <cstddef>
#include <cstdint>

#include "daemon/base/limits.h"
#include "daemon/base/little_endian.h"

namespace understudy {

// "UNDSBTCH" in file order.
inline constexpr std::uint64_t kBatchMagic = 0x4843544253444e55ull;
inline constexpr std::uint16_t kBatchVersion = 1;
// Flags this version knows. A reader ignores unknown compatible flags and refuses unknown incompatible ones by number.
inline constexpr std::uint32_t kBatchCompatibleKnown = 1;
// BatchHeader::head is set.
inline constexpr std::uint32_t kBatchHasHead = 1;
// A GAP of reason `collapsed` is among the records: who does not know the reason is told so before the record.
inline constexpr std::uint32_t kBatchHasCollapsedGap = 1u << 0;
// Records of a run in the order of their places on the disks; time_ns is each record's seq (FORMAT.md). Never a part of
// a stream.
inline constexpr std::uint32_t kBatchBlockOrder = 1u << 1;
inline constexpr std::uint32_t kBatchIncompatibleKnown = kBatchHasCollapsedGap | kBatchBlockOrder;

struct BatchHeader {
  le64 magic;
  le16 version;
  le16 header_bytes;            // of this struct; a newer compatible version may make it longer
  le32 compatible_flags;
  le32 incompatible_flags;
  std::uint8_t table_codec;     // Codec
  std::uint8_t payload_codec;   // Codec
  le16 reserved0;               // zero
  std::uint8_t server[16];
  le64 first_seq;
  le64 epoch;
  le64 generation;
  std::uint8_t capture_id[16];
  le64 capture_position;
  le64 capture_loss_count;
  le64 first_time_ns;           // time_ns of the first and of the last record
  le64 last_time_ns;
  le32 record_count;
  le32 encoded_bytes;           // header + stored table + stored payloads + padding; a multiple of 8
  le32 table_raw_bytes;         // record_count * sizeof(BatchTableEntry)
  le32 table_stored_bytes;
  le32 payload_raw_bytes;
  le32 payload_stored_bytes;
  le64 table_checksum;          // bound (FORMAT.md) checksum of the stored table
  le64 payload_checksum;        // bound checksum of everything from the stored payloads to the end of the batch
  std::uint8_t head[32];  // with kBatchHasHead: the store's chain head once this batch was in; else zero
  le64 header_checksum;         // xxh3-64 of the header up to here
};
static_assert(sizeof(BatchHeader) == 192 && alignof(BatchHeader) == 1);
static_assert(offsetof(BatchHeader, server) == 24 && offsetof(BatchHeader, first_seq) == 40 &&
              offsetof(BatchHeader, record_count) == 112 && offsetof(BatchHeader, table_checksum) == 136 &&
              offsetof(BatchHeader, header_checksum) == 184);
inline constexpr std::size_t kBatchHeaderBytes = sizeof(BatchHeader);
inline constexpr std::size_t kBatchAlignBytes = 8;

struct BatchTableEntry {
  std::uint8_t kind;            // RecordKind
  std::uint8_t flags;           // kRecord*
  le16 disk;
  le32 payload_bytes;           // in the payload section, in the order of the table
  le64 offset_bytes;
  le64 length_bytes;
  le64 time_ns;
  le64 checksum;                // xxh3-64 of the payload, also when it lies in the base image
};
static_assert(sizeof(BatchTableEntry) == 40 && alignof(BatchTableEntry) == 1);
static_assert(kBatchEncodedBytesMax ==
              sizeof(BatchHeader) + kBatchRecordsMax * sizeof(BatchTableEntry) + kBatchPayloadBytesMax + 8);

// What is hashed for a bound checksum: the section's own hash with the place where the section belongs.
struct BatchBinding {
  le64 content_checksum;        // xxh3-64 of the stored bytes
  std::uint8_t server[16];
  le64 first_seq;
  le64 section;                 // kSection*
};
static_assert(sizeof(BatchBinding) == 40);
inline constexpr std::uint64_t kSectionTable = 1;
inline constexpr std::uint64_t kSectionPayload = 2;

// Payload of GAP.
struct GapPayload {
  std::uint8_t reason;          // GapReason
  std::uint8_t reserved[7];     // zero
};
static_assert(sizeof(GapPayload) == 8);

// Payload of MARK: this, then name_bytes of UTF-8, then reason_bytes of UTF-8.
struct MarkPayload {
  std::uint8_t consistency;     // Consistency
  std::uint8_t name_bytes;      // 1 to 255
  le16 reason_bytes;            // 0 to kMarkReasonBytesMax; only with Consistency::kCrash
  std::uint8_t reserved[4];     // zero
};
static_assert(sizeof(MarkPayload) == 8);

// Payload of GEOMETRY: this, then disk_count times GeometryDisk, each followed by name_bytes of UTF-8.
struct GeometryPayload {
  le16 disk_count;              // 0 to kDisksMax
  std::uint8_t reserved[6];     // zero
};
static_assert(sizeof(GeometryPayload) == 8);
struct GeometryDisk {
  le16 disk;                    // slot, below kDisksMax, each at most once
  std::uint8_t name_bytes;      // 1 to 255
  std::uint8_t reserved;        // zero
  le32 logical_block_bytes;     // a power of two from 512 to 65536
  le64 size_bytes;
  std::uint8_t id[16];
};
static_assert(sizeof(GeometryDisk) == 32);

}  // namespace understudy
