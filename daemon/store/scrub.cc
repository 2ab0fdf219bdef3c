// SPDX-License-Identifier: Apache-2.0
// Reads a store back and proves every byte of it: headers, hash chain, frames, batches, capture checksums, base images.
#include <algorithm>

#include "daemon/store/store_impl.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

constexpr std::size_t kHashPieceBytes = 1 << 20;

class Scrub {
 public:
  Scrub(const JournalSnapshot& snapshot, const DamageReport& report,
        const std::function<bool(std::uint64_t, std::uint64_t)>& progress)
      : snapshot_(snapshot), report_(report), progress_(progress) {}

  Status run() {
    total_bytes_ = snapshot_.journal_bytes() + snapshot_.base_allocated_bytes();
    // For the chain, all segments but the last are read once more.
    for (std::size_t i = 0; i + 1 < snapshot_.segments().size(); ++i) total_bytes_ += snapshot_.segments()[i].end_bytes;
    for (const Damage& damage : snapshot_.damage()) add_damage(damage);
    for (std::size_t i = 0; i < snapshot_.segments().size(); ++i) {
      RETURN_IF_ERROR(check_segment(i));
      if (stopped_) return Error(ErrorKind::kClosed, "scrub: stopped before the end");
    }
    if (damages_ == 0) return ok_status();
    return Error(ErrorKind::kCorrupt, "scrub: " + std::to_string(damages_) + " damaged places found");
  }

 private:
  void add_damage(const Damage& damage) {
    ++damages_;
    if (report_) report_(damage);
  }
  void add_damage(const JournalSegment& segment, std::uint64_t offset, std::uint64_t length, Seq seq,
                  std::string reason) {
    add_damage(Damage{segment.name, offset, length, seq, std::move(reason), false});
  }

  bool advance(std::uint64_t bytes) {
    done_bytes_ += bytes;
    total_bytes_ = std::max(total_bytes_, done_bytes_);
    if (progress_ && !progress_(done_bytes_, total_bytes_)) stopped_ = true;
    return !stopped_;
  }

  Status check_segment(std::size_t index) {
    const JournalSegment& segment = snapshot_.segments()[index];
    Result<std::shared_ptr<const File>> file = snapshot_.open_segment(index);
    if (file.ok() && segment.is_run()) return check_run(**file, index);
    if (!file.ok() && file.error().kind() == ErrorKind::kNotFound) {
      // Merged meanwhile: then everything in it was read and proved.
      const Result<bool> merged = snapshot_.is_superseded(index);
      if (merged.ok() && *merged) {
        advance(segment.file_bytes());
        return ok_status();
      }
    }
    if (!file.ok()) {
      add_damage(segment, 0, segment.file_bytes(), segment.info.first_seq, file.error().message());
      return ok_status();
    }
    Result<SegmentInfo> header = read_segment_header(**file);
    if (!header.ok())
      add_damage(segment, 0, segment.info.frames_offset_bytes, segment.info.first_seq, header.error().message());
    RETURN_IF_ERROR(check_frames(**file, segment));
    if (!stopped_) RETURN_IF_ERROR(check_chain(**file, index));
    return ok_status();
  }

  // The stream part as that of a segment, then the blocks, and the whole against the MANIFEST.
  Status check_run(const File& file, std::size_t index) {
    const JournalSegment& segment = snapshot_.segments()[index];
    Result<RunInfo> header = read_run_header(file);
    if (!header.ok())
      add_damage(segment, 0, segment.info.frames_offset_bytes, segment.info.first_seq, header.error().message());
    RETURN_IF_ERROR(check_frames(file, segment));
    for (std::uint64_t at = segment.run->blocks_offset_bytes; !stopped_ && at < segment.run->blocks_end_bytes;) {
      Result<FrameInfo> frame = read_frame_header(file, segment.info, at, segment.run->blocks_end_bytes);
      Status status = frame.ok() ? check_block(file, segment, *frame) : Status(frame.error());
      if (!status.ok())
        add_damage(segment, at, frame.ok() ? frame->end_offset_bytes() - at : segment.run->blocks_end_bytes - at,
                   segment.info.first_seq, status.error().message());
      if (!frame.ok()) break;
      advance(frame->end_offset_bytes() - at);
      at = frame->end_offset_bytes();
    }
    if (stopped_) return ok_status();
    const Result<Sha256Digest> digest = digest_file(file, segment.run->file_bytes);
    if (!digest.ok() || *digest != segment.run_digest)
      add_damage(segment, 0, segment.run->file_bytes, segment.info.first_seq,
                 digest.ok() ? "SHA-256 is " + to_hex(*digest) + ", the MANIFEST says " + to_hex(segment.run_digest)
                             : digest.error().message());
    if (index + 1 == snapshot_.segments().size()) return ok_status();
    const SegmentInfo& next = snapshot_.segments()[index + 1].info;
    if (next.previous_digest != segment.run->last_digest)
      add_damage(segment, 0, segment.run->file_bytes, segment.info.first_seq, "hash chain is broken behind it");
    return ok_status();
  }

