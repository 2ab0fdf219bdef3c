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

std::uint8_t length_class_of(std::uint64_t length_bytes) {
  return static_cast<std::uint8_t>(std::bit_width(length_bytes - 1));
}

}  // namespace

SegmentIndexBuilder::SegmentIndexBuilder(const SegmentInfo& info) : info_(info), disks_(info.state.position.disks) {}

void SegmentIndexBuilder::add_extent(Seq seq, std::uint16_t disk, std::uint64_t begin, std::uint64_t length,
                                     const FrameInfo& frame, std::uint32_t kind) {
  Item item;
  item.begin_bytes = begin;
  item.length_bytes = length;
  item.seq = seq;
  item.frame_place = static_cast<std::uint32_t>(frame.offset_bytes / 8);
  item.batch_bytes_and_kind = frame.batch_bytes | kind;
  item.disk = disk;
  item.length_class = length_class_of(length);
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
        add_extent(seq, record.disk, record.offset_bytes, record.length_bytes, frame, kExtentData);
        break;
      case RecordKind::kZero:
        add_extent(seq, record.disk, record.offset_bytes, record.length_bytes, frame, kExtentZeros);
        break;
      case RecordKind::kCopy: {
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

namespace {

// Lays the sections behind one another.
class ImageMaker {
 public:
  ImageMaker() : image_(sizeof(IndexHeader)) {}

  IndexSection add_section(std::span<const std::byte> bytes) {
    IndexSection section{};
    section.offset_bytes = image_.size();
    section.length_bytes = bytes.size();
    section.checksum = xxh3_64(bytes);
    image_.insert(image_.end(), bytes.begin(), bytes.end());
    return section;
  }

  // Room for the pages, on a multiple of their size.
  std::span<std::byte> add_pages(std::uint64_t count, IndexHeader& header) {
    const std::size_t begin = (image_.size() + kIndexPageBytes - 1) / kIndexPageBytes * kIndexPageBytes;
    header.pages_offset_bytes = begin;
    image_.resize(begin + count * kIndexPageBytes);
    return std::span(image_).subspan(begin);
  }

  std::vector<std::byte> finish(IndexHeader& header) && {
    header.header_checksum =
        xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(IndexHeader, header_checksum)));
    std::memcpy(image_.data(), &header, sizeof(header));
    return std::move(image_);
  }

 private:
  std::vector<std::byte> image_;
};

}  // namespace

std::vector<std::byte> SegmentIndexBuilder::finish(std::uint64_t segment_bytes, const Sha256Digest& digest) && {
  std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
    return std::tie(a.disk, a.length_class, a.begin_bytes, a.length_bytes, a.seq) <
           std::tie(b.disk, b.length_class, b.begin_bytes, b.length_bytes, b.seq);
  });
  std::vector<std::byte> directory;
  std::vector<std::byte> fences;
  for (std::size_t i = 0; i < items_.size();) {
    std::size_t end = i + 1;
    while (end < items_.size() && items_[end].disk == items_[i].disk &&
           items_[end].length_class == items_[i].length_class)
      ++end;
    IndexDirectoryEntry entry{};
    entry.disk = items_[i].disk;
    entry.length_class = items_[i].length_class;
    entry.first_entry = i;
    entry.entry_count = end - i;
    append_bytes(directory, entry);
    i = end;
  }
  for (std::size_t i = 0; i < items_.size(); i += kIndexPageEntries)
    append_bytes(fences, IndexFence{items_[i].begin_bytes, items_[i].length_bytes, items_[i].seq});

  IndexHeader header{};
  header.magic = kIndexMagic;
  header.version = kIndexVersion;
  header.header_bytes = static_cast<std::uint16_t>(sizeof(header));
  std::memcpy(header.server, info_.server.bytes.data(), sizeof(header.server));
  std::memcpy(header.store, info_.store.bytes.data(), sizeof(header.store));
  header.first_seq = info_.first_seq;
  header.last_seq = place_.seq != 0 ? place_.seq : info_.first_seq - 1;
  header.segment_bytes = segment_bytes;
  std::memcpy(header.segment_digest, digest.data(), sizeof(header.segment_digest));
  header.entry_count = items_.size();
  header.last_place = stored(place_);
  ImageMaker maker;
  header.directory = maker.add_section(directory);
  header.fences = maker.add_section(fences);
  header.events = maker.add_section(events_);
  header.places = maker.add_section(places_);
  std::span<std::byte> pages = maker.add_pages(fences.size() / sizeof(IndexFence), header);
  for (std::size_t i = 0; i < items_.size(); i += kIndexPageEntries) {
    const std::span<std::byte> page = pages.subspan(i / kIndexPageEntries * kIndexPageBytes, kIndexPageBytes);
    const std::size_t count = std::min(kIndexPageEntries, items_.size() - i);
    for (std::size_t k = 0; k < count; ++k) {
      const Item& item = items_[i + k];
      const IndexEntry entry{item.begin_bytes, item.length_bytes, item.seq, item.frame_place,
                             item.batch_bytes_and_kind};
      std::memcpy(page.data() + sizeof(IndexPageHeader) + k * sizeof(entry), &entry, sizeof(entry));
    }
    IndexPageHeader page_header{};
    page_header.first_seq = info_.first_seq;
    page_header.number = i / kIndexPageEntries;
    std::memcpy(page_header.store, info_.store.bytes.data(), sizeof(page_header.store));
    std::memcpy(page.data(), &page_header, sizeof(page_header));
    page_header.checksum = xxh3_64(page.subspan(sizeof(page_header.checksum)));
    std::memcpy(page.data(), &page_header.checksum, sizeof(page_header.checksum));
  }
  return std::move(maker).finish(header);
}

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
  const bool sealed = index + 1 < snapshot.segments().size();
  scanned.image = std::move(builder).finish(
      end_bytes, sealed ? snapshot.segments()[index + 1].info.previous_digest : Sha256Digest{});
  return scanned;
}

Result<bool> write_segment_index(FileSystem& file_system, const JournalSnapshot& snapshot, std::size_t index) {
  if (index + 1 >= snapshot.segments().size())
    return Error(ErrorKind::kInvalidArgument, "index segment " + std::to_string(index) + ": it is not sealed");
  if (snapshot.open_segment_index(index).ok()) return false;
  const JournalSegment& segment = snapshot.segments()[index];
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
