// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/journal.h"

#include <algorithm>

#include "daemon/base/limits.h"
#include "daemon/store/manifest.h"
#include "daemon/store/segment_index_writer.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

bool needs_payload(const BatchReader& table) {
  return std::any_of(table.records().begin(), table.records().end(), [](const Record& record) {
    return record.kind == RecordKind::kGap || record.kind == RecordKind::kMark || record.kind == RecordKind::kGeometry;
  });
}

}  // namespace

JournalSnapshot::JournalSnapshot(FileSystem& file_system, std::string directory, std::string base_directory,
                                 StoreIdentity identity, StreamPosition position, std::vector<JournalSegment> segments,
                                 std::vector<Damage> damage, std::uint64_t layout, std::shared_ptr<const StorePin> pin)
    : file_system_(file_system),
      directory_(std::move(directory)),
      base_directory_(std::move(base_directory)),
      identity_(std::move(identity)),
      position_(std::move(position)),
      segments_(std::move(segments)),
      damage_(std::move(damage)),
      layout_(layout),
      pin_(std::move(pin)),
      index_files_(std::make_shared<FileCache>(file_system, kOpenIndexesMax)) {}

std::uint64_t JournalSnapshot::journal_bytes() const {
  std::uint64_t bytes = 0;
  for (const JournalSegment& segment : segments_) bytes += segment.file_bytes();
  return bytes;
}

Result<std::shared_ptr<const File>> JournalSnapshot::open_segment(std::size_t index) const {
  CHECK_LT(index, segments_.size());
  const std::lock_guard lock(mutex_);
  if (const auto held = held_files_.find(index); held != held_files_.end()) return held->second;
  const auto it = std::find_if(open_segments_.begin(), open_segments_.end(),
                               [&](const auto& entry) { return entry.first == index; });
  if (it != open_segments_.end()) {
    open_segments_.splice(open_segments_.begin(), open_segments_, it);
    return open_segments_.front().second;
  }
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, file_system_.open(segment_path(index), FileMode::kRead));
  open_segments_.emplace_front(index, std::shared_ptr<const File>(std::move(file)));
  if (open_segments_.size() > kOpenSegmentsMax) open_segments_.pop_back();
  return open_segments_.front().second;
}

Result<std::shared_ptr<const File>> JournalSnapshot::open_base(std::uint16_t disk) const {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const File>& file = open_bases_[disk];
  if (file == nullptr) {
    ASSIGN_OR_RETURN(std::unique_ptr<File> opened,
                     file_system_.open(base_directory_ + "/" + base_image_name(disk), FileMode::kRead));
    file = std::move(opened);
  }
  return file;
}

std::uint64_t JournalSnapshot::base_allocated_bytes() const {
  std::uint64_t bytes = 0;
  for (const DiskGeometry& disk : position_.disks) {
    const Result<std::shared_ptr<const File>> file = open_base(disk.disk);
    if (!file.ok()) continue;
    if (const Result<std::uint64_t> allocated = (*file)->allocated_bytes(); allocated.ok()) bytes += *allocated;
  }
  return bytes;
}

std::string JournalSnapshot::segment_path(std::size_t index) const {
  const JournalSegment& segment = segments_[index];
  return (segment.is_run() ? runs_path(directory_) : journal_path(directory_)) + "/" + segment.name;
}

Result<bool> JournalSnapshot::is_superseded(std::size_t index) const {
  ASSIGN_OR_RETURN(const Manifest manifest, read_manifest(file_system_, directory_));
  const JournalSegment& segment = segments_[index];
  if (!is_in_run(manifest, segment.info.first_seq)) return false;
  return !segment.is_run() || std::none_of(manifest.runs.begin(), manifest.runs.end(), [&](const ManifestRun& run) {
    return run.first_seq == segment.info.first_seq && run.last_seq == segment.run->last_seq;
  });
}

