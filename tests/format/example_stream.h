// SPDX-License-Identifier: Apache-2.0
// The stream in the stored examples of this folder: one record of each kind, each codec, two disks, a gap. Never
// changed: a new format version gets a new example beside the old one.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "daemon/record/batch.h"
#include "daemon/record/record.h"
#include "tests/unit/store/stream_maker.h"

namespace understudy {

struct ExampleBatch {
  Codec codec;
  std::vector<OwnedRecord> records;
};

inline constexpr std::uint64_t kExampleStartNs = 1'760'000'000'000'000'000;  // 2025-10-09T08:53:20Z
inline constexpr std::uint64_t kExampleStepNs = 250'000'000;                 // between records

inline Uuid example_uuid(std::string_view text) { return Uuid::parse(text).value(); }
inline Uuid example_server() { return example_uuid("5e7f0a11-0000-4000-8000-000000000001"); }

inline std::vector<std::byte> example_bytes(std::size_t count, unsigned salt) {
  std::vector<std::byte> bytes(count);
  std::uint32_t value = salt * 2654435761u;
  for (std::size_t i = 0; i < count; ++i) {
    if (i % 64 == 0) value = value * 1664525u + 1013904223u;
    bytes[i] = static_cast<std::byte>(value >> (i % 4 * 8));
  }
  return bytes;
}

inline std::vector<ExampleBatch> example_stream() {
  const std::vector<DiskGeometry> disks = {
      {0, example_uuid("d15c0000-0000-4000-8000-000000000000"), "/dev/vda", 32768, 512},
      {1, example_uuid("d15c0000-0000-4000-8000-000000000001"), "/dev/vdb", 16384, 4096}};
  const auto extent = [](RecordKind kind, std::uint16_t disk, std::uint64_t offset, std::uint64_t length, unsigned salt,
                         std::uint8_t flags = 0) {
    return make_record(kind, disk, offset, length, salt == 0 ? std::vector<std::byte>() : example_bytes(length, salt),
                       flags);
  };
  const auto plain = [](RecordKind kind, std::vector<std::byte> payload = {}, std::uint8_t flags = 0) {
    return make_record(kind, 0, 0, 0, std::move(payload), flags);
  };
  return {
      {Codec::kZstd,
       {plain(RecordKind::kGeometry, encode_geometry(disks)),
        plain(RecordKind::kGap, encode_gap({GapReason::kInitialCopy})),
        extent(RecordKind::kCopy, 0, 0, 8192, 1, kRecordInitial),
        extent(RecordKind::kCopy, 0, 8192, 24576, 0, kRecordInitial | kRecordZeros)}},
      {Codec::kLz4,
       {extent(RecordKind::kWrite, 1, 0, 512, 2), extent(RecordKind::kCopy, 1, 512, 15872, 3, kRecordInitial),
        plain(RecordKind::kHeal), plain(RecordKind::kBarrier)}},
      {Codec::kNone,
       {extent(RecordKind::kWrite, 0, 4096, 1024, 4), plain(RecordKind::kBarrier, {}, kRecordFua),
        plain(RecordKind::kMark, encode_mark({"before-upgrade", Consistency::kApplication})),
        extent(RecordKind::kZero, 0, 0, 2048, 0, kRecordDiscard)}},
      {Codec::kZstd,
       {plain(RecordKind::kGap, encode_gap({GapReason::kOverflow})), extent(RecordKind::kWrite, 0, 16384, 4096, 5),
        extent(RecordKind::kCopy, 1, 4096, 4096, 6), plain(RecordKind::kHeal), plain(RecordKind::kBarrier)}},
      {Codec::kLz4, {extent(RecordKind::kWrite, 1, 8192, 4096, 7)}},
  };
}

// Encodes the batches one after another; record n gets the time kExampleStartNs + n * kExampleStepNs.
inline std::vector<std::vector<std::byte>> encode_example(std::vector<ExampleBatch>& stream) {
  std::vector<std::vector<std::byte>> encoded;
  Seq seq = 1;
  for (ExampleBatch& batch : stream) {
    BatchWriter writer;
    writer.start(example_server(), seq, 1, 1);
    for (OwnedRecord& owned : batch.records) {
      owned.record.time_ns = kExampleStartNs + seq++ * kExampleStepNs;
      owned.record.payload = owned.payload;
      writer.add(owned.record);
    }
    writer.set_cursor({example_uuid("ca970000-0000-4000-8000-000000000001"), seq * 4096, 0});
    writer.encode({batch.codec, 1}, encoded.emplace_back());
  }
  return encoded;
}

}  // namespace understudy
