// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/run_reader.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "daemon/store/run_format.h"
#include "daemon/store/segment_format.h"

namespace understudy {
namespace {

constexpr std::size_t kDigestPieceBytes = 1 << 20;

Error corrupt(std::string message) { return Error(ErrorKind::kCorrupt, "run header: " + std::move(message)); }

std::uint64_t checksum_of(const RunHeader& header) {
  return xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(RunHeader, header_checksum)));
}

Status check_header(const RunHeader& header, std::uint64_t file_bytes) {
  if (header.magic != kRunMagic) return corrupt("wrong magic");
  if (checksum_of(header) != header.header_checksum) return corrupt("checksum does not match");
  if (header.version != kRunVersion || (header.incompatible_flags & ~kRunIncompatibleKnown) != 0)
    return Error(ErrorKind::kUnsupported, "run header: format version " + std::to_string(header.version) + ", flags " +
                                              std::to_string(header.incompatible_flags) +
                                              ": a newer program wrote this, update this one");
  if (header.header_bytes != sizeof(RunHeader) || header.state_bytes > kStateBytesMax || header.state_bytes % 8 != 0)
    return corrupt("impossible lengths");
  if (header.first_seq == 0 || header.last_seq < header.first_seq || header.first_number == 0 ||
      header.last_number < header.first_number)
    return corrupt("impossible range of records");
  if (header.file_bytes != file_bytes)
    return corrupt("the file is " + std::to_string(file_bytes) + " bytes long, was " +
                   std::to_string(header.file_bytes));
  if (header.frames_end_bytes < sizeof(header) + header.state_bytes ||
      header.index_offset_bytes < header.frames_end_bytes || header.blocks_offset_bytes < header.index_offset_bytes ||
      header.blocks_end_bytes < header.blocks_offset_bytes || header.file_bytes < header.blocks_end_bytes)
    return corrupt("its parts overlap");
  return ok_status();
}

}  // namespace

std::vector<std::byte> encode_run_header(const RunInfo& info) {
  const std::vector<std::byte> state = encode_state(info.segment.state);
  RunHeader header{};
  header.magic = kRunMagic;
  header.version = kRunVersion;
  header.header_bytes = static_cast<std::uint16_t>(sizeof(header));
  header.state_bytes = static_cast<std::uint32_t>(state.size());
  std::memcpy(header.server, info.segment.server.bytes.data(), sizeof(header.server));
  std::memcpy(header.store, info.segment.store.bytes.data(), sizeof(header.store));
  header.first_number = info.segment.number;
  header.last_number = info.last_number;
  header.first_seq = info.segment.first_seq;
  header.last_seq = info.last_seq;
  header.previous_bytes = info.segment.previous_bytes;
  std::memcpy(header.previous_digest, info.segment.previous_digest.data(), sizeof(header.previous_digest));
  header.last_bytes = info.last_bytes;
  std::memcpy(header.last_digest, info.last_digest.data(), sizeof(header.last_digest));
  header.frames_end_bytes = info.frames_end_bytes;
  header.index_offset_bytes = info.index_offset_bytes;
  header.blocks_offset_bytes = info.blocks_offset_bytes;
  header.blocks_end_bytes = info.blocks_end_bytes;
  header.file_bytes = info.file_bytes;
  header.state_checksum = xxh3_64(state);
  header.header_checksum = checksum_of(header);
  std::vector<std::byte> out(sizeof(header) + state.size());
  std::memcpy(out.data(), &header, sizeof(header));
  std::memcpy(out.data() + sizeof(header), state.data(), state.size());
  return out;
}

Result<RunInfo> read_run_header(const File& file) {
  RunHeader header;
  ASSIGN_OR_RETURN(const std::uint64_t file_bytes, file.size());
  ASSIGN_OR_RETURN(const std::size_t got, file.read(0, std::as_writable_bytes(std::span(&header, 1))));
  if (got < sizeof(header)) return corrupt("cut off, " + std::to_string(got) + " bytes");
  RETURN_IF_ERROR(check_header(header, file_bytes));
  std::vector<std::byte> state(header.state_bytes);
  ASSIGN_OR_RETURN(const std::size_t state_got, file.read(sizeof(header), state));
  if (state_got < state.size()) return corrupt("the state is cut off");
  if (xxh3_64(state) != header.state_checksum) return corrupt("checksum of the state does not match");

  RunInfo info;
  SegmentInfo& segment = info.segment;
  std::memcpy(segment.server.bytes.data(), header.server, sizeof(header.server));
  std::memcpy(segment.store.bytes.data(), header.store, sizeof(header.store));
  segment.number = header.first_number;
  segment.first_seq = header.first_seq;
  segment.previous_bytes = header.previous_bytes;
  std::memcpy(segment.previous_digest.data(), header.previous_digest, sizeof(header.previous_digest));
  segment.frames_offset_bytes = sizeof(header) + state.size();
  ASSIGN_OR_RETURN(segment.state, decode_state(state));
  if (segment.state.position.seq != segment.first_seq - 1)
    return corrupt("the state is not the one before seq " + std::to_string(segment.first_seq));
  info.last_number = header.last_number;
  info.last_seq = header.last_seq;
  info.last_bytes = header.last_bytes;
  std::memcpy(info.last_digest.data(), header.last_digest, sizeof(header.last_digest));
  info.frames_end_bytes = header.frames_end_bytes;
  info.index_offset_bytes = header.index_offset_bytes;
  info.blocks_offset_bytes = header.blocks_offset_bytes;
  info.blocks_end_bytes = header.blocks_end_bytes;
  info.file_bytes = header.file_bytes;
  return info;
}

Result<Sha256Digest> digest_file(const File& file, std::uint64_t end_bytes) {
  Sha256 digest;
  std::vector<std::byte> piece(kDigestPieceBytes);
  for (std::uint64_t at = 0; at < end_bytes;) {
    const auto part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), end_bytes - at));
    ASSIGN_OR_RETURN(const std::size_t got, file.read(at, part));
    if (got != part.size()) return Error(ErrorKind::kCorrupt, "the file is shorter than it was");
    digest.update(part);
    at += part.size();
  }
  return digest.digest();
}

}  // namespace understudy
