// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/stream_state.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "daemon/store/segment_format.h"

namespace understudy {
namespace {

Error corrupt(std::string message) { return Error(ErrorKind::kCorrupt, "segment state: " + std::move(message)); }

}  // namespace

const DiskGeometry* StreamState::find_disk(std::uint16_t slot) const {
  for (const DiskGeometry& disk : position.disks)
    if (disk.disk == slot) return &disk;
  return nullptr;
}

Status apply_record(StreamState& state, Seq seq, const Record& record) {
  StreamPosition& position = state.position;
  switch (record.kind) {
    case RecordKind::kGap: {
      ASSIGN_OR_RETURN(const GapInfo info, decode_gap(record.payload));
      if (!position.gap_open) {  // one GAP inside another does not make a second hole; the first reason stands
        position.gap_open = true;
        position.gap_reason = info.reason;
        state.gap_seq = seq;
      }
      break;
    }
    case RecordKind::kHeal:
      position.gap_open = false;
      position.gap_reason = GapReason::kInitialCopy;
      position.initial_copy_done = true;
      state.gap_seq = 0;
      break;
    case RecordKind::kGeometry: {
      ASSIGN_OR_RETURN(position.disks, decode_geometry(record.payload));
      break;
    }
    case RecordKind::kMark: RETURN_IF_ERROR(decode_mark(record.payload)); break;
    case RecordKind::kWrite:
    case RecordKind::kZero:
    case RecordKind::kCopy:
      if (state.find_disk(record.disk) == nullptr)
        return Error(ErrorKind::kRefused, "record " + std::to_string(seq) + " names disk " +
                                              std::to_string(record.disk) + ", which no geometry record has announced");
      break;
    case RecordKind::kBarrier: break;
  }
  position.seq = seq;
  position.last_time_ns = std::max(position.last_time_ns, record.time_ns);
  return ok_status();
}

void apply_batch_info(StreamState& state, const BatchInfo& info) {
  state.position.epoch = info.epoch;
  state.position.generation = info.generation;
  state.position.cursor = info.cursor;
}

Status apply_batch(StreamState& state, const BatchReader& reader) {
  Seq seq = reader.info().first_seq;
  for (const Record& record : reader.records()) RETURN_IF_ERROR(apply_record(state, seq++, record));
  apply_batch_info(state, reader.info());
  return ok_status();
}

std::vector<std::byte> encode_state(const StreamState& state) {
  const StreamPosition& position = state.position;
  const std::vector<std::byte> geometry = encode_geometry(position.disks);
  StateCheckpoint checkpoint{};
  checkpoint.seq = position.seq;
  checkpoint.epoch = position.epoch;
  checkpoint.generation = position.generation;
  std::memcpy(checkpoint.capture_id, position.cursor.capture_id.bytes.data(), sizeof(checkpoint.capture_id));
  checkpoint.capture_position = position.cursor.position;
  checkpoint.capture_loss_count = position.cursor.loss_count;
  checkpoint.last_time_ns = position.last_time_ns;
  checkpoint.flags = static_cast<std::uint8_t>((position.gap_open ? kStateGapOpen : 0) |
                                               (position.initial_copy_done ? kStateInitialCopyDone : 0));
  checkpoint.gap_reason = position.gap_open ? static_cast<std::uint8_t>(position.gap_reason) : std::uint8_t{0};
  checkpoint.geometry_bytes = static_cast<std::uint32_t>(geometry.size());
  checkpoint.gap_seq = state.gap_seq;
  const std::size_t unpadded = sizeof(checkpoint) + geometry.size();
  std::vector<std::byte> section((unpadded + 7) / 8 * 8);
  std::memcpy(section.data(), &checkpoint, sizeof(checkpoint));
  std::memcpy(section.data() + sizeof(checkpoint), geometry.data(), geometry.size());
  CHECK_LE(section.size(), kStateBytesMax);
  return section;
}

Result<StreamState> decode_state(std::span<const std::byte> section) {
  StateCheckpoint checkpoint;
  if (section.size() < sizeof(checkpoint)) return corrupt("shorter than its fixed part");
  std::memcpy(&checkpoint, section.data(), sizeof(checkpoint));
  section = section.subspan(sizeof(checkpoint));
  if (checkpoint.geometry_bytes > section.size()) return corrupt("geometry does not fit in");
  if ((checkpoint.flags & ~kStateFlagsKnown) != 0) return corrupt("unknown flags");
  const bool gap_open = (checkpoint.flags & kStateGapOpen) != 0;
  if (checkpoint.gap_reason > kGapReasonMax ||
      gap_open != (checkpoint.gap_reason != 0) || gap_open != (checkpoint.gap_seq != 0))
    return corrupt("what it says of an open gap is contradictory");
  StreamState state;
  StreamPosition& position = state.position;
  position.seq = checkpoint.seq;
  position.epoch = checkpoint.epoch;
  position.generation = checkpoint.generation;
  std::memcpy(position.cursor.capture_id.bytes.data(), checkpoint.capture_id, sizeof(checkpoint.capture_id));
  position.cursor.position = checkpoint.capture_position;
  position.cursor.loss_count = checkpoint.capture_loss_count;
  position.last_time_ns = checkpoint.last_time_ns;
  position.gap_open = gap_open;
  if (gap_open) position.gap_reason = static_cast<GapReason>(checkpoint.gap_reason);
  position.initial_copy_done = (checkpoint.flags & kStateInitialCopyDone) != 0;
  state.gap_seq = checkpoint.gap_seq;
  ASSIGN_OR_RETURN(position.disks, decode_geometry(section.first(checkpoint.geometry_bytes)));
  return state;
}

}  // namespace understudy
