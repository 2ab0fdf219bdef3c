// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/delta_codec.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "daemon/base/check.h"
#include "daemon/base/limits.h"
#include "daemon/record/batch_format.h"
#include "daemon/record/codec.h"
#include "daemon/wire/frame_format.h"

namespace understudy {
namespace {

// Fewer equal bytes than this between two changes cost less as literals than as an operation.
constexpr std::size_t kSkipBytesMin = 8;
// A block whose delta does not save at least this much goes as it is.
constexpr std::size_t kSavedBytesMin = 16;

Error corrupt(const std::string& what) { return Error(ErrorKind::kCorrupt, "delta batch: " + what); }

// Whether the cache has to do with the record's payload at all. Others (marks, geometry) are literals.
bool is_content(RecordKind kind) { return kind == RecordKind::kWrite || kind == RecordKind::kCopy; }

struct Piece {
  std::uint64_t block = 0;
  std::size_t from = 0;    // in the block
  std::size_t offset = 0;  // in the payload
  std::size_t bytes = 0;
};

// The payload of a record, cut where blocks end. `visit` returns false to stop.
template <typename Visit>
bool for_each_piece(const Record& record, std::size_t payload_bytes, Visit visit) {
  for (std::size_t offset = 0; offset < payload_bytes;) {
    const std::uint64_t at = record.offset_bytes + offset;
    const std::size_t from = static_cast<std::size_t>(at % kDeltaBlockBytes);
    const Piece piece{at / kDeltaBlockBytes, from, offset, std::min(kDeltaBlockBytes - from, payload_bytes - offset)};
    if (!visit(piece)) return false;
    offset += piece.bytes;
  }
  return true;
}

// What both ends do with their cache for each record, in order; `fill` makes or reads the bytes of a piece, given what
// is cached for it, and returns its content (empty = failed). True = all was well.
template <typename Fill, typename Literal>
bool walk(DeltaCache& cache, const Record& record, std::size_t payload_bytes, Fill fill, Literal literal) {
  if (!is_content(record.kind)) {
    if (record.kind == RecordKind::kZero) cache.forget(record.disk, record.offset_bytes, record.length_bytes);
    return payload_bytes == 0 || literal(payload_bytes);
  }
  if (payload_bytes == 0) {
    cache.forget(record.disk, record.offset_bytes, record.length_bytes);
    return true;
  }
  return for_each_piece(record, payload_bytes, [&](const Piece& piece) {
    std::span<const std::byte> known = cache.find(record.disk, piece.block);
    if (!known.empty()) known = known.subspan(piece.from, piece.bytes);
    const std::span<const std::byte> content = fill(piece, known);
    if (content.empty()) return false;
    cache.store(record.disk, piece.block, piece.from, content, record.kind == RecordKind::kWrite);
    return true;
  });
}

void append_varint(std::size_t value, std::vector<std::byte>& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::byte>((value & 0x7f) | 0x80));
  out.push_back(static_cast<std::byte>(value));
}

std::size_t varint_bytes(std::size_t value) { return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7; }

class OperationWriter {
 public:
  explicit OperationWriter(DeltaStreams& streams) : streams_(streams) {}
  ~OperationWriter() { flush(); }
  OperationWriter(const OperationWriter&) = delete;
  OperationWriter& operator=(const OperationWriter&) = delete;

  void skip(std::size_t bytes) {
    if (bytes == 0) return;
    if (literal_ != 0) flush();
    skip_ += bytes;
  }
  void literal(std::span<const std::byte> bytes) {
    literal_ += bytes.size();
    streams_.literals.insert(streams_.literals.end(), bytes.begin(), bytes.end());
  }

 private:
  void flush() {
    if (skip_ == 0 && literal_ == 0) return;
    append_varint(skip_, streams_.operations);
    append_varint(literal_, streams_.operations);
    skip_ = literal_ = 0;
  }

  DeltaStreams& streams_;
  std::size_t skip_ = 0;
  std::size_t literal_ = 0;
};

// Length of the equal bytes at the beginning of both.
std::size_t equal_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  constexpr std::size_t kStride = 64;
  std::size_t i = 0;
  while (i + kStride <= a.size() && std::memcmp(a.data() + i, b.data() + i, kStride) == 0) i += kStride;
  while (i < a.size() && a[i] == b[i]) ++i;
  return i;
}

// Length of what differs at the beginning, up to where at least kSkipBytesMin bytes are equal again.
std::size_t changed_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) {
      end = i + 1;
    } else if (i + 1 - end >= kSkipBytesMin) {
      break;
    }
  }
  return end;
}

struct Run {
  std::size_t skip = 0;
  std::size_t literal = 0;
};

