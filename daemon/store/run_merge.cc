// SPDX-License-Identifier: Apache-2.0
// The beginning, the stream part and the end of a merge; run_merge_blocks.cc sorts the payloads.
#include "daemon/store/run_merge.h"

#include <algorithm>

#include "daemon/base/limits.h"
#include "daemon/store/run_format.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

constexpr std::uint64_t kStepBytes = 4u << 20;
constexpr std::size_t kStepBatches = 256;

Status read_index_through(const SegmentIndex& index) {
  SegmentIndexScan scan(index);
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<SegmentIndexScan::Entry> entry, scan.next());
    if (!entry) return ok_status();
  }
}

}  // namespace

RunMerge::RunMerge(FileSystem& file_system, std::string directory, std::shared_ptr<const JournalSnapshot> snapshot,
                   const RunMergeOptions& options)
    : file_system_(file_system), directory_(std::move(directory)), snapshot_(std::move(snapshot)), options_(options) {}

RunMerge::~RunMerge() {
  file_.reset();
  if (made_ && phase_ != Phase::kDone) (void)file_system_.remove(temporary_).ok();
}

Error RunMerge::damaged(const Input& input, const std::string& what) const {
  return Error(ErrorKind::kCorrupt, "merge '" + snapshot_->segments()[input.segment].name + "': " + what);
}

Result<std::unique_ptr<RunMerge>> RunMerge::begin(FileSystem& file_system, const std::string& store_directory,
                                                  std::shared_ptr<const JournalSnapshot> snapshot, std::size_t first,
                                                  std::size_t count, const RunMergeOptions& options) {
  CHECK(count > 0 && first + count < snapshot->segments().size());  // the last segment is not sealed
  std::unique_ptr<RunMerge> merge(new RunMerge(file_system, runs_path(store_directory), std::move(snapshot), options));
  RETURN_IF_ERROR(merge->prepare(first, count));
  return merge;
}

Status RunMerge::prepare(std::size_t first, std::size_t count) {
  const std::vector<JournalSegment>& segments = snapshot_->segments();
  for (std::size_t i = first; i < first + count; ++i) {
    // An index file that is damaged anywhere is done without: the snapshot makes another one from the tables.
    RETURN_IF_ERROR(snapshot_->with_segment_index(i, read_index_through));
    ASSIGN_OR_RETURN(const JournalSnapshot::Indexed indexed, snapshot_->segment_index(i));
    Input input;
    input.segment = i;
    if (indexed.damage) return damaged(input, indexed.damage->reason);
    input.index = indexed.index;
    inputs_.push_back(std::move(input));
  }
  RunInfo& info = run_.info;
  info.segment = segments[first].info;
  info.last_number = segments[first + count - 1].last_number();
  info.last_seq = segments[first + count].info.first_seq - 1;
  info.last_bytes = segments[first + count].info.previous_bytes;
  info.last_digest = segments[first + count].info.previous_digest;
  run_.name = run_name(info.segment.first_seq, info.last_seq);
  temporary_ = directory_ + "/" + run_.name + ".new";

  RETURN_IF_ERROR(file_system_.make_directory(directory_));
  RETURN_IF_ERROR(file_system_.sync_directory(directory_ + "/.."));
  (void)file_system_.remove(temporary_).ok();  // of an earlier crash
  ASSIGN_OR_RETURN(file_, file_system_.open(temporary_, FileMode::kCreate));
  made_ = true;
  info.segment.frames_offset_bytes = encode_run_header(info).size();
  stream_end_ = info.segment.frames_offset_bytes;
  written_bytes_ = stream_end_;
  events_.emplace(info.segment);
  events_->leave_out_extents();
  return open_input();
}

Status RunMerge::open_input() {
  const JournalSegment& segment = snapshot_->segments()[inputs_[input_].segment];
  ASSIGN_OR_RETURN(input_file_, snapshot_->open_segment(inputs_[input_].segment));
  digest_ = Sha256();
  hashed_bytes_ = 0;
  reader_.reset();
  if (segment.is_run()) return ok_status();  // hashed first
  std::vector<std::byte> header(segment.info.frames_offset_bytes);
  ASSIGN_OR_RETURN(const std::size_t got, input_file_->read(0, header));
  if (got != header.size()) return damaged(inputs_[input_], "it ends in its header");
  digest_.update(header);
  reader_.emplace(*input_file_, segment);
  return ok_status();
}

