// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/segment_index_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <tuple>

#include "daemon/base/limits.h"
#include "daemon/store/journal.h"
#include "daemon/store/segment_index.h"
#include "daemon/store/segment_index_format.h"
#include "daemon/store/store_paths.h"
#include "daemon/store/window_file.h"

namespace understudy {
namespace {

// A place is noted every so many batches or records, whichever comes first: what must be read to find a position.
constexpr std::uint64_t kPlaceBatches = 32;
constexpr std::uint64_t kPlaceRecords = 4096;

template <typename T>
void append_bytes(std::vector<std::byte>& out, const T& value) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

IndexPlace stored(const StreamPlace& place) {
  IndexPlace out{};
  out.seq = place.seq;
  out.time_ns = place.time_ns;
  out.write_time_ns = place.write_time_ns;
  out.barrier_seq = place.barrier_seq;
  out.barrier_write_time_ns = place.barrier_write_time_ns;
  out.flags = place.written_since_barrier ? kPlaceWritten : 0;
  return out;
}

}  // namespace

std::uint8_t index_length_class(std::uint64_t length_bytes) {
  return static_cast<std::uint8_t>(std::bit_width(length_bytes - 1));
}

void IndexPages::add(std::uint16_t disk, std::uint8_t length_class, const IndexEntry& entry) {
  if (directory_.empty() || directory_.back().disk != disk || directory_.back().length_class != length_class) {
    IndexDirectoryEntry range{};
    range.disk = disk;
    range.length_class = length_class;
    range.first_entry = entry_count_;
    directory_.push_back(range);
  }
  directory_.back().entry_count = directory_.back().entry_count + 1;
  ++entry_count_;
  if (page_.empty()) fences_.push_back({entry.begin_bytes, entry.length_bytes, entry.seq});
  page_.push_back(entry);
  if (page_.size() == kIndexPageEntries) end_page();
}

void IndexPages::end_page() {
  const std::size_t begin = pages_.size();
  pages_.resize(begin + kIndexPageBytes);
  const std::span<std::byte> page = std::span(pages_).subspan(begin);
  std::memcpy(page.data() + sizeof(IndexPageHeader), page_.data(), page_.size() * sizeof(IndexEntry));
  IndexPageHeader header{};
  header.first_seq = first_seq_;
  header.number = page_count_++;
  std::memcpy(header.store, store_.bytes.data(), sizeof(header.store));
  std::memcpy(page.data(), &header, sizeof(header));
  header.checksum = xxh3_64(page.subspan(sizeof(header.checksum)));
  std::memcpy(page.data(), &header.checksum, sizeof(header.checksum));
  page_.clear();
}

void IndexPages::finish() {
  if (!page_.empty()) end_page();
}

std::vector<std::byte> IndexPages::directory() const {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(directory_));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> IndexPages::fences() const {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(fences_));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> encode_index_sections(const IndexTail& tail, std::uint64_t offset_bytes, IndexHeader& header) {
  std::vector<std::byte> out;
  const auto add = [&](std::span<const std::byte> bytes) {
    IndexSection section{};
    section.offset_bytes = offset_bytes + out.size();
    section.length_bytes = bytes.size();
    section.checksum = xxh3_64(bytes);
    out.insert(out.end(), bytes.begin(), bytes.end());
    return section;
  };
  header.magic = kIndexMagic;
  header.version = kIndexVersion;
  header.header_bytes = static_cast<std::uint16_t>(sizeof(header));
  std::memcpy(header.server, tail.info.server.bytes.data(), sizeof(header.server));
  std::memcpy(header.store, tail.info.store.bytes.data(), sizeof(header.store));
  header.first_seq = tail.info.first_seq;
  header.last_seq = tail.last_seq;
  header.segment_bytes = tail.segment_bytes;
  std::memcpy(header.segment_digest, tail.digest.data(), sizeof(header.segment_digest));
  header.entry_count = tail.pages.entry_count();
  header.last_place = stored(tail.last_place);
  header.directory = add(tail.pages.directory());
  header.fences = add(tail.pages.fences());
  header.events = add(tail.events);
  header.places = add(tail.places);
  header.header_checksum = xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(IndexHeader, header_checksum)));
  return out;
}

SegmentIndexBuilder::SegmentIndexBuilder(const SegmentInfo& info) : info_(info), disks_(info.state.position.disks) {}

void SegmentIndexBuilder::add_extent(Seq seq, std::uint16_t disk, std::uint64_t begin, std::uint64_t length,
                                     const FrameInfo& frame, std::uint32_t kind) {
  if (!extents_) return;
  Item item;
  item.begin_bytes = begin;
  item.length_bytes = length;
  item.seq = seq;
  item.frame_place = static_cast<std::uint32_t>(frame.offset_bytes / 8);
  item.batch_bytes_and_kind = frame.batch_bytes | kind;
  item.disk = disk;
  item.length_class = index_length_class(length);
  items_.push_back(item);
}