// How `now` is made out of `before`; empty when that does not pay. `before` is as long as `now`.
bool difference(std::span<const std::byte> now, std::span<const std::byte> before, std::vector<Run>& runs) {
  runs.clear();
  std::size_t cost = kSavedBytesMin;
  for (std::size_t at = 0; at < now.size();) {
    Run run;
    run.skip = equal_bytes(now.subspan(at), before.subspan(at));
    at += run.skip;
    run.literal = changed_bytes(now.subspan(at), before.subspan(at));
    at += run.literal;
    cost += varint_bytes(run.skip) + varint_bytes(run.literal) + run.literal;
    if (cost > now.size()) return false;
    runs.push_back(run);
  }
  return true;
}

// Gives out the bytes that operations and literals describe, in order.
class OperationReader {
 public:
  explicit OperationReader(const DeltaStreams& streams)
      : operations_(streams.operations), literals_(streams.literals) {}

  // `known` is as long as `out`, or empty: then nothing can be skipped.
  bool fill(std::span<std::byte> out, std::span<const std::byte> known) {
    for (std::size_t done = 0; done < out.size();) {
      if (skip_ == 0 && literal_ == 0 && !next()) return false;
      const std::span<std::byte> rest = out.subspan(done);
      std::size_t bytes = 0;
      if (skip_ != 0) {
        bytes = std::min(skip_, rest.size());
        if (known.empty()) return false;
        std::memcpy(rest.data(), known.data() + done, bytes);
        skip_ -= bytes;
      } else {
        bytes = std::min(literal_, rest.size());
        if (bytes > literals_.size()) return false;
        std::memcpy(rest.data(), literals_.data(), bytes);
        literals_ = literals_.subspan(bytes);
        literal_ -= bytes;
      }
      done += bytes;
    }
    return true;
  }

  bool at_end() const { return skip_ == 0 && literal_ == 0 && operations_.empty() && literals_.empty(); }

 private:
  bool next() { return take_varint(skip_) && take_varint(literal_) && (skip_ != 0 || literal_ != 0); }
  bool take_varint(std::size_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 28 && !operations_.empty(); shift += 7) {
      const auto byte = std::to_integer<std::size_t>(operations_.front());
      operations_ = operations_.subspan(1);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  std::span<const std::byte> operations_;
  std::span<const std::byte> literals_;
  std::size_t skip_ = 0;
  std::size_t literal_ = 0;
};

bool is_codec(std::uint8_t codec) { return codec <= static_cast<std::uint8_t>(Codec::kZstd); }

// One compressed stream of a DELTA_BATCH; takes it off `rest`.
Status take_stream(std::span<const std::byte>& rest, std::uint8_t codec, std::uint32_t raw_bytes,
                   std::uint32_t stored_bytes, std::vector<std::byte>& out) {
  const std::span<const std::byte> stored = rest.first(stored_bytes);
  rest = rest.subspan(stored_bytes);
  out.resize(raw_bytes);
  if (static_cast<Codec>(codec) != Codec::kNone) return decompress(static_cast<Codec>(codec), stored, out);
  if (raw_bytes != stored_bytes) return corrupt("a plain stream has two lengths");
  std::copy(stored.begin(), stored.end(), out.begin());
  return ok_status();
}

Status read_lengths(std::span<const std::byte> payload, DeltaBatchBytes& bytes) {
  if (payload.size() < sizeof(bytes)) return corrupt("header is cut short");
  std::memcpy(&bytes, payload.data(), sizeof(bytes));
  if (!is_codec(bytes.operations_codec) || !is_codec(bytes.literals_codec) || !is_codec(bytes.store_codec))
    return corrupt("unknown codec");
  if (bytes.operations_raw_bytes > kBatchPayloadBytesMax || bytes.literals_raw_bytes > kBatchPayloadBytesMax)
    return corrupt("a stream is longer than a batch may be");
  const std::uint64_t sum = sizeof(bytes) + std::uint64_t{bytes.head_bytes} + bytes.operations_stored_bytes +
                            bytes.literals_stored_bytes;
  if (sum != payload.size()) return corrupt("lengths do not add up");
  return ok_status();
}

void recompress(const BatchReader& reader, Codec codec, std::vector<std::byte>& out) {
  BatchWriter writer;
  const BatchInfo& info = reader.info();
  writer.start(info.server, info.first_seq, info.epoch, info.generation);
  for (const Record& record : reader.records()) writer.add(record);
  writer.set_cursor(info.cursor);
  writer.encode(Compression{codec, 1}, out);
}

}  // namespace

// Only a WRITE or ZERO changes the cache by itself; a COPY matters where something is cached.
bool DeltaEncoder::concerns(const std::vector<Record>& records) const {
  if (cache_.bytes_max() == 0) return false;
  return std::any_of(records.begin(), records.end(), [this](const Record& record) {
    if (record.kind == RecordKind::kWrite) return true;
    if (cache_.block_count() == 0) return false;
    if (record.kind == RecordKind::kZero || (record.kind == RecordKind::kCopy && record.payload.empty())) return true;
    return record.kind == RecordKind::kCopy && !for_each_piece(record, record.payload.size(), [&](const Piece& piece) {
      return cache_.find(record.disk, piece.block).empty();
    });
  });
}

