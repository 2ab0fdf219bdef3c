// SPDX-License-Identifier: Apache-2.0
// The records of a server's stream: the one totally ordered, gaplessly numbered sequence that is captured, sent,
// stored and recovered. FORMAT.md in this folder has the bytes; this header is what the code passes around.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/uuid.h"

namespace understudy {

using Seq = std::uint64_t;  // 1, 2, 3 ... per server; 0 = none

enum class RecordKind : std::uint8_t {
  kWrite = 1,     // payload: the bytes
  kZero = 2,      // the extent reads as zeros (discard, write-zeroes)
  kBarrier = 3,   // everything before may be assumed durable: points align here
  kMark = 4,      // a named point; payload: MarkInfo
  kCopy = 5,      // bytes read from the disk by full copy or resync; payload: the bytes (none with kZeros)
  kGap = 6,       // from here on the stream lacks writes; payload: GapInfo
  kHeal = 7,      // ... until here, where it is whole again
  kGeometry = 8,  // the disks of the server from here on; payload: list of DiskGeometry
};
inline constexpr std::uint8_t kRecordKindMax = 8;
std::string_view record_kind_name(RecordKind kind);

// Flags of a record.
inline constexpr std::uint8_t kRecordFua = 1 << 0;          // BARRIER made by FUA; WRITE that carried FUA
inline constexpr std::uint8_t kRecordDiscard = 1 << 1;      // ZERO that came from a discard
inline constexpr std::uint8_t kRecordZeros = 1 << 2;        // COPY of an extent that reads as zeros: no payload
inline constexpr std::uint8_t kRecordInitial = 1 << 3;      // COPY of the very first full copy: goes to the base image
inline constexpr std::uint8_t kRecordInBase = 1 << 4;       // stored only: the payload lies in the base image
inline constexpr std::uint8_t kRecordInRun = 1 << 5;    // stored only: the payload lies in the blocks of the run
inline constexpr std::uint8_t kRecordFlagsKnown = 0x3f;

// A record, payload not owned.
struct Record {
  RecordKind kind = RecordKind::kWrite;
  std::uint8_t flags = 0;
  std::uint16_t disk = 0;          // slot of the disk; 0 where it means nothing
  std::uint64_t offset_bytes = 0;  // of the whole disk
  std::uint64_t length_bytes = 0;  // of the extent; for a record without one, 0
  std::uint64_t time_ns = 0;       // wall clock at the source, since 1970, never falling within a stream
  std::uint64_t checksum = 0;      // xxh3-64 of the payload, made at capture (I7); 0 when there is none
  std::span<const std::byte> payload;
};

// Why the stream lacks writes between a GAP and its HEAL.
enum class GapReason : std::uint8_t {
  kInitialCopy = 1,    // nothing was copied yet
  kOverflow = 2,       // the ring was full: receiver away or too slow
  kNewCapture = 3,     // completeness could not be proved: reboot, skipped program runs, capture was gone
  kReceiverBehind = 4, // the receiver came back older than what it had acknowledged
  kRequested = 5,      // an operator asked for a repair
  kCollapsed = 6,      // the backlog was older than the policy keeps second by second
};
inline constexpr std::uint8_t kGapReasonMax = 6;
std::string_view gap_reason_name(GapReason reason);

struct GapInfo {
  GapReason reason = GapReason::kInitialCopy;
};

enum class Consistency : std::uint8_t { kCrash = 1, kApplication = 2 };

struct MarkInfo {
  std::string name;                // 1 to 255 bytes of UTF-8
  Consistency consistency = Consistency::kCrash;
  // Why a point that was to be application-consistent is only crash-consistent; empty otherwise. Clean text as of
  // is_valid_name(), but up to kMarkReasonBytesMax.
  std::string reason = {};
};

struct DiskGeometry {
  std::uint16_t disk = 0;          // slot
  Uuid id;                         // stays with the disk over reboots and renames
  std::string name;                // as configured at the source
  std::uint64_t size_bytes = 0;
  std::uint32_t logical_block_bytes = 512;
  auto operator<=>(const DiskGeometry&) const = default;
};

// How far the capture has been turned into stream. The receiver keeps it durably with the records and gives it back
// at the next session, so the agent itself need not write anything down.
struct CaptureCursor {
  Uuid capture_id;
  std::uint64_t position = 0;      // ring position behind the last captured event in the stream
  std::uint64_t loss_count = 0;    // losses that the stream already accounts for (by GAP)
  auto operator<=>(const CaptureCursor&) const = default;
};

// Where a stream stands: the answer of a receiver to "what do you have?".
struct StreamPosition {
  Seq seq = 0;                     // last durable record; 0 = empty store
  std::uint64_t epoch = 0;         // fences old writers (I9)
  std::uint64_t generation = 0;    // counts captures that could not be proved to continue one another
  CaptureCursor cursor;
  bool gap_open = false;           // a GAP without its HEAL
  GapReason gap_reason = GapReason::kInitialCopy;
  bool initial_copy_done = false;  // the first HEAL has been seen
  std::vector<DiskGeometry> disks; // the newest GEOMETRY
  std::uint64_t last_time_ns = 0;  // highest time of any record: the source continues at or above it
};

// Names of servers, disks and marks: 1 to 255 bytes of UTF-8 without control characters (they are shown on terminals
// and in JSON). Whoever takes a name from a user checks it with this; the encoders below CHECK it.
bool is_valid_name(std::string_view text);
// Makes a reason for MarkInfo out of any text: what a terminal cannot show is escaped, and what is too long is cut.
std::string mark_reason(std::string_view text);

// Payload encodings of the records that carry a structure. Decoding checks every length and enum value.
std::vector<std::byte> encode_gap(const GapInfo& info);
std::vector<std::byte> encode_mark(const MarkInfo& info);
std::vector<std::byte> encode_geometry(std::span<const DiskGeometry> disks);
Result<GapInfo> decode_gap(std::span<const std::byte> payload);
Result<MarkInfo> decode_mark(std::span<const std::byte> payload);
Result<std::vector<DiskGeometry>> decode_geometry(std::span<const std::byte> payload);

}  // namespace understudy
