// SPDX-License-Identifier: Apache-2.0
// Nothing in the input is trusted: the header's checksum comes first, then every length against its limit and against
// the others, and only then memory is allocated.
#include <cstring>
#include <string>

#include "daemon/base/checksum.h"
#include "daemon/record/batch.h"
#include "daemon/record/batch_checksum.h"
#include "daemon/record/batch_format.h"
#include "daemon/record/codec.h"

namespace understudy {
namespace {

Error corrupt(std::string message) { return Error(ErrorKind::kCorrupt, "read batch: " + std::move(message)); }

std::string number(std::uint64_t value) { return std::to_string(value); }

std::string hex_word(std::uint32_t value) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) text.push_back(kDigits[(value >> shift) & 15]);
  return text;
}

Status check_identity(const BatchHeader& header, BatchOrder order) {
  if (header.magic != kBatchMagic) return corrupt("no batch begins here (wrong magic)");
  // A newer version is told apart from damage by its checksum, which has the same place in every version.
  if (batch_header_checksum(header) != header.header_checksum) return corrupt("header checksum does not match");
  if (header.version != kBatchVersion)
    return Error(ErrorKind::kUnsupported, "read batch: format version " + number(header.version) +
                                              " is newer than version " + number(kBatchVersion) +
                                              " of this program; update it");
  if (const std::uint32_t unknown = header.incompatible_flags & ~kBatchIncompatibleKnown; unknown != 0)
    return Error(ErrorKind::kUnsupported, "read batch: unknown incompatible flags " + hex_word(unknown) +
                                              "; a newer program wrote this, update this one");
  if (order == BatchOrder::kStream && (header.incompatible_flags & kBatchBlockOrder) != 0)
    return corrupt("a batch of a run's blocks is not a part of a stream");
  return ok_status();
}

Status check_lengths(const BatchHeader& header) {
  if (header.header_bytes != kBatchHeaderBytes)
    return corrupt("header says it is " + number(header.header_bytes) + " bytes long, must be " +
                   number(kBatchHeaderBytes));
  if (header.record_count == 0 || header.record_count > kBatchRecordsMax)
    return corrupt(number(header.record_count) + " records, must be 1 to " + number(kBatchRecordsMax));
  if (header.first_seq == 0 || header.first_seq > ~0ull - header.record_count)
    return corrupt("first seq " + number(header.first_seq) + " is impossible");
  if (header.payload_raw_bytes > kBatchPayloadBytesMax)
    return corrupt(number(header.payload_raw_bytes) + " bytes of payload, at most " + number(kBatchPayloadBytesMax));
  if (header.table_raw_bytes != header.record_count * sizeof(BatchTableEntry) ||
      header.table_stored_bytes > header.table_raw_bytes || header.payload_stored_bytes > header.payload_raw_bytes)
    return corrupt("section lengths contradict each other");
  if (header.table_codec > static_cast<std::uint8_t>(Codec::kZstd) ||
      header.payload_codec > static_cast<std::uint8_t>(Codec::kZstd))
    return corrupt("unknown codec");
  if ((header.table_codec == 0 && header.table_stored_bytes != header.table_raw_bytes) ||
      (header.payload_codec == 0 && header.payload_stored_bytes != header.payload_raw_bytes))
    return corrupt("a plain section has two lengths");
  const std::uint64_t unpadded =
      kBatchHeaderBytes + std::uint64_t{header.table_stored_bytes} + header.payload_stored_bytes;
  const std::uint64_t padded = (unpadded + kBatchAlignBytes - 1) / kBatchAlignBytes * kBatchAlignBytes;
  if (header.encoded_bytes != padded)
    return corrupt("says it is " + number(header.encoded_bytes) + " bytes long, its sections make " + number(padded));
  return ok_status();
}

Result<BatchHeader> read_header(std::span<const std::byte> data, BatchOrder order) {
  if (data.size() < kBatchHeaderBytes)
    return corrupt("cut off in the header: " + number(data.size()) + " bytes of " + number(kBatchHeaderBytes));
  BatchHeader header;
  std::memcpy(&header, data.data(), sizeof(header));
  RETURN_IF_ERROR(check_identity(header, order));
  RETURN_IF_ERROR(check_lengths(header));
  return header;
}