// A run's file is proved before anything of it is used.
Status RunMerge::hash_some() {
  const JournalSegment& segment = snapshot_->segments()[inputs_[input_].segment];
  stored_.resize(std::min<std::uint64_t>(kStepBytes, segment.file_bytes() - hashed_bytes_));
  ASSIGN_OR_RETURN(const std::size_t got, input_file_->read(hashed_bytes_, stored_));
  if (got != stored_.size()) return damaged(inputs_[input_], "it is shorter than it was");
  digest_.update(stored_);
  hashed_bytes_ += got;
  work_bytes_ += got;
  if (hashed_bytes_ < segment.file_bytes()) return ok_status();
  if (digest_.digest() != segment.run_digest) return damaged(inputs_[input_], "SHA-256 is not what the MANIFEST says");
  reader_.emplace(*input_file_, segment);
  return ok_status();
}

Status RunMerge::stream_some() {
  const std::uint64_t until = work_bytes_ + kStepBytes;
  for (std::size_t i = 0; i < kStepBatches && work_bytes_ < until; ++i) {
    if (!reader_) {
      RETURN_IF_ERROR(hash_some());
      continue;
    }
    if (!reader_->at_end()) {
      RETURN_IF_ERROR(stream_batch());
      continue;
    }
    RETURN_IF_ERROR(end_input());
    if (++input_ == inputs_.size()) return begin_index();
    RETURN_IF_ERROR(open_input());
  }
  return ok_status();
}

Status RunMerge::end_input() {
  const std::size_t segment = inputs_[input_].segment;
  const SegmentInfo& next = snapshot_->segments()[segment + 1].info;
  if (!snapshot_->segments()[segment].is_run() && digest_.digest() != next.previous_digest)
    return damaged(inputs_[input_], "SHA-256 is not what the segment behind it says");
  if (events_->place().seq + 1 != next.first_seq) return damaged(inputs_[input_], "records are missing at its end");
  return ok_status();
}

Status RunMerge::stream_batch() {
  const JournalSegment& segment = snapshot_->segments()[inputs_[input_].segment];
  const std::uint64_t at = reader_->offset_bytes();
  Result<JournalEntry> entry = reader_->next();
  if (!entry.ok()) return std::move(entry).error().with_context("merge '" + segment.name + "'");
  const FrameInfo& frame = entry->location.frame;
  work_bytes_ += segment.is_run() ? frame.batch_bytes : frame.end_offset_bytes() - at;
  if (segment.is_run()) {
    if (!entry->batch.info().head) return damaged(inputs_[input_], "a batch without the chain head behind it");
    return write_stream_frame(entry->batch, frame, *entry->batch.info().head);
  }
  // Of a segment everything is read here, and proved.
  RETURN_IF_ERROR(read_frame_batch(*input_file_, frame, stored_));
  Result<BatchReader> batch = BatchReader::decode(stored_, Verify::kRecords);
  if (!batch.ok()) return std::move(batch).error().with_context("merge '" + segment.name + "'");
  digest_.update(encode_frame_header(segment.info, frame));
  digest_.update(stored_);
  return write_stream_frame(*batch, frame, digest_.digest());
}