// The files, and of segments the indexes: both go away together.
Status JournalSnapshot::hold_files() const {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, open_segment(i));
    {
      const std::lock_guard lock(mutex_);
      held_files_.emplace(i, file);
    }
    if (!segments_[i].is_run() && i + 1 < segments_.size()) {
      Result<std::unique_ptr<File>> index =
          file_system_.open(journal_directory() + "/" + index_name(segments_[i].info.first_seq), FileMode::kRead);
      if (!index.ok()) continue;
      const std::lock_guard lock(mutex_);
      held_indexes_.emplace(i, std::move(*index));
    }
  }
  return ok_status();
}

std::string JournalSnapshot::journal_directory() const { return journal_path(directory_); }

std::size_t JournalSnapshot::segment_of(Seq seq) const {
  CHECK(!segments_.empty());
  const auto it =
      std::upper_bound(segments_.begin(), segments_.end(), seq,
                       [](Seq wanted, const JournalSegment& segment) { return wanted < segment.info.first_seq; });
  return it == segments_.begin() ? 0 : static_cast<std::size_t>(it - segments_.begin()) - 1;
}

std::shared_ptr<const File> JournalSnapshot::index_file(std::size_t index, const std::string& name) const {
  const JournalSegment& segment = segments_[index];
  {
    const std::lock_guard lock(mutex_);
    const auto held = held_files_.find(index);
    if (segment.is_run() && held != held_files_.end())
      return std::make_shared<FileTail>(held->second, segment.run->index_offset_bytes);
    const auto held_index = held_indexes_.find(index);
    if (held_index != held_indexes_.end()) return held_index->second;
  }
  const std::string path = segment.is_run() ? segment_path(index) : journal_directory() + "/" + name;
  index_files_->forget(path);  // a damaged file may have been replaced since
  auto file = std::make_shared<CachedFile>(index_files_, path);
  if (!segment.is_run()) return file;
  return std::make_shared<FileTail>(std::move(file), segment.run->index_offset_bytes);
}

Result<std::shared_ptr<const SegmentIndex>> JournalSnapshot::open_segment_index(std::size_t index) const {
  CHECK_LT(index, segments_.size());
  const SegmentInfo& info = segments_[index].info;
  const bool is_run = segments_[index].is_run();
  const std::string name = is_run ? segments_[index].name : index_name(info.first_seq);
  if (index + 1 == segments_.size()) return Error(ErrorKind::kNotFound, "segment '" + name + "' is not sealed");
  Result<std::shared_ptr<const SegmentIndex>> opened = SegmentIndex::open(index_file(index, name));
  if (!opened.ok()) return std::move(opened).error().with_context("'" + name + "'");
  const SegmentIndex& found = **opened;
  const SegmentInfo& next = segments_[index + 1].info;
  if (found.server() != info.server || found.store() != info.store || found.first_seq() != info.first_seq ||
      found.last_seq() + 1 != next.first_seq || found.segment_bytes() != segments_[index].end_bytes ||
      found.segment_digest() != next.previous_digest)
    return Error(ErrorKind::kCorrupt, "'" + name + "' is not the index of the segment beside it");
  return opened;
}

Result<JournalSnapshot::Indexed> JournalSnapshot::scan_index(std::size_t index) const {
  ASSIGN_OR_RETURN(ScannedIndex scanned, scan_segment_index(*this, index));
  ASSIGN_OR_RETURN(std::shared_ptr<const SegmentIndex> made, SegmentIndex::open(std::move(scanned.image)));
  return Indexed{std::move(made), std::move(scanned.damage)};
}

Result<JournalSnapshot::Indexed> JournalSnapshot::segment_index(std::size_t index) const {
  const std::lock_guard lock(index_mutex_);
  const auto it = indexes_.find(index);
  if (it != indexes_.end()) return it->second;
  Result<std::shared_ptr<const SegmentIndex>> opened = open_segment_index(index);
  // What is wrong with the file does not matter: everything in it stands in the segment as well.
  Result<Indexed> indexed = opened.ok() ? Indexed{*std::move(opened), std::nullopt} : scan_index(index);
  if (indexed.ok()) indexes_.emplace(index, *indexed);
  return indexed;
}

