// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/segment_reader.h"

#include <algorithm>
#include <cstring>

#include "daemon/record/batch_format.h"
#include "daemon/store/segment_format.h"

namespace understudy {
namespace {

constexpr std::size_t kSearchPieceBytes = 1 << 20;
// Read at once for a table: most tables of a full batch of 4 KiB records fit.
constexpr std::size_t kTableReadBytes = 8 << 10;

Error corrupt(std::string message) { return Error(ErrorKind::kCorrupt, std::move(message)); }
std::string number(std::uint64_t value) { return std::to_string(value); }

std::uint64_t header_checksum(const SegmentHeader& header) {
  return xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, header_checksum)));
}

std::uint64_t frame_checksum(const FrameHeader& header, const SegmentInfo& segment) {
  FrameBinding binding{};
  binding.header = header;
  binding.header.checksum = 0;
  std::memcpy(binding.server, segment.server.bytes.data(), sizeof(binding.server));
  binding.segment_first_seq = segment.first_seq;
  return xxh3_64(std::as_bytes(std::span(&binding, 1)));
}

Status check_header(const SegmentHeader& header) {
  if (header.magic != kSegmentMagic) return corrupt("segment header: wrong magic");
  if (header_checksum(header) != header.header_checksum) return corrupt("segment header: checksum does not match");
  if (header.version != kSegmentVersion)
    return Error(ErrorKind::kUnsupported, "segment header: format version " + number(header.version) +
                                              " is newer than version " + number(kSegmentVersion) +
                                              " of this program; update it");
  if (const std::uint32_t unknown = header.incompatible_flags & ~kSegmentIncompatibleKnown; unknown != 0)
    return Error(ErrorKind::kUnsupported, "segment header: unknown incompatible flags " + number(unknown) +
                                              "; a newer program wrote this, update this one");
  if (header.header_bytes != sizeof(SegmentHeader) || header.state_bytes > kStateBytesMax ||
      header.state_bytes % 8 != 0)
    return corrupt("segment header: impossible lengths");
  return ok_status();
}

// Parses the 48 bytes of a frame header that lies at `offset_bytes`.
Result<FrameInfo> parse_frame_header(std::span<const std::byte> bytes, const SegmentInfo& segment,
                                     std::uint64_t offset_bytes, std::uint64_t end_bytes) {
  FrameHeader header;
  CHECK_GE(bytes.size(), sizeof(header));
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kFrameMagic) return corrupt("no frame begins here (wrong magic)");
  if (frame_checksum(header, segment) != header.checksum) return corrupt("frame header checksum does not match");
  if (const std::uint32_t unknown = header.incompatible_flags & ~kFrameIncompatibleKnown; unknown != 0)
    return Error(ErrorKind::kUnsupported, "frame header: unknown incompatible flags " + number(unknown) +
                                              "; a newer program wrote this, update this one");
  FrameInfo frame;
  frame.offset_bytes = offset_bytes;
  frame.first_seq = header.first_seq;
  frame.durable_seq = header.durable_seq;
  frame.batch_bytes = header.batch_bytes;
  if (frame.batch_bytes < kBatchHeaderBytes || frame.batch_bytes > kBatchEncodedBytesMax ||
      frame.batch_bytes % kBatchAlignBytes != 0)
    return corrupt("frame header: a batch of " + number(frame.batch_bytes) + " bytes is impossible");
  if (frame.end_offset_bytes() > end_bytes)
    return corrupt("frame is cut off: " + number(end_bytes - offset_bytes) + " bytes of " +
                   number(sizeof(header) + frame.batch_bytes));
  return frame;
}

Status read_exactly(const File& file, std::uint64_t offset_bytes, std::span<std::byte> out) {
  ASSIGN_OR_RETURN(const std::size_t got, file.read(offset_bytes, out));
  if (got != out.size()) return corrupt("file ends at " + number(offset_bytes + got) + ", in the middle of a frame");
  return ok_status();
}

}  // namespace

std::uint64_t FrameInfo::batch_offset_bytes() const { return offset_bytes + sizeof(FrameHeader); }
std::uint64_t FrameInfo::end_offset_bytes() const { return batch_offset_bytes() + batch_bytes; }

std::vector<std::byte> encode_segment_header(const SegmentInfo& info, const BatchInfo& first_batch) {
  CHECK_EQ(info.first_seq, first_batch.first_seq);
  const std::vector<std::byte> state = encode_state(info.state);
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.version = kSegmentVersion;
  header.header_bytes = static_cast<std::uint16_t>(sizeof(header));
  header.state_bytes = static_cast<std::uint32_t>(state.size());
  std::memcpy(header.server, info.server.bytes.data(), sizeof(header.server));
  std::memcpy(header.store, info.store.bytes.data(), sizeof(header.store));
  header.number = info.number;
  header.first_seq = info.first_seq;
  header.epoch = first_batch.epoch;
  header.generation = first_batch.generation;
  header.previous_bytes = info.previous_bytes;
  std::memcpy(header.previous_digest, info.previous_digest.data(), sizeof(header.previous_digest));
  header.created_ns = first_batch.first_time_ns;
  header.state_checksum = xxh3_64(state);
  header.header_checksum = header_checksum(header);
  std::vector<std::byte> out(sizeof(header) + state.size());
  std::memcpy(out.data(), &header, sizeof(header));
  std::memcpy(out.data() + sizeof(header), state.data(), state.size());
  return out;
}