// The batch as it is, but for the payloads that go to the blocks.
Status RunMerge::write_stream_frame(const BatchReader& batch, const FrameInfo& original, const Sha256Digest& head) {
  const BatchInfo& info = batch.info();
  BatchWriter writer;
  writer.start(info.server, info.first_seq, info.epoch, info.generation);
  for (Record record : batch.records()) {
    if ((record.kind == RecordKind::kWrite || record.kind == RecordKind::kCopy) && !record.payload.empty()) {
      record.flags |= kRecordInRun;
      record.payload = {};
    }
    writer.add(record);
  }
  writer.set_cursor(info.cursor);
  writer.set_head(head);
  std::vector<std::byte> encoded;
  writer.encode(Compression{Codec::kZstd, 1}, Compression{Codec::kNone, 0}, encoded);
  FrameInfo frame;
  frame.offset_bytes = stream_end_;
  frame.first_seq = info.first_seq;
  frame.durable_seq = original.durable_seq;
  frame.batch_bytes = static_cast<std::uint32_t>(encoded.size());
  if (frame.offset_bytes / 8 > ~std::uint32_t{0})
    return Error(ErrorKind::kUnsupported, "merge: a run of more than 32 GiB can't be indexed");
  RETURN_IF_ERROR(events_->add_batch(frame, batch));
  stream_frames_.push_back({frame.first_seq, static_cast<std::uint32_t>(frame.offset_bytes / 8), frame.batch_bytes});
  const std::vector<std::byte> header = encode_frame_header(run_.info.segment, frame);
  out_.insert(out_.end(), header.begin(), header.end());
  out_.insert(out_.end(), encoded.begin(), encoded.end());
  stream_end_ = frame.end_offset_bytes();
  if (out_.size() < kStepBytes) return ok_status();
  RETURN_IF_ERROR(file_->write(stream_end_ - out_.size(), out_));
  work_bytes_ += out_.size();
  out_.clear();
  return ok_status();
}

// What is left: the sections behind the pages and blocks, the headers.
Status RunMerge::finish() {
  RETURN_IF_ERROR(flush_blocks());
  pages_->finish();
  RETURN_IF_ERROR(flush_pages());
  CHECK_EQ(pages_at_, pages_end_);
  RunInfo& info = run_.info;
  info.blocks_end_bytes = blocks_at_;
  IndexHeader header{};
  header.pages_offset_bytes = kIndexPageBytes;
  const IndexTail tail{info.segment,     info.last_seq, info.frames_end_bytes, info.last_digest,
                       events_->place(), *pages_,       events_->events(),     events_->places()};
  const std::vector<std::byte> sections = encode_index_sections(tail, blocks_at_ - info.index_offset_bytes, header);
  RETURN_IF_ERROR(file_->write(blocks_at_, sections));
  RETURN_IF_ERROR(file_->write(info.index_offset_bytes, std::as_bytes(std::span(&header, 1))));
  info.file_bytes = blocks_at_ + sections.size();
  RETURN_IF_ERROR(file_->write(0, encode_run_header(info)));
  RETURN_IF_ERROR(file_->sync());
  written_bytes_ += sections.size() + sizeof(header);
  digest_ = Sha256();
  hashed_bytes_ = 0;
  payload_ = {};
  phase_ = Phase::kProve;
  return ok_status();
}

Status RunMerge::prove_some() {
  stored_.resize(std::min<std::uint64_t>(kStepBytes, run_.info.file_bytes - hashed_bytes_));
  ASSIGN_OR_RETURN(const std::size_t got, file_->read(hashed_bytes_, stored_));
  if (got != stored_.size()) return Error(ErrorKind::kIo, "merge: '" + temporary_ + "' is shorter than was written");
  digest_.update(stored_);
  hashed_bytes_ += got;
  work_bytes_ += got;
  if (hashed_bytes_ < run_.info.file_bytes) return ok_status();
  run_.digest = digest_.digest();
  RETURN_IF_ERROR(file_system_.rename(temporary_, directory_ + "/" + run_.name));
  RETURN_IF_ERROR(file_system_.sync_directory(directory_));
  phase_ = Phase::kDone;
  return ok_status();
}

Result<bool> RunMerge::step() {
  switch (phase_) {
    case Phase::kStream: RETURN_IF_ERROR(stream_some()); break;
    case Phase::kGather: RETURN_IF_ERROR(gather()); break;
    case Phase::kLoad: RETURN_IF_ERROR(load_some()); break;
    case Phase::kWrite: RETURN_IF_ERROR(write_some()); break;
    case Phase::kFinish: RETURN_IF_ERROR(finish()); break;
    case Phase::kProve: RETURN_IF_ERROR(prove_some()); break;
    case Phase::kDone: break;
  }
  return phase_ == Phase::kDone;
}

}  // namespace understudy