Status JournalSnapshot::with_segment_index(std::size_t index,
                                           const std::function<Status(const SegmentIndex&)>& use) const {
  ASSIGN_OR_RETURN(Indexed indexed, segment_index(index));
  Status status = use(*indexed.index);
  if (status.ok() || indexed.index->in_memory()) return status;
  {
    const std::lock_guard lock(index_mutex_);
    Indexed& kept = indexes_.at(index);
    if (!kept.index->in_memory()) {
      ASSIGN_OR_RETURN(kept, scan_index(index));
    }
    indexed = kept;
  }
  if (indexed.damage)  // then both are damaged, and the file said what it could
    return Error(ErrorKind::kCorrupt, "segment '" + indexed.damage->object + "' at byte " +
                                          std::to_string(indexed.damage->offset_bytes) + ": " + indexed.damage->reason);
  return use(*indexed.index);
}

std::uint64_t JournalSnapshot::index_memory_bytes() const {
  const std::lock_guard lock(index_mutex_);
  std::uint64_t bytes = 0;
  for (const auto& [number, indexed] : indexes_) bytes += indexed.index->memory_bytes();
  return bytes;
}

SegmentEntryReader::SegmentEntryReader(const File& file, const JournalSegment& segment, std::uint64_t offset_bytes)
    : file_(file),
      segment_(segment),
      offset_bytes_(offset_bytes != 0 ? offset_bytes : segment.info.frames_offset_bytes),
      expected_seq_(offset_bytes != 0 ? 0 : segment.info.first_seq) {}

Result<JournalEntry> SegmentEntryReader::next() {
  CHECK(!at_end());
  ASSIGN_OR_RETURN(FrameTable table,
                   read_frame_table(file_, segment_.info, offset_bytes_, segment_.end_bytes, scratch_));
  if (expected_seq_ != 0 && table.frame.first_seq != expected_seq_)
    return Error(ErrorKind::kCorrupt, "batch begins with seq " + std::to_string(table.frame.first_seq) + ", expected " +
                                          std::to_string(expected_seq_));
  JournalEntry entry;
  entry.location.frame = table.frame;
  if (needs_payload(table.batch)) {
    RETURN_IF_ERROR(read_frame_batch(file_, table.frame, entry.stored));
    ASSIGN_OR_RETURN(entry.batch, BatchReader::decode(entry.stored, Verify::kStored));
  } else {
    entry.batch = std::move(table.batch);
  }
  offset_bytes_ = entry.location.frame.end_offset_bytes();
  expected_seq_ = entry.batch.info().last_seq() + 1;
  return entry;
}

JournalReader::JournalReader(std::shared_ptr<const JournalSnapshot> snapshot) : snapshot_(std::move(snapshot)) {}

JournalReader::JournalReader(std::shared_ptr<const JournalSnapshot> snapshot, const BatchLocation& from)
    : snapshot_(std::move(snapshot)), segment_(from.segment), offset_bytes_(from.frame.offset_bytes) {}

Result<JournalReader> JournalReader::from_seq(std::shared_ptr<const JournalSnapshot> snapshot, Seq seq) {
  BatchLocation location;
  location.segment = static_cast<std::uint32_t>(snapshot->segment_of(seq));
  location.frame.offset_bytes = snapshot->segments()[location.segment].info.frames_offset_bytes;
  // The newest segment has no index yet; that of another may be missing: then it is read from its beginning.
  const Result<std::shared_ptr<const SegmentIndex>> index = snapshot->open_segment_index(location.segment);
  if (index.ok())
    if (const Result<std::vector<IndexedPlace>> places = (*index)->places(); places.ok())
      for (const IndexedPlace& place : *places)
        if (place.before.seq < seq) location.frame.offset_bytes = place.frame_offset_bytes;
  return JournalReader(std::move(snapshot), location);
}