BatchInfo info_of(const BatchHeader& header) {
  BatchInfo info;
  std::memcpy(info.server.bytes.data(), header.server, sizeof(header.server));
  info.first_seq = header.first_seq;
  info.record_count = header.record_count;
  if ((header.compatible_flags & kBatchHasHead) != 0) {
    info.head.emplace();
    std::memcpy(info.head->data(), header.head, sizeof(header.head));
  }
  info.block_order = (header.incompatible_flags & kBatchBlockOrder) != 0;
  info.epoch = header.epoch;
  info.generation = header.generation;
  std::memcpy(info.cursor.capture_id.bytes.data(), header.capture_id, sizeof(header.capture_id));
  info.cursor.position = header.capture_position;
  info.cursor.loss_count = header.capture_loss_count;
  info.first_time_ns = header.first_time_ns;
  info.last_time_ns = header.last_time_ns;
  info.codec = static_cast<Codec>(header.payload_codec);
  info.raw_payload_bytes = header.payload_raw_bytes;
  info.encoded_bytes = header.encoded_bytes;
  info.table_end_bytes = static_cast<std::uint32_t>(kBatchHeaderBytes) + header.table_stored_bytes;
  return info;
}

// What a kind may carry; nullptr = all right.
const char* contradiction_in(const BatchTableEntry& entry) {
  const auto kind = static_cast<RecordKind>(entry.kind);
  const std::uint32_t payload = entry.payload_bytes;
  if ((entry.flags & ~kRecordFlagsKnown) != 0) return "unknown record flags";
  if (payload > kRecordPayloadBytesMax) return "payload is longer than a record may have";
  if (entry.disk >= kDisksMax) return "disk slot is out of range";
  if (entry.offset_bytes > kDiskBytesMax || entry.length_bytes > kDiskBytesMax - entry.offset_bytes)
    return "extent ends behind any possible disk";
  const bool in_base = (entry.flags & kRecordInBase) != 0;
  if (in_base && (kind != RecordKind::kCopy || (entry.flags & kRecordInitial) == 0 || payload != 0 ||
                  (entry.flags & kRecordZeros) != 0))
    return "only the payload of an initial copy can lie in a base image";
  const bool in_run = (entry.flags & kRecordInRun) != 0;
  if (in_run &&
      ((kind != RecordKind::kWrite && kind != RecordKind::kCopy) || payload != 0 || in_base ||
       (entry.flags & kRecordZeros) != 0 || entry.length_bytes == 0 || entry.length_bytes > kRecordPayloadBytesMax))
    return "only the payload of a write or copy can lie in a run's blocks";
  switch (kind) {
    case RecordKind::kWrite:
      if (in_run) return nullptr;
      return payload == entry.length_bytes && payload != 0 ? nullptr : "payload is not as long as the extent";
    case RecordKind::kZero:
      return payload == 0 && entry.length_bytes != 0 ? nullptr : "a zero record needs just an extent";
    case RecordKind::kCopy:
      if (entry.length_bytes == 0) return "copy of an empty extent";
      if ((entry.flags & kRecordZeros) != 0) return payload == 0 ? nullptr : "copy of zeros has a payload";
      if (in_base)
        return entry.length_bytes <= kRecordPayloadBytesMax ? nullptr : "extent is longer than a record may have";
      return in_run || payload == entry.length_bytes ? nullptr : "payload is not as long as the extent";
    case RecordKind::kBarrier:
    case RecordKind::kHeal:
      return payload == 0 && entry.length_bytes == 0 ? nullptr : "neither payload nor extent belong here";
    case RecordKind::kMark:
    case RecordKind::kGap:
    case RecordKind::kGeometry:
      return payload != 0 && entry.length_bytes == 0 ? nullptr : "needs a payload and no extent";
  }
  return "unknown kind";
}

// Turns the raw table into records; payload spans are left empty.
Status parse_table(std::span<const std::byte> table, const BatchHeader& header, std::vector<Record>& records,
                   std::vector<std::uint32_t>& payload_bytes) {
  records.resize(header.record_count);
  payload_bytes.resize(header.record_count);
  std::uint64_t payload_sum = 0;
  for (std::size_t i = 0; i < records.size(); ++i) {
    BatchTableEntry entry;
    std::memcpy(&entry, table.data() + i * sizeof(entry), sizeof(entry));
    if (const char* reason = contradiction_in(entry))
      return corrupt("record " + number(header.first_seq + i) + ": " + reason);
    if ((header.incompatible_flags & kBatchBlockOrder) != 0 && entry.payload_bytes == 0)
      return corrupt("record " + number(header.first_seq + i) + ": without payload among a run's blocks");
    Record& record = records[i];
    record.kind = static_cast<RecordKind>(entry.kind);
    record.flags = entry.flags;
    record.disk = entry.disk;
    record.offset_bytes = entry.offset_bytes;
    record.length_bytes = entry.length_bytes;
    record.time_ns = entry.time_ns;
    record.checksum = entry.checksum;
    payload_bytes[i] = entry.payload_bytes;
    payload_sum += entry.payload_bytes;
  }
  if (payload_sum != header.payload_raw_bytes)
    return corrupt("payloads of the table make " + number(payload_sum) + " bytes, the header says " +
                   number(header.payload_raw_bytes));
  if (records.front().time_ns != header.first_time_ns || records.back().time_ns != header.last_time_ns)
    return corrupt("times of header and table differ");
  return ok_status();
}

