// SPDX-License-Identifier: Apache-2.0
// Reads a journal segment: its header, then its frames one after another. Nothing in the file is trusted. An Error of
// kind kCorrupt means damaged bytes; kUnsupported a newer format; anything else that reading failed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/base/result.h"
#include "daemon/record/batch.h"
#include "daemon/store/file_system.h"
#include "daemon/store/stream_state.h"

namespace understudy {

struct SegmentInfo {
  Uuid server;
  Uuid store;
  std::uint64_t number = 0;
  Seq first_seq = 0;
  std::uint64_t previous_bytes = 0;
  Sha256Digest previous_digest{};
  std::uint64_t frames_offset_bytes = 0;  // header and state: where the first frame begins
  StreamState state;                      // before the first batch
};

// Header and state section for a new segment.
std::vector<std::byte> encode_segment_header(const SegmentInfo& info, const BatchInfo& first_batch);
Result<SegmentInfo> read_segment_header(const File& file);

// A frame and where it lies.
struct FrameInfo {
  std::uint64_t offset_bytes = 0;  // of the frame header
  Seq first_seq = 0;
  Seq durable_seq = 0;
  std::uint32_t batch_bytes = 0;

  std::uint64_t batch_offset_bytes() const;
  std::uint64_t end_offset_bytes() const;
};

// 48 bytes that stand before a batch.
std::vector<std::byte> encode_frame_header(const SegmentInfo& segment, const FrameInfo& frame);

// The frame header at `offset_bytes`; the batch must end at or before `end_bytes`.
Result<FrameInfo> read_frame_header(const File& file, const SegmentInfo& segment, std::uint64_t offset_bytes,
                                    std::uint64_t end_bytes);
// The batch of a frame as stored; `out` is reused.
Status read_frame_batch(const File& file, const FrameInfo& frame, std::vector<std::byte>& out);
// Frame header, batch header and table, without the payload section. `scratch` is reused.
struct FrameTable {
  FrameInfo frame;
  BatchReader batch;
};
Result<FrameTable> read_frame_table(const File& file, const SegmentInfo& segment, std::uint64_t offset_bytes,
                                    std::uint64_t end_bytes, std::vector<std::byte>& scratch,
                                    BatchOrder order = BatchOrder::kStream);

// The next intact frame header at or after `offset_bytes`, found by its magic on multiples of 8: what follows damage.
Result<std::optional<FrameInfo>> find_next_frame(const File& file, const SegmentInfo& segment,
                                                 std::uint64_t offset_bytes, std::uint64_t end_bytes);

}  // namespace understudy
