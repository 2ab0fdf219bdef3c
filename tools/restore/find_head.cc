// SPDX-License-Identifier: Apache-2.0
#include "tools/restore/find_head.h"

#include <algorithm>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/store/journal.h"

namespace understudy {
namespace {

constexpr std::size_t kPieceBytes = 1 << 20;

Status hash_range(const File& file, const std::string& name, std::uint64_t begin, std::uint64_t end, Sha256& hash) {
  std::vector<std::byte> piece(std::min<std::uint64_t>(kPieceBytes, end - begin));
  for (std::uint64_t at = begin; at < end;) {
    const std::span<std::byte> part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), end - at));
    ASSIGN_OR_RETURN(const std::size_t got, file.read(at, part));
    if (got < part.size()) return Error(ErrorKind::kCorrupt, "'" + name + "' is shorter than it was");
    hash.update(part);
    at += got;
  }
  return ok_status();
}

// A run has the head after each of its batches written down.
Result<std::optional<Seq>> find_head_in_run(const JournalSnapshot& snapshot, std::size_t index,
                                            const std::string& head_hex) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot.open_segment(index));
  SegmentEntryReader reader(*file, snapshot.segments()[index]);
  while (!reader.at_end()) {
    ASSIGN_OR_RETURN(const JournalEntry entry, reader.next());
    const BatchInfo& info = entry.batch.info();
    if (info.head && to_hex(*info.head) == head_hex) return std::optional(info.last_seq());
  }
  return std::optional<Seq>();
}

}  // namespace

// The head was, after each commit, the SHA-256 of the newest segment so far: it ended with a frame.
Result<std::optional<Seq>> find_head(const Store& store, const std::string& head_hex) {
  const std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  const std::vector<JournalSegment>& segments = snapshot->segments();
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const JournalSegment& segment = segments[i];
    if (segment.is_run()) {
      ASSIGN_OR_RETURN(const std::optional<Seq> seq, find_head_in_run(*snapshot, i, head_hex));
      if (seq) return seq;
      continue;
    }
    ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot->open_segment(i));
    Sha256 hash;
    RETURN_IF_ERROR(hash_range(*file, segment.name, 0, segment.info.frames_offset_bytes, hash));
    for (std::uint64_t at = segment.info.frames_offset_bytes; at < segment.end_bytes;) {
      ASSIGN_OR_RETURN(const FrameInfo frame, read_frame_header(*file, segment.info, at, segment.end_bytes));
      RETURN_IF_ERROR(hash_range(*file, segment.name, at, frame.end_offset_bytes(), hash));
      at = frame.end_offset_bytes();
      if (to_hex(hash.digest()) != head_hex) continue;
      if (at < segment.end_bytes) {
        ASSIGN_OR_RETURN(const FrameInfo next, read_frame_header(*file, segment.info, at, segment.end_bytes));
        return std::optional(next.first_seq - 1);
      }
      return std::optional(i + 1 < segments.size() ? segments[i + 1].info.first_seq - 1 : snapshot->position().seq);
    }
  }
  return std::optional<Seq>();
}

}  // namespace understudy