void SegmentIndexBuilder::add_event(Seq seq, const Record& record) {
  IndexEvent event{};
  event.seq = seq;
  event.time_ns = record.time_ns;
  event.kind = static_cast<std::uint8_t>(record.kind);
  event.payload_bytes = static_cast<std::uint32_t>(record.payload.size());
  event.before = stored(place_);
  append_bytes(events_, event);
  events_.insert(events_.end(), record.payload.begin(), record.payload.end());
  events_.resize((events_.size() + 7) / 8 * 8);
}

// Where a disk goes away, changes or is cut, everything older reads as zeros, also when it grows again.
Status SegmentIndexBuilder::add_geometry(Seq seq, const Record& record, const FrameInfo& frame) {
  ASSIGN_OR_RETURN(std::vector<DiskGeometry> disks, decode_geometry(record.payload));
  for (const DiskGeometry& old : disks_) {
    const auto now =
        std::find_if(disks.begin(), disks.end(), [&](const DiskGeometry& disk) { return disk.disk == old.disk; });
    if (now == disks.end() || now->id != old.id)
      add_extent(seq, old.disk, 0, kDiskBytesMax, frame, kExtentZeros);
    else if (now->size_bytes < old.size_bytes)
      add_extent(seq, old.disk, now->size_bytes, kDiskBytesMax - now->size_bytes, frame, kExtentZeros);
  }
  disks_ = std::move(disks);
  return ok_status();
}

Status SegmentIndexBuilder::add_batch(const FrameInfo& frame, const BatchReader& batch) {
  CHECK_EQ(frame.offset_bytes % 8, 0u);
  CHECK_EQ(frame.batch_bytes % 8, 0u);
  if (frame.offset_bytes / 8 > ~std::uint32_t{0})
    return Error(ErrorKind::kUnsupported, "a segment of more than 32 GiB can't be indexed");
  if (batches_since_place_ >= kPlaceBatches || records_since_place_ >= kPlaceRecords) {
    IndexPlaceEntry entry{};
    entry.before = stored(place_);
    entry.frame_offset_bytes = frame.offset_bytes;
    append_bytes(places_, entry);
    batches_since_place_ = records_since_place_ = 0;
  }
  ++batches_since_place_;
  records_since_place_ += batch.records().size();
  Seq seq = batch.info().first_seq;
  for (const Record& record : batch.records()) {
    switch (record.kind) {
      case RecordKind::kWrite:
        if ((record.flags & kRecordInRun) != 0) break;  // its block says where it is
        add_extent(seq, record.disk, record.offset_bytes, record.length_bytes, frame, kExtentData);
        break;
      case RecordKind::kZero:
        add_extent(seq, record.disk, record.offset_bytes, record.length_bytes, frame, kExtentZeros);
        break;
      case RecordKind::kCopy: {
        if ((record.flags & kRecordInRun) != 0) break;
        const std::uint32_t kind = (record.flags & kRecordZeros) != 0    ? kExtentZeros
                                   : (record.flags & kRecordInBase) != 0 ? kExtentBase
                                                                         : kExtentData;
        add_extent(seq, record.disk, record.offset_bytes, record.length_bytes, frame, kind);
        break;
      }
      case RecordKind::kGeometry:
        add_event(seq, record);
        RETURN_IF_ERROR(add_geometry(seq, record, frame));
        break;
      case RecordKind::kGap:
      case RecordKind::kHeal:
      case RecordKind::kMark: add_event(seq, record); break;
      case RecordKind::kBarrier: break;
    }
    place_.add(seq++, record);
  }
  return ok_status();
}

Status SegmentIndexBuilder::add_block(const FrameInfo& frame, const BatchReader& batch) {
  if (!batch.info().block_order) return Error(ErrorKind::kCorrupt, "a batch of the stream among the blocks");
  for (const Record& record : batch.records())
    add_extent(record.time_ns, record.disk, record.offset_bytes, record.length_bytes, frame, kExtentData);
  return ok_status();
}