  Status check_block(const File& file, const JournalSegment& segment, const FrameInfo& frame) {
    RETURN_IF_ERROR(read_frame_batch(file, frame, stored_));
    ASSIGN_OR_RETURN(const BatchReader batch, BatchReader::decode(stored_, Verify::kRecords, BatchOrder::kAny));
    if (!batch.info().block_order || batch.info().server != segment.info.server ||
        batch.info().encoded_bytes != frame.batch_bytes || batch.info().first_seq != frame.first_seq)
      return Error(ErrorKind::kCorrupt, "frame and batch do not belong together");
    return ok_status();
  }

  // One pass over the frames; behind a bad one the next intact one is looked for.
  Status check_frames(const File& file, const JournalSegment& segment) {
    std::uint64_t at = segment.info.frames_offset_bytes;
    Seq expected = segment.info.first_seq;
    bool in_sequence = true;
    while (at < segment.end_bytes) {
      Result<FrameInfo> frame = read_frame_header(file, segment.info, at, segment.end_bytes);
      if (!frame.ok()) {
        Result<std::optional<FrameInfo>> next = find_next_frame(file, segment.info, at + 8, segment.end_bytes);
        const std::uint64_t end = next.ok() && *next ? (*next)->offset_bytes : segment.end_bytes;
        add_damage(segment, at, end - at, expected, frame.error().message());
        if (!advance(end - at)) return ok_status();
        at = end;
        in_sequence = false;
        continue;
      }
      if (in_sequence && frame->first_seq != expected)
        add_damage(
            segment, at, frame->batch_bytes, expected,
            "batch begins with seq " + std::to_string(frame->first_seq) + ", expected " + std::to_string(expected));
      if (Status status = check_batch(file, segment, *frame, expected); !status.ok()) {
        add_damage(segment, at, frame->end_offset_bytes() - at, frame->first_seq, status.error().message());
        in_sequence = false;
      } else {
        in_sequence = true;
      }
      if (!advance(frame->end_offset_bytes() - at)) return ok_status();
      at = frame->end_offset_bytes();
    }
    return ok_status();
  }

  Status check_batch(const File& file, const JournalSegment& segment, const FrameInfo& frame, Seq& expected) {
    RETURN_IF_ERROR(read_frame_batch(file, frame, stored_));
    ASSIGN_OR_RETURN(const BatchReader batch, BatchReader::decode(stored_, Verify::kRecords));
    if (batch.info().first_seq != frame.first_seq || batch.info().server != segment.info.server ||
        batch.info().encoded_bytes != frame.batch_bytes)
      return Error(ErrorKind::kCorrupt, "frame and batch do not belong together");
    expected = batch.info().last_seq() + 1;
    for (std::size_t i = 0; i < batch.records().size(); ++i)
      if ((batch.records()[i].flags & kRecordInBase) != 0) check_base(batch.records()[i], batch.info().first_seq + i);
    return ok_status();
  }

  void check_base(const Record& record, Seq seq) {
    const auto damaged = [&](std::string reason) {
      add_damage(Damage{"base/" + base_image_name(record.disk), record.offset_bytes, record.length_bytes, seq,
                        std::move(reason), false});
    };
    Result<std::shared_ptr<const File>> file = snapshot_.open_base(record.disk);
    if (!file.ok()) return damaged(file.error().message());
    base_.resize(record.length_bytes);
    const Result<std::size_t> got = (*file)->read(record.offset_bytes, base_);
    if (!got.ok()) return damaged(got.error().message());
    if (*got < base_.size()) return damaged("image ends too early");
    if (xxh3_64(base_) != record.checksum) return damaged("bytes are not what was copied (checksum)");
    advance(record.length_bytes);
  }

  // SHA-256 of the whole segment must stand in the header of the next one.
  Status check_chain(const File& file, std::size_t index) {
    if (index + 1 == snapshot_.segments().size()) return ok_status();
    const JournalSegment& segment = snapshot_.segments()[index];
    Sha256 digest;
    stored_.resize(kHashPieceBytes);
    for (std::uint64_t at = 0; at < segment.end_bytes;) {
      const std::uint64_t piece = std::min<std::uint64_t>(stored_.size(), segment.end_bytes - at);
      const Result<std::size_t> got = file.read(at, std::span(stored_).first(piece));
      if (!got.ok() || *got < piece) {
        add_damage(segment, at, piece, segment.info.first_seq,
                   got.ok() ? "file is shorter than it was" : got.error().message());
        return ok_status();
      }
      digest.update(std::span<const std::byte>(stored_).first(piece));
      at += piece;
      if (!advance(piece)) return ok_status();
    }
    const JournalSegment& next = snapshot_.segments()[index + 1];
    if (digest.digest() != next.info.previous_digest)
      add_damage(segment, 0, segment.end_bytes, segment.info.first_seq,
                 "hash chain is broken: SHA-256 " + to_hex(digest.digest()) + ", '" + next.name + "' says " +
                     to_hex(next.info.previous_digest));
    return ok_status();
  }

  const JournalSnapshot& snapshot_;
  const DamageReport& report_;
  const std::function<bool(std::uint64_t, std::uint64_t)>& progress_;
  std::vector<std::byte> stored_;
  std::vector<std::byte> base_;
  std::uint64_t done_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t damages_ = 0;
  bool stopped_ = false;
};

}  // namespace

Status scrub_snapshot(const JournalSnapshot& snapshot, const DamageReport& report,
                      const std::function<bool(std::uint64_t, std::uint64_t)>& progress) {
  return Scrub(snapshot, report, progress).run();
}

}  // namespace understudy