Status read_table(std::span<const std::byte> data, const BatchHeader& header, std::vector<Record>& records,
                  std::vector<std::uint32_t>& payload_bytes) {
  if (data.size() < kBatchHeaderBytes + std::uint64_t{header.table_stored_bytes})
    return corrupt("cut off in the table");
  const std::span<const std::byte> stored = data.subspan(kBatchHeaderBytes, header.table_stored_bytes);
  if (bound_checksum(stored, header, kSectionTable) != header.table_checksum)
    return corrupt("table checksum does not match");
  const auto codec = static_cast<Codec>(header.table_codec);
  if (codec == Codec::kNone) return parse_table(stored, header, records, payload_bytes);
  thread_local std::vector<std::byte> raw;
  raw.resize(header.table_raw_bytes);
  if (Status status = decompress(codec, stored, raw); !status.ok())
    return std::move(status).error().with_context("read batch: table");
  return parse_table(raw, header, records, payload_bytes);
}

// Gives each record its part of the raw payload section.
void hand_out_payloads(std::span<const std::byte> raw, const std::vector<std::uint32_t>& payload_bytes,
                       std::vector<Record>& records) {
  for (std::size_t i = 0; i < records.size(); ++i) {
    records[i].payload = raw.first(payload_bytes[i]);
    raw = raw.subspan(payload_bytes[i]);
  }
  CHECK(raw.empty());
}

Status check_payloads(const std::vector<Record>& records, Seq first_seq) {
  for (std::size_t i = 0; i < records.size(); ++i) {
    const Record& record = records[i];
    if (record.payload.empty()) {
      if (record.checksum != 0 && (record.flags & (kRecordInBase | kRecordInRun)) == 0)
        return corrupt("record " + number(first_seq + i) + ": has a checksum but no payload");
    } else if (xxh3_64(record.payload) != record.checksum) {
      return corrupt("record " + number(first_seq + i) + " (" + std::string(record_kind_name(record.kind)) + ", disk " +
                     number(record.disk) + ", offset " + number(record.offset_bytes) +
                     "): payload is not what was captured (checksum)");
    }
  }
  return ok_status();
}

}  // namespace

Result<BatchInfo> BatchReader::peek(std::span<const std::byte> data, BatchOrder order) {
  ASSIGN_OR_RETURN(const BatchHeader header, read_header(data, order));
  return info_of(header);
}

Result<BatchReader> BatchReader::decode_table(std::span<const std::byte> data, BatchOrder order) {
  ASSIGN_OR_RETURN(const BatchHeader header, read_header(data, order));
  BatchReader reader;
  reader.info_ = info_of(header);
  RETURN_IF_ERROR(read_table(data, header, reader.records_, reader.payload_bytes_));
  return reader;
}

Result<BatchReader> BatchReader::decode(std::span<const std::byte> data, Verify verify, BatchOrder order) {
  ASSIGN_OR_RETURN(const BatchHeader header, read_header(data, order));
  if (data.size() < header.encoded_bytes)
    return corrupt("cut off: " + number(data.size()) + " bytes of " + number(header.encoded_bytes));
  BatchReader reader;
  reader.info_ = info_of(header);
  RETURN_IF_ERROR(read_table(data, header, reader.records_, reader.payload_bytes_));

  const std::span<const std::byte> rest = data.first(header.encoded_bytes).subspan(reader.info_.table_end_bytes);
  if (bound_checksum(rest, header, kSectionPayload) != header.payload_checksum)
    return corrupt("payload checksum does not match");
  std::span<const std::byte> raw = rest.first(header.payload_stored_bytes);
  if (const auto codec = static_cast<Codec>(header.payload_codec); codec != Codec::kNone) {
    reader.payload_.resize(header.payload_raw_bytes);
    if (Status status = decompress(codec, raw, reader.payload_); !status.ok())
      return std::move(status).error().with_context("read batch: payload");
    raw = reader.payload_;
  }
  hand_out_payloads(raw, reader.payload_bytes_, reader.records_);
  if (verify == Verify::kRecords) RETURN_IF_ERROR(check_payloads(reader.records_, header.first_seq));
  return reader;
}

}  // namespace understudy