Result<std::unique_ptr<JournalReader::Entry>> JournalReader::next() {
  const std::vector<JournalSegment>& segments = snapshot_->segments();
  while (segment_ < segments.size()) {
    const JournalSegment& segment = segments[segment_];
    if (!reader_) {
      ASSIGN_OR_RETURN(file_, snapshot_->open_segment(segment_));
      reader_.emplace(*file_, segment, offset_bytes_);
    }
    if (reader_->at_end()) {
      ++segment_;
      offset_bytes_ = 0;
      reader_.reset();
      continue;
    }
    const std::uint64_t at = reader_->offset_bytes();
    Result<Entry> entry = reader_->next();
    if (!entry.ok()) {
      damage_ =
          Damage{segment.name, at, segment.end_bytes - at, reader_->expected_seq(), entry.error().message(), false};
      return std::move(entry).error().with_context("segment '" + segment.name + "' at byte " + std::to_string(at));
    }
    entry->location.segment = static_cast<std::uint32_t>(segment_);
    return std::make_unique<Entry>(std::move(*entry));
  }
  return std::unique_ptr<Entry>();
}

Result<Sha256Digest> digest_last_segment(const JournalSnapshot& snapshot) {
  if (snapshot.segments().empty()) return Sha256Digest{};
  const JournalSegment& last = snapshot.segments().back();
  if (last.is_run()) return last.run->last_digest;
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot.open_segment(snapshot.segments().size() - 1));
  Result<Sha256Digest> digest = digest_file(*file, last.end_bytes);
  if (!digest.ok()) return std::move(digest).error().with_context("segment '" + last.name + "'");
  return digest;
}

Result<BatchReader> read_batch(const JournalSnapshot& snapshot, const BatchLocation& location,
                               std::vector<std::byte>& stored, Verify verify, BatchOrder order) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot.open_segment(location.segment));
  const std::string& name = snapshot.segments()[location.segment].name;
  const auto named = [&](Error error) {
    return std::move(error).with_context("segment '" + name + "' at byte " +
                                         std::to_string(location.frame.offset_bytes));
  };
  if (Status status = read_frame_batch(*file, location.frame, stored); !status.ok())
    return named(std::move(status).error());
  Result<BatchReader> batch = BatchReader::decode(stored, verify, order);
  if (!batch.ok()) return named(std::move(batch).error());
  if ((location.frame.first_seq != 0 && batch->info().first_seq != location.frame.first_seq) ||
      batch->info().encoded_bytes != location.frame.batch_bytes || batch->info().server != snapshot.identity().server)
    return named(Error(ErrorKind::kCorrupt, "another batch lies here"));
  return batch;
}

Result<BatchReader> read_payload_batch(const JournalSnapshot& snapshot, Seq seq, std::uint16_t disk,
                                       std::uint64_t offset_bytes, const FrameInfo& frame,
                                       std::vector<std::byte>& stored) {
  BatchLocation location;
  location.segment = static_cast<std::uint32_t>(snapshot.segment_of(seq));
  location.frame = frame;
  const JournalSegment& segment = snapshot.segments()[location.segment];
  if (!segment.is_run()) return read_batch(snapshot, location, stored, Verify::kRecords);
  std::vector<IndexedExtent> extents;
  RETURN_IF_ERROR(snapshot.with_segment_index(location.segment, [&](const SegmentIndex& index) {
    extents.clear();
    return index.collect(disk, offset_bytes, offset_bytes + 1, seq, extents);
  }));
  for (const IndexedExtent& extent : extents) {
    if (extent.seq != seq || extent.kind != ExtentKind::kData) continue;
    location.frame = FrameInfo{};
    location.frame.offset_bytes = extent.frame_offset_bytes;
    location.frame.batch_bytes = extent.batch_bytes;
    return read_batch(snapshot, location, stored, Verify::kRecords, BatchOrder::kAny);
  }
  return Error(ErrorKind::kCorrupt,
               "run '" + segment.name + "': its index does not know record " + std::to_string(seq));
}

}  // namespace understudy
