// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "daemon/base/check.h"
#include "daemon/record/batch.h"
#include "daemon/record/batch_checksum.h"
#include "daemon/record/batch_format.h"
#include "daemon/record/codec.h"

namespace understudy {
namespace {

// The table as stored bytes before compression, in a buffer kept per thread.
std::span<const std::byte> build_table(const std::vector<Record>& records) {
  thread_local std::vector<BatchTableEntry> table;
  table.resize(records.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    const Record& record = records[i];
    BatchTableEntry& entry = table[i];
    entry.kind = static_cast<std::uint8_t>(record.kind);
    entry.flags = record.flags;
    entry.disk = record.disk;
    entry.payload_bytes = static_cast<std::uint32_t>(record.payload.size());
    entry.offset_bytes = record.offset_bytes;
    entry.length_bytes = record.length_bytes;
    entry.time_ns = record.time_ns;
    entry.checksum = record.checksum;
  }
  return std::as_bytes(std::span(table));
}

bool has_collapsed_gap(const std::vector<Record>& records) {
  return std::any_of(records.begin(), records.end(), [](const Record& record) {
    return record.kind == RecordKind::kGap && !record.payload.empty() &&
           record.payload[0] == static_cast<std::byte>(GapReason::kCollapsed);
  });
}

void append_payloads(const std::vector<Record>& records, std::vector<std::byte>& out) {
  for (const Record& record : records) out.insert(out.end(), record.payload.begin(), record.payload.end());
}

// Payload section: plain payloads go from their own memory straight to `out`; for a codec they must be contiguous.
Codec append_payload_section(const std::vector<Record>& records, std::size_t raw_bytes, const Compression& compression,
                             std::vector<std::byte>& out) {
  if (compression.codec == Codec::kNone) {
    append_payloads(records, out);
    return Codec::kNone;
  }
  if (records.size() == 1) return append_compressed(records[0].payload, compression, out);
  thread_local std::vector<std::byte> contiguous;
  contiguous.clear();
  contiguous.reserve(raw_bytes);
  append_payloads(records, contiguous);
  return append_compressed(contiguous, compression, out);
}

}  // namespace

void BatchWriter::start(const Uuid& server, Seq first_seq, std::uint64_t epoch, std::uint64_t generation) {
  CHECK_GT(first_seq, 0u);
  records_.clear();
  server_ = server;
  first_seq_ = first_seq;
  epoch_ = epoch;
  generation_ = generation;
  cursor_ = CaptureCursor{};
  block_order_ = false;
  head_.reset();
  raw_payload_bytes_ = 0;
}

bool BatchWriter::fits(std::uint32_t payload_bytes) const {
  return records_.size() < kBatchRecordsMax && payload_bytes <= kRecordPayloadBytesMax &&
         payload_bytes <= kBatchPayloadBytesMax - raw_payload_bytes_;
}

void BatchWriter::add(const Record& record) {
  CHECK_LE(record.payload.size(), kRecordPayloadBytesMax);
  CHECK(fits(static_cast<std::uint32_t>(record.payload.size())));
  records_.push_back(record);
  raw_payload_bytes_ += static_cast<std::uint32_t>(record.payload.size());
}

void BatchWriter::set_cursor(const CaptureCursor& cursor) { cursor_ = cursor; }
std::uint32_t BatchWriter::record_count() const { return static_cast<std::uint32_t>(records_.size()); }
std::uint32_t BatchWriter::raw_payload_bytes() const { return raw_payload_bytes_; }

BatchInfo BatchWriter::encode(const Compression& compression, std::vector<std::byte>& out) const {
  return encode(compression, compression, out);
}

BatchInfo BatchWriter::encode(const Compression& table_compression, const Compression& payload_compression,
                              std::vector<std::byte>& out) const {
  CHECK(!records_.empty());
  const std::size_t start = out.size();
  const std::span<const std::byte> table = build_table(records_);
  const std::size_t room = start + kBatchHeaderBytes + table.size() + raw_payload_bytes_ + kBatchAlignBytes;
  if (room > out.capacity()) out.reserve(std::max(room, 2 * out.capacity()));
  out.resize(start + kBatchHeaderBytes);
  const Codec table_codec = append_compressed(table, table_compression, out);
  const std::size_t table_end = out.size();
  const Codec payload_codec = append_payload_section(records_, raw_payload_bytes_, payload_compression, out);
  const std::size_t payload_end = out.size();
  while ((out.size() - start) % kBatchAlignBytes != 0) out.push_back(std::byte{0});

  BatchHeader header{};
  header.magic = kBatchMagic;
  header.version = kBatchVersion;
  header.header_bytes = static_cast<std::uint16_t>(kBatchHeaderBytes);
  header.incompatible_flags =
      (has_collapsed_gap(records_) ? kBatchHasCollapsedGap : 0) | (block_order_ ? kBatchBlockOrder : 0);
  header.table_codec = static_cast<std::uint8_t>(table_codec);
  header.payload_codec = static_cast<std::uint8_t>(payload_codec);
  std::memcpy(header.server, server_.bytes.data(), sizeof(header.server));
  header.first_seq = first_seq_;
  header.epoch = epoch_;
  header.generation = generation_;
  std::memcpy(header.capture_id, cursor_.capture_id.bytes.data(), sizeof(header.capture_id));
  header.capture_position = cursor_.position;
  header.capture_loss_count = cursor_.loss_count;
  header.first_time_ns = records_.front().time_ns;
  header.last_time_ns = records_.back().time_ns;
  header.record_count = record_count();
  if (head_) {
    header.compatible_flags = kBatchHasHead;
    std::memcpy(header.head, head_->data(), sizeof(header.head));
  }
  header.encoded_bytes = static_cast<std::uint32_t>(out.size() - start);
  header.table_raw_bytes = static_cast<std::uint32_t>(table.size());
  header.table_stored_bytes = static_cast<std::uint32_t>(table_end - start - kBatchHeaderBytes);
  header.payload_raw_bytes = raw_payload_bytes_;
  header.payload_stored_bytes = static_cast<std::uint32_t>(payload_end - table_end);
  const std::span<const std::byte> batch = std::span(out).subspan(start);
  header.table_checksum =
      bound_checksum(batch.subspan(kBatchHeaderBytes, header.table_stored_bytes), header, kSectionTable);
  header.payload_checksum = bound_checksum(batch.subspan(table_end - start), header, kSectionPayload);
  header.header_checksum = batch_header_checksum(header);
  std::memcpy(out.data() + start, &header, sizeof(header));

  Result<BatchInfo> info = BatchReader::peek(batch, BatchOrder::kAny);  // what a reader will make of it
  return std::move(info).value();
}

}  // namespace understudy
