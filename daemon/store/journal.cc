// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/journal.h"

#include <algorithm>

#include "daemon/base/limits.h"
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
                                 std::vector<Damage> damage)
    : file_system_(file_system),
      directory_(std::move(directory)),
      base_directory_(std::move(base_directory)),
      identity_(std::move(identity)),
      position_(std::move(position)),
      segments_(std::move(segments)),
      damage_(std::move(damage)) {}

std::uint64_t JournalSnapshot::journal_bytes() const {
  std::uint64_t bytes = 0;
  for (const JournalSegment& segment : segments_) bytes += segment.end_bytes;
  return bytes;
}

Result<std::shared_ptr<const File>> JournalSnapshot::open_segment(std::size_t index) const {
  CHECK_LT(index, segments_.size());
  const std::lock_guard lock(mutex_);
  const auto it = std::find_if(open_segments_.begin(), open_segments_.end(),
                               [&](const auto& entry) { return entry.first == index; });
  if (it != open_segments_.end()) {
    open_segments_.splice(open_segments_.begin(), open_segments_, it);
    return open_segments_.front().second;
  }
  ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                   file_system_.open(journal_path(directory_) + "/" + segments_[index].name, FileMode::kRead));
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

JournalReader::JournalReader(std::shared_ptr<const JournalSnapshot> snapshot) : snapshot_(std::move(snapshot)) {}

JournalReader::JournalReader(std::shared_ptr<const JournalSnapshot> snapshot, const BatchLocation& from)
    : snapshot_(std::move(snapshot)), segment_(from.segment), offset_bytes_(from.frame.offset_bytes) {}

Result<JournalReader::Entry> JournalReader::read_entry(const File& file, const JournalSegment& segment) {
  ASSIGN_OR_RETURN(FrameTable table, read_frame_table(file, segment.info, offset_bytes_, segment.end_bytes, scratch_));
  if (expected_seq_ != 0 && table.frame.first_seq != expected_seq_)
    return Error(ErrorKind::kCorrupt, "batch begins with seq " + std::to_string(table.frame.first_seq) + ", expected " +
                                          std::to_string(expected_seq_));
  Entry entry;
  entry.location = BatchLocation{static_cast<std::uint32_t>(segment_), table.frame};
  if (needs_payload(table.batch)) {
    RETURN_IF_ERROR(read_frame_batch(file, table.frame, entry.stored));
    ASSIGN_OR_RETURN(entry.batch, BatchReader::decode(entry.stored, Verify::kStored));
  } else {
    entry.batch = std::move(table.batch);
  }
  return entry;
}

Result<std::unique_ptr<JournalReader::Entry>> JournalReader::next() {
  const std::vector<JournalSegment>& segments = snapshot_->segments();
  while (segment_ < segments.size()) {
    const JournalSegment& segment = segments[segment_];
    if (file_ == nullptr) {
      ASSIGN_OR_RETURN(file_, snapshot_->open_segment(segment_));
      if (offset_bytes_ == 0) {
        offset_bytes_ = segment.info.frames_offset_bytes;
        expected_seq_ = segment.info.first_seq;
      }
    }
    if (offset_bytes_ == segment.end_bytes) {
      ++segment_;
      offset_bytes_ = 0;
      file_ = nullptr;
      continue;
    }
    Result<Entry> entry = read_entry(*file_, segment);
    if (!entry.ok()) {
      damage_ = Damage{segment.name,  offset_bytes_,           segment.end_bytes - offset_bytes_,
                       expected_seq_, entry.error().message(), false};
      return std::move(entry).error().with_context("segment '" + segment.name + "' at byte " +
                                                   std::to_string(offset_bytes_));
    }
    offset_bytes_ = entry->location.frame.end_offset_bytes();
    expected_seq_ = entry->batch.info().last_seq() + 1;
    return std::make_unique<Entry>(std::move(*entry));
  }
  return std::unique_ptr<Entry>();
}

Result<BatchReader> read_batch(const JournalSnapshot& snapshot, const BatchLocation& location,
                               std::vector<std::byte>& stored, Verify verify) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot.open_segment(location.segment));
  const std::string& name = snapshot.segments()[location.segment].name;
  const auto named = [&](Error error) {
    return std::move(error).with_context("segment '" + name + "' at byte " +
                                         std::to_string(location.frame.offset_bytes));
  };
  if (Status status = read_frame_batch(*file, location.frame, stored); !status.ok())
    return named(std::move(status).error());
  Result<BatchReader> batch = BatchReader::decode(stored, verify);
  if (!batch.ok()) return named(std::move(batch).error());
  if (batch->info().first_seq != location.frame.first_seq || batch->info().server != snapshot.identity().server)
    return named(Error(ErrorKind::kCorrupt, "another batch lies here"));
  return batch;
}

}  // namespace understudy