std::vector<std::byte> SegmentIndexBuilder::finish(std::uint64_t segment_bytes, const Sha256Digest& digest) && {
  std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
    return std::tie(a.disk, a.length_class, a.begin_bytes, a.length_bytes, a.seq) <
           std::tie(b.disk, b.length_class, b.begin_bytes, b.length_bytes, b.seq);
  });
  IndexPages pages(info_);
  for (const Item& item : items_)
    pages.add(item.disk, item.length_class,
              {item.begin_bytes, item.length_bytes, item.seq, item.frame_place, item.batch_bytes_and_kind});
  pages.finish();
  IndexHeader header{};
  const Seq last_seq = place_.seq != 0 ? place_.seq : info_.first_seq - 1;
  const IndexTail tail{info_, last_seq, segment_bytes, digest, place_, pages, events_, places_};
  // The sections come first, so where the pages begin is known only when these are.
  std::vector<std::byte> sections = encode_index_sections(tail, sizeof(header), header);
  const std::size_t begin =
      (sizeof(header) + sections.size() + kIndexPageBytes - 1) / kIndexPageBytes * kIndexPageBytes;
  header.pages_offset_bytes = begin;
  sections = encode_index_sections(tail, sizeof(header), header);
  std::vector<std::byte> image(begin);
  std::memcpy(image.data(), &header, sizeof(header));
  std::copy(sections.begin(), sections.end(), image.begin() + sizeof(header));
  const std::vector<std::byte> page_bytes = pages.take_pages();
  image.insert(image.end(), page_bytes.begin(), page_bytes.end());
  return image;
}

namespace {

// Blocks that can't be read leave out what is in them: reading it must fail, so nothing of the index is used.
Status scan_blocks(const File& file, const JournalSegment& segment, SegmentIndexBuilder& builder,
                   ScannedIndex& scanned) {
  std::vector<std::byte> scratch;
  for (std::uint64_t at = segment.run->blocks_offset_bytes; at < segment.run->blocks_end_bytes;) {
    Result<FrameTable> table =
        read_frame_table(file, segment.info, at, segment.run->blocks_end_bytes, scratch, BatchOrder::kAny);
    Status status = table.ok() ? builder.add_block(table->frame, table->batch) : Status(table.error());
    if (!status.ok()) {
      if (status.error().kind() != ErrorKind::kCorrupt)
        return std::move(status).error().with_context("run '" + segment.name + "'");
      scanned.damage =
          Damage{segment.name, at, segment.run->blocks_end_bytes - at, segment.info.first_seq, status.error().message(),
                 false};
      return ok_status();
    }
    at = table->frame.end_offset_bytes();
  }
  return ok_status();
}

}  // namespace

Result<ScannedIndex> scan_segment_index(const JournalSnapshot& snapshot, std::size_t index) {
  const JournalSegment& segment = snapshot.segments()[index];
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot.open_segment(index));
  const WindowFile window(*file);
  SegmentIndexBuilder builder(segment.info);
  SegmentEntryReader reader(window, segment);
  ScannedIndex scanned;
  std::uint64_t end_bytes = segment.info.frames_offset_bytes;
  while (end_bytes < segment.end_bytes) {
    Result<JournalEntry> entry = reader.next();
    Status status = entry.ok() ? builder.add_batch(entry->location.frame, entry->batch) : Status(entry.error());
    if (!status.ok()) {
      if (status.error().kind() != ErrorKind::kCorrupt)
        return std::move(status).error().with_context("segment '" + segment.name + "'");
      scanned.damage = Damage{
          segment.name, end_bytes, segment.end_bytes - end_bytes, reader.expected_seq(), status.error().message(),
          false};
      break;
    }
    end_bytes = entry->location.frame.end_offset_bytes();
  }
  if (segment.is_run() && !scanned.damage) RETURN_IF_ERROR(scan_blocks(*file, segment, builder, scanned));
  const bool sealed = index + 1 < snapshot.segments().size();
  scanned.image = std::move(builder).finish(
      end_bytes, sealed ? snapshot.segments()[index + 1].info.previous_digest : Sha256Digest{});
  return scanned;
}

Result<bool> write_segment_index(FileSystem& file_system, const JournalSnapshot& snapshot, std::size_t index) {
  if (index + 1 >= snapshot.segments().size())
    return Error(ErrorKind::kInvalidArgument, "index segment " + std::to_string(index) + ": it is not sealed");
  const JournalSegment& segment = snapshot.segments()[index];
  if (segment.is_run() || snapshot.open_segment_index(index).ok()) return false;
  ASSIGN_OR_RETURN(const ScannedIndex scanned, scan_segment_index(snapshot, index));
  if (scanned.damage)
    return Error(ErrorKind::kCorrupt, "index segment '" + segment.name + "': " + scanned.damage->reason);
  const std::string journal = snapshot.journal_directory();
  const std::string path = journal + "/" + index_name(segment.info.first_seq);
  const std::string temporary = path + ".new";
  (void)file_system.remove(temporary).ok();  // of an earlier crash
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> file, file_system.open(temporary, FileMode::kCreate));
    Status status = file->write(0, scanned.image);
    if (status.ok()) status = file->sync();
    if (!status.ok()) {
      (void)file_system.remove(temporary).ok();
      return std::move(status).error();
    }
  }
  // A name that is lost with the power is made again: the directory need not be synced.
  RETURN_IF_ERROR(file_system.rename(temporary, path));
  return true;
}

}  // namespace understudy
