// SPDX-License-Identifier: Apache-2.0
// The bytes of a segment index (<first seq>.idx). FORMAT.md beside this file is the document; keep both equal.
//
//   index := IndexHeader directory fences events places pages
//
// An index is derived from one sealed segment and can be made again from it at any time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "daemon/base/little_endian.h"

namespace understudy {

// "UNDSINDX" in file order.
inline constexpr std::uint64_t kIndexMagic = 0x58444e4953444e55ull;
inline constexpr std::uint16_t kIndexVersion = 1;
inline constexpr std::uint32_t kIndexIncompatibleKnown = 0;

struct IndexSection {
  le64 offset_bytes;
  le64 length_bytes;
  le64 checksum;                // xxh3-64 of the section
};
static_assert(sizeof(IndexSection) == 24);

// A StreamPlace as if the stream had begun with the segment.
struct IndexPlace {
  le64 seq;                     // 0 = before the first record
  le64 time_ns;
  le64 write_time_ns;
  le64 barrier_seq;
  le64 barrier_write_time_ns;
  le64 flags;                   // 1: written since the barrier
};
static_assert(sizeof(IndexPlace) == 48);
inline constexpr std::uint64_t kPlaceWritten = 1;

struct IndexHeader {
  le64 magic;
  le16 version;
  le16 header_bytes;            // of this struct
  le32 compatible_flags;
  le32 incompatible_flags;
  le32 reserved0;               // zero
  std::uint8_t server[16];
  std::uint8_t store[16];
  le64 first_seq;               // of the segment
  le64 last_seq;                // first_seq - 1 = it has no record
  le64 segment_bytes;
  std::uint8_t segment_digest[32];  // SHA-256 of the segment, as in the header of the next one
  le64 entry_count;
  le64 pages_offset_bytes;      // pages: as many as entry_count needs
  IndexSection directory;       // IndexDirectoryEntry *
  IndexSection fences;          // IndexFence *, one a page
  IndexSection events;          // IndexEvent with payload *
  IndexSection places;          // IndexPlaceEntry *
  IndexPlace last_place;        // after the last record
  std::uint8_t reserved1[40];   // zero
  le64 header_checksum;         // xxh3-64 of the header up to here
};
static_assert(sizeof(IndexHeader) == 320 && offsetof(IndexHeader, header_checksum) == 312);

// The entries of one disk whose lengths are of one class: above 2^(class - 1), up to 2^class bytes. Sorted by disk and
// class; each range begins where the one before ends.
struct IndexDirectoryEntry {
  le16 disk;
  std::uint8_t length_class;    // 0 to 60
  std::uint8_t reserved0;       // zero
  le32 reserved1;               // zero
  le64 first_entry;
  le64 entry_count;
};
static_assert(sizeof(IndexDirectoryEntry) == 24);

// What a record did to an extent. Sorted within a directory range by begin, length, seq.
struct IndexEntry {
  le64 begin_bytes;
  le64 length_bytes;
  le64 seq;
  le32 frame_place;             // offset of the frame in the segment, divided by 8
  le32 batch_bytes_and_kind;    // batch_bytes of the frame (a multiple of 8) + kExtent*
};
static_assert(sizeof(IndexEntry) == 32);
inline constexpr std::uint32_t kExtentData = 0;   // the record's payload, in the batch
inline constexpr std::uint32_t kExtentZeros = 1;  // zeros; also where a GEOMETRY takes a disk away or makes it shorter
inline constexpr std::uint32_t kExtentBase = 2;   // the record's payload, in the base image
inline constexpr std::uint32_t kExtentKindMask = 7;

// Begin, length and seq of the first entry of a page.
struct IndexFence {
  le64 begin_bytes;
  le64 length_bytes;
  le64 seq;
};
static_assert(sizeof(IndexFence) == 24);

// 126 entries; what is behind the last one is zero.
struct IndexPageHeader {
  le64 checksum;                // xxh3-64 of the page behind this field
  le64 first_seq;               // of the segment
  le64 number;                  // of the page, from 0
  std::uint8_t store[16];
  std::uint8_t reserved[24];    // zero
};
static_assert(sizeof(IndexPageHeader) == 64);
inline constexpr std::size_t kIndexPageBytes = 4096;
inline constexpr std::size_t kIndexPageEntries = (kIndexPageBytes - sizeof(IndexPageHeader)) / sizeof(IndexEntry);
static_assert(kIndexPageEntries == 126);

// A GAP, HEAL, MARK or GEOMETRY; payload and zeros up to a multiple of 8 follow.
struct IndexEvent {
  le64 seq;
  le64 time_ns;
  std::uint8_t kind;            // RecordKind
  std::uint8_t reserved[3];     // zero
  le32 payload_bytes;
  IndexPlace before;            // after the record before this one
};
static_assert(sizeof(IndexEvent) == 72);

// Where to begin reading tables to get to a seq or time.
struct IndexPlaceEntry {
  IndexPlace before;            // after the record before the batch
  le64 frame_offset_bytes;
};
static_assert(sizeof(IndexPlaceEntry) == 56);

}  // namespace understudy