bool DeltaEncoder::encode(const std::vector<Record>& records, DeltaStreams& streams) {
  if (!concerns(records)) return false;
  streams.operations.clear();
  streams.literals.clear();
  OperationWriter writer(streams);
  std::vector<Run> runs;
  for (const Record& record : records) {
    const auto fill = [&](const Piece& piece, std::span<const std::byte> known) {
      std::span<const std::byte> content = record.payload.subspan(piece.offset, piece.bytes);
      if (known.empty() || !difference(content, known, runs)) {
        writer.literal(content);
        return content;
      }
      std::size_t at = 0;
      for (const Run& run : runs) {
        writer.skip(run.skip);
        writer.literal(content.subspan(at + run.skip, run.literal));
        at += run.skip + run.literal;
      }
      return content;
    };
    walk(cache_, record, record.payload.size(), fill, [&](std::size_t) {
      writer.literal(record.payload);
      return true;
    });
  }
  return true;
}

void whole_streams(const std::vector<Record>& records, DeltaStreams& streams) {
  streams.operations.clear();
  streams.literals.clear();
  OperationWriter writer(streams);
  for (const Record& record : records) writer.literal(record.payload);
}

void append_delta_batch(std::span<const std::byte> plain, const BatchInfo& info, const DeltaStreams& streams,
                        const Compression& compression, std::vector<std::byte>& frame) {
  const std::size_t begin = frame.size();
  DeltaBatchBytes bytes{};
  bytes.head_bytes = info.table_end_bytes;
  bytes.operations_raw_bytes = static_cast<std::uint32_t>(streams.operations.size());
  bytes.literals_raw_bytes = static_cast<std::uint32_t>(streams.literals.size());
  bytes.store_codec = static_cast<std::uint8_t>(compression.codec);
  frame.resize(begin + sizeof(bytes));
  frame.insert(frame.end(), plain.begin(), plain.begin() + info.table_end_bytes);
  std::size_t before = frame.size();
  bytes.operations_codec = static_cast<std::uint8_t>(append_compressed(streams.operations, compression, frame));
  bytes.operations_stored_bytes = static_cast<std::uint32_t>(frame.size() - before);
  before = frame.size();
  bytes.literals_codec = static_cast<std::uint8_t>(append_compressed(streams.literals, compression, frame));
  bytes.literals_stored_bytes = static_cast<std::uint32_t>(frame.size() - before);
  std::memcpy(frame.data() + begin, &bytes, sizeof(bytes));
}

Status DeltaDecoder::decode(std::span<const std::byte> payload, std::vector<std::byte>& batch) {
  // Kept per thread, not per session: many sessions share few threads.
  thread_local DeltaStreams streams;
  thread_local std::vector<std::byte> plain;
  DeltaBatchBytes bytes{};
  RETURN_IF_ERROR(read_lengths(payload, bytes));
  std::span<const std::byte> rest = payload.subspan(sizeof(bytes));
  const std::span<const std::byte> head = rest.first(bytes.head_bytes);
  rest = rest.subspan(bytes.head_bytes);
  RETURN_IF_ERROR(take_stream(rest, bytes.operations_codec, bytes.operations_raw_bytes, bytes.operations_stored_bytes,
                              streams.operations));
  RETURN_IF_ERROR(take_stream(rest, bytes.literals_codec, bytes.literals_raw_bytes, bytes.literals_stored_bytes,
                              streams.literals));
  ASSIGN_OR_RETURN(const BatchReader table, BatchReader::decode_table(head));
  const BatchInfo& info = table.info();
  if (info.table_end_bytes != head.size()) return corrupt("head is longer than header and table");
  if (info.codec != Codec::kNone) return corrupt("head is not that of a plain batch");

  plain.assign(head.begin(), head.end());
  plain.resize(info.encoded_bytes);  // the padding is zero
  OperationReader reader(streams);
  std::span<std::byte> out = std::span(plain).subspan(head.size());
  for (std::size_t i = 0; i < table.records().size(); ++i) {
    const std::size_t payload_bytes = table.payload_bytes(i);
    const std::span<std::byte> target = out.first(payload_bytes);
    out = out.subspan(payload_bytes);
    const auto fill = [&](const Piece& piece, std::span<const std::byte> known) {
      const std::span<std::byte> content = target.subspan(piece.offset, piece.bytes);
      return reader.fill(content, known) ? std::span<const std::byte>(content) : std::span<const std::byte>();
    };
    if (!walk(cache_, table.records()[i], payload_bytes, fill,
              [&](std::size_t) { return reader.fill(target, {}); }))
      return corrupt("record " + std::to_string(info.first_seq + i) + " cannot be made out of what is cached");
  }
  if (!reader.at_end()) return corrupt("streams are longer than the batch");
  auto proved = BatchReader::decode(plain, Verify::kRecords);
  if (!proved.ok()) {
    return corrupt("what was rebuilt is not what was captured: " + proved.error().message());
  }
  recompress(*proved, static_cast<Codec>(bytes.store_codec), batch);
  return ok_status();
}

}  // namespace understudy
