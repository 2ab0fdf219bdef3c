// SPDX-License-Identifier: Apache-2.0
// Makes the index of a segment out of its tables (segment_index_format.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/base/result.h"
#include "daemon/record/batch.h"
#include "daemon/store/file_system.h"
#include "daemon/store/segment_index_format.h"
#include "daemon/store/segment_reader.h"
#include "daemon/store/store.h"
#include "daemon/store/stream_place.h"

namespace understudy {

struct JournalSegment;  // journal.h
class JournalSnapshot;  // journal.h

// The sorted entries of an index as they are added: pages as soon as they are full. Memory: fences and one page.
class IndexPages {
 public:
  explicit IndexPages(const SegmentInfo& info) : first_seq_(info.first_seq), store_(info.store) {}

  // In the order of the index: disk, length class, begin, length, seq.
  void add(std::uint16_t disk, std::uint8_t length_class, const IndexEntry& entry);
  void finish();  // the last page

  // Pages made since they were taken.
  std::vector<std::byte> take_pages() { return std::exchange(pages_, {}); }
  std::uint64_t entry_count() const { return entry_count_; }
  std::vector<std::byte> directory() const;
  std::vector<std::byte> fences() const;

 private:
  void end_page();

  Seq first_seq_;
  Uuid store_;
  std::uint64_t entry_count_ = 0;
  std::uint64_t page_count_ = 0;
  std::vector<IndexEntry> page_;
  std::vector<std::byte> pages_;
  std::vector<IndexDirectoryEntry> directory_;
  std::vector<IndexFence> fences_;
};

// Sections of an index laid behind one another from `offset_bytes` on, and the header that names them. `header` has
// pages_offset_bytes; the rest is filled in. Returns the bytes of the sections.
struct IndexTail;
std::vector<std::byte> encode_index_sections(const IndexTail& tail, std::uint64_t offset_bytes, IndexHeader& header);

// Length class of an index entry (segment_index_format.h).
std::uint8_t index_length_class(std::uint64_t length_bytes);

// Takes the batches of one segment, or of a run's stream part, in order. Memory: 40 bytes a record.
class SegmentIndexBuilder {
 public:
  explicit SegmentIndexBuilder(const SegmentInfo& info);

  // `batch` must hold the payloads of GAP, MARK and GEOMETRY.
  Status add_batch(const FrameInfo& frame, const BatchReader& batch);
  // The payloads of a run: `batch` is one of its blocks.
  Status add_block(const FrameInfo& frame, const BatchReader& batch);
  // Instead of finish(), of batches whose extents come from elsewhere: no memory is kept for them.
  void leave_out_extents() { extents_ = false; }
  const std::vector<std::byte>& events() const { return events_; }
  const std::vector<std::byte>& places() const { return places_; }
  const StreamPlace& place() const { return place_; }

  // The whole file. `digest` is the segment's, zeros when it is not sealed.
  std::vector<std::byte> finish(std::uint64_t segment_bytes, const Sha256Digest& digest) &&;

 private:
  struct Item {
    std::uint64_t begin_bytes = 0;
    std::uint64_t length_bytes = 0;
    Seq seq = 0;
    std::uint32_t frame_place = 0;
    std::uint32_t batch_bytes_and_kind = 0;
    std::uint16_t disk = 0;
    std::uint8_t length_class = 0;
  };
  void add_extent(Seq seq, std::uint16_t disk, std::uint64_t begin, std::uint64_t length, const FrameInfo& frame,
                  std::uint32_t kind);
  void add_event(Seq seq, const Record& record);
  Status add_geometry(Seq seq, const Record& record, const FrameInfo& frame);

  SegmentInfo info_;
  bool extents_ = true;
  std::vector<DiskGeometry> disks_;
  StreamPlace place_;  // as if the stream had begun with the segment
  std::vector<Item> items_;
  std::vector<std::byte> events_;
  std::vector<std::byte> places_;
  std::uint64_t batches_since_place_ = ~std::uint64_t{0};
  std::uint64_t records_since_place_ = 0;
};

// What an index is of, and what stands behind its pages.
struct IndexTail {
  const SegmentInfo& info;
  Seq last_seq = 0;
  std::uint64_t segment_bytes = 0;
  Sha256Digest digest{};
  StreamPlace last_place;
  const IndexPages& pages;
  std::span<const std::byte> events;
  std::span<const std::byte> places;
};

// The index of segment `index` of a snapshot as bytes, from its tables; payloads are not read. Tables that can't be
// read end it: `damage` says where, and the index is that of what stands before.
struct ScannedIndex {
  std::vector<std::byte> image;
  std::optional<Damage> damage;
};
Result<ScannedIndex> scan_segment_index(const JournalSnapshot& snapshot, std::size_t index);

// Writes the index file of a sealed segment, unless a good one is there: true = written. kInvalidArgument for the last
// segment, kCorrupt when the segment can't be read to its end. A crash leaves the old file, or none, or the new one.
Result<bool> write_segment_index(FileSystem& file_system, const JournalSnapshot& snapshot, std::size_t index);

}  // namespace understudy