Result<SegmentInfo> read_segment_header(const File& file) {
  SegmentHeader header;
  ASSIGN_OR_RETURN(const std::size_t got, file.read(0, std::as_writable_bytes(std::span(&header, 1))));
  if (got < sizeof(header))
    return corrupt("segment header: cut off, " + number(got) + " bytes of " + number(sizeof(header)));
  RETURN_IF_ERROR(check_header(header));
  std::vector<std::byte> state(header.state_bytes);
  ASSIGN_OR_RETURN(const std::size_t state_got, file.read(sizeof(header), state));
  if (state_got < state.size()) return corrupt("segment state: cut off");
  if (xxh3_64(state) != header.state_checksum) return corrupt("segment state: checksum does not match");

  SegmentInfo info;
  std::memcpy(info.server.bytes.data(), header.server, sizeof(header.server));
  std::memcpy(info.store.bytes.data(), header.store, sizeof(header.store));
  info.number = header.number;
  info.first_seq = header.first_seq;
  info.previous_bytes = header.previous_bytes;
  std::memcpy(info.previous_digest.data(), header.previous_digest, sizeof(header.previous_digest));
  info.frames_offset_bytes = sizeof(header) + state.size();
  ASSIGN_OR_RETURN(info.state, decode_state(state));
  if (info.first_seq == 0 || info.state.position.seq != info.first_seq - 1)
    return corrupt("segment state: it is not the state before seq " + number(info.first_seq));
  return info;
}

std::vector<std::byte> encode_frame_header(const SegmentInfo& segment, const FrameInfo& frame) {
  FrameHeader header{};
  header.magic = kFrameMagic;
  header.first_seq = frame.first_seq;
  header.durable_seq = frame.durable_seq;
  header.batch_bytes = frame.batch_bytes;
  header.checksum = frame_checksum(header, segment);
  std::vector<std::byte> out(sizeof(header));
  std::memcpy(out.data(), &header, sizeof(header));
  return out;
}

Result<FrameInfo> read_frame_header(const File& file, const SegmentInfo& segment, std::uint64_t offset_bytes,
                                    std::uint64_t end_bytes) {
  if (end_bytes - offset_bytes < sizeof(FrameHeader))
    return corrupt("frame is cut off: " + number(end_bytes - offset_bytes) + " bytes of its header");
  std::byte bytes[sizeof(FrameHeader)];
  RETURN_IF_ERROR(read_exactly(file, offset_bytes, bytes));
  return parse_frame_header(bytes, segment, offset_bytes, end_bytes);
}

Status read_frame_batch(const File& file, const FrameInfo& frame, std::vector<std::byte>& out) {
  out.resize(frame.batch_bytes);
  return read_exactly(file, frame.batch_offset_bytes(), out);
}

Result<FrameTable> read_frame_table(const File& file, const SegmentInfo& segment, std::uint64_t offset_bytes,
                                    std::uint64_t end_bytes, std::vector<std::byte>& scratch, BatchOrder order) {
  if (end_bytes - offset_bytes < sizeof(FrameHeader))
    return corrupt("frame is cut off: " + number(end_bytes - offset_bytes) + " bytes of its header");
  scratch.resize(std::min<std::uint64_t>(kTableReadBytes, end_bytes - offset_bytes));
  RETURN_IF_ERROR(read_exactly(file, offset_bytes, scratch));
  ASSIGN_OR_RETURN(const FrameInfo frame, parse_frame_header(scratch, segment, offset_bytes, end_bytes));
  if (scratch.size() < sizeof(FrameHeader) + kBatchHeaderBytes) return corrupt("frame is cut off in the batch header");
  ASSIGN_OR_RETURN(const BatchInfo info, BatchReader::peek(std::span(scratch).subspan(sizeof(FrameHeader)), order));
  if (info.encoded_bytes != frame.batch_bytes || info.first_seq != frame.first_seq || info.server != segment.server)
    return corrupt("frame and batch are not of the same kind");
  const std::size_t wanted = sizeof(FrameHeader) + info.table_end_bytes;
  if (scratch.size() < wanted) {
    const std::size_t had = scratch.size();
    scratch.resize(wanted);
    RETURN_IF_ERROR(read_exactly(file, offset_bytes + had, std::span(scratch).subspan(had)));
  }
  ASSIGN_OR_RETURN(BatchReader batch,
                   BatchReader::decode_table(std::span(scratch).subspan(sizeof(FrameHeader)), order));
  return FrameTable{frame, std::move(batch)};
}

Result<std::optional<FrameInfo>> find_next_frame(const File& file, const SegmentInfo& segment,
                                                 std::uint64_t offset_bytes, std::uint64_t end_bytes) {
  offset_bytes = (offset_bytes + 7) / 8 * 8;
  std::vector<std::byte> piece;
  while (offset_bytes + sizeof(FrameHeader) <= end_bytes) {
    // Pieces overlap by one header so that each candidate lies whole in one.
    piece.resize(std::min<std::uint64_t>(kSearchPieceBytes, end_bytes - offset_bytes));
    RETURN_IF_ERROR(read_exactly(file, offset_bytes, piece));
    std::size_t at = 0;
    for (; at + sizeof(FrameHeader) <= piece.size(); at += 8) {
      le64 magic;
      std::memcpy(&magic, piece.data() + at, sizeof(magic));
      if (magic != kFrameMagic) continue;
      Result<FrameInfo> frame = parse_frame_header(std::span(piece).subspan(at), segment, offset_bytes + at, end_bytes);
      if (frame.ok()) return std::optional<FrameInfo>(*frame);
    }
    offset_bytes += at;
  }
  return std::optional<FrameInfo>();
}

}  // namespace understudy
