// SPDX-License-Identifier: Apache-2.0
// Makes the checksums of mutated bytes right again, so that a fuzzer gets behind them.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include "daemon/base/checksum.h"
#include "daemon/record/batch_checksum.h"
#include "daemon/record/batch_format.h"
#include "daemon/store/segment_format.h"

namespace understudy {

// Of the batch at the start of `data`; what its lengths make impossible stays wrong.
inline void repair_batch(std::span<std::byte> data) {
  BatchHeader header;
  if (data.size() < sizeof(header)) return;
  std::memcpy(&header, data.data(), sizeof(header));
  header.magic = kBatchMagic;
  header.version = kBatchVersion;
  header.header_bytes = static_cast<std::uint16_t>(sizeof(header));
  const std::size_t table_end = sizeof(header) + std::size_t{header.table_stored_bytes};
  if (table_end <= data.size()) {
    header.table_checksum =
        bound_checksum(data.subspan(sizeof(header), header.table_stored_bytes), header, kSectionTable);
    if (header.encoded_bytes >= table_end && header.encoded_bytes <= data.size())
      header.payload_checksum =
          bound_checksum(data.first(header.encoded_bytes).subspan(table_end), header, kSectionPayload);
  }
  header.header_checksum = batch_header_checksum(header);
  std::memcpy(data.data(), &header, sizeof(header));
}

// Of a whole segment: header, state, each frame and its batch.
inline void repair_segment(std::span<std::byte> data) {
  SegmentHeader header;
  if (data.size() < sizeof(header)) return;
  std::memcpy(&header, data.data(), sizeof(header));
  header.magic = kSegmentMagic;
  header.version = kSegmentVersion;
  header.header_bytes = static_cast<std::uint16_t>(sizeof(header));
  const std::size_t frames = sizeof(header) + std::size_t{header.state_bytes};
  if (frames > data.size()) return;
  header.state_checksum = xxh3_64(data.subspan(sizeof(header), header.state_bytes));
  header.header_checksum =
      xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, header_checksum)));
  std::memcpy(data.data(), &header, sizeof(header));
  for (std::size_t at = frames; at + sizeof(FrameHeader) <= data.size();) {
    FrameBinding binding{};
    std::memcpy(&binding.header, data.data() + at, sizeof(FrameHeader));
    binding.header.checksum = 0;
    std::memcpy(binding.server, header.server, sizeof(binding.server));
    binding.segment_first_seq = header.first_seq;
    FrameHeader frame = binding.header;
    frame.checksum = xxh3_64(std::as_bytes(std::span(&binding, 1)));
    std::memcpy(data.data() + at, &frame, sizeof(frame));
    const std::size_t batch = at + sizeof(frame);
    if (frame.batch_bytes > data.size() - batch) return;
    repair_batch(data.subspan(batch, frame.batch_bytes));
    at = batch + frame.batch_bytes;
    if (frame.batch_bytes == 0) return;
  }
}

}  // namespace understudy
