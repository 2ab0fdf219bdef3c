// SPDX-License-Identifier: Apache-2.0
// A batch: consecutive records of one stream, the unit that is compressed, sent, appended and acknowledged. The same
// bytes travel on the wire and lie in a journal segment. Layout: FORMAT.md and batch_format.h in this folder.
//
// A batch is [header][table][payloads]: the table of record headers and the payload section are compressed each by
// itself, so an index is rebuilt without touching payloads. Header checksum, table checksum and stored-payload
// checksum are separate and all bind the server's id and the first seq, so a misdirected batch is caught.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/uuid.h"
#include "daemon/record/record.h"

namespace understudy {

enum class Codec : std::uint8_t { kNone = 0, kLz4 = 1, kZstd = 2 };
std::string_view codec_name(Codec codec);

struct Compression {
  Codec codec = Codec::kZstd;
  int level = 1;  // zstd only: 1..19
};

// What a batch says of itself beside its records.
struct BatchInfo {
  Uuid server;
  Seq first_seq = 0;
  std::uint32_t record_count = 0;
  std::uint64_t epoch = 0;
  std::uint64_t generation = 0;
  CaptureCursor cursor;  // after the last record
  std::uint64_t first_time_ns = 0;
  std::uint64_t last_time_ns = 0;
  Codec codec = Codec::kNone;
  std::uint32_t raw_payload_bytes = 0;
  // Of a stretch of the stream in a run: the chain head of the store when this batch had been appended.
  std::optional<std::array<std::byte, 32>> head;
  bool block_order = false;           // not a stretch of the stream: BatchOrder::kAny
  std::uint32_t encoded_bytes = 0;    // of the whole batch, header and padding included; a multiple of 8
  std::uint32_t table_end_bytes = 0;  // header and stored table: where the stored payloads begin

  Seq last_seq() const { return first_seq + record_count - 1; }
};

// Collects records and encodes them. Payloads are not copied before encode(): their memory must stay valid till then.
class BatchWriter {
 public:
  // Resets to an empty batch.
  void start(const Uuid& server, Seq first_seq, std::uint64_t epoch, std::uint64_t generation);
  // The record's checksum is taken as given (made at capture). The caller closes the batch before it passes
  // kBatchRecordsMax or kBatchPayloadBytesMax (limits.h); `fits` says whether one more record may be added.
  void add(const Record& record);
  bool fits(std::uint32_t payload_bytes) const;
  void set_cursor(const CaptureCursor& cursor);
  // Makes it one of a run's: WRITE and COPY with payload, the seq of each in time_ns, first_seq any number but 0.
  void set_block_order() { block_order_ = true; }
  // BatchInfo::head.
  void set_head(const std::array<std::byte, 32>& head) { head_ = head; }

  std::uint32_t record_count() const;
  std::uint32_t raw_payload_bytes() const;
  bool empty() const { return record_count() == 0; }
  const std::vector<Record>& records() const { return records_; }

  // Appends the encoded batch to `out`. Falls back to no compression where it does not pay.
  BatchInfo encode(const Compression& compression, std::vector<std::byte>& out) const;
  // The same with the sections compressed differently.
  BatchInfo encode(const Compression& table, const Compression& payload, std::vector<std::byte>& out) const;

 private:
  std::vector<Record> records_;
  Uuid server_;
  Seq first_seq_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint64_t generation_ = 0;
  CaptureCursor cursor_;
  bool block_order_ = false;
  std::optional<std::array<std::byte, 32>> head_;
  std::uint32_t raw_payload_bytes_ = 0;
};

// How much a reader proves.
enum class Verify : std::uint8_t {
  kStored,   // header, table and the stored (compressed) payload section
  kRecords,  // also each record's payload against its capture checksum
};

// Which batches a reader takes.
enum class BatchOrder : std::uint8_t {
  kStream,  // consecutive records: all that ever travel
  kAny,     // also those of a run's blocks, whose records stand in the order of their places (info().block_order)
};

// A decoded batch; owns the decompressed memory its records point into (or points into the input when stored plain,
// which must then stay alive). Move-only: moving keeps the spans valid.
class BatchReader {
 public:
  BatchReader() = default;
  BatchReader(BatchReader&&) = default;
  BatchReader& operator=(BatchReader&&) = default;
  BatchReader(const BatchReader&) = delete;
  BatchReader& operator=(const BatchReader&) = delete;

  // Reads just the fixed header at the start of `data` (at least kBatchHeaderBytes) and checks it: magic, versions,
  // flag words, checksum, every length. Unknown incompatible flags are refused by name.
  static Result<BatchInfo> peek(std::span<const std::byte> data, BatchOrder order = BatchOrder::kStream);
  // Decodes a whole batch. Nothing in `data` is trusted.
  static Result<BatchReader> decode(std::span<const std::byte> data, Verify verify,
                                    BatchOrder order = BatchOrder::kStream);
  // Only header and table: records without payload spans. `data` may end behind the stored table
  // (BatchInfo::table_end_bytes); payload_bytes() still tells each record's share of the payload section.
  static Result<BatchReader> decode_table(std::span<const std::byte> data, BatchOrder order = BatchOrder::kStream);

  const BatchInfo& info() const { return info_; }
  const std::vector<Record>& records() const { return records_; }
  // Index of record `seq`, also in a batch of a run's blocks; nullopt = it is not here.
  std::optional<std::size_t> find(Seq seq) const {
    if (!info_.block_order)
      return seq >= info_.first_seq && seq - info_.first_seq < records_.size()
                 ? std::optional<std::size_t>(seq - info_.first_seq)
                 : std::nullopt;
    for (std::size_t i = 0; i < records_.size(); ++i)
      if (records_[i].time_ns == seq) return i;
    return std::nullopt;
  }
  // Bytes of record `index` in the payload section; equals records()[index].payload.size() unless decode_table() made
  // this reader.
  std::uint32_t payload_bytes(std::size_t index) const { return payload_bytes_[index]; }

 private:
  BatchInfo info_;
  std::vector<Record> records_;
  std::vector<std::uint32_t> payload_bytes_;
  std::vector<std::byte> payload_;
};

}  // namespace understudy
