// SPDX-License-Identifier: Apache-2.0
// The index of one segment: what its records did to a stretch of a disk up to a seq, and what happened in it besides
// (segment_index_format.h). Read piece by piece; each piece is checked against its checksum when it is read, and none
// of it is trusted. Immutable, thread-safe.
//
// Memory: the fences, 24 bytes for 126 records; pages go through a cache that all indexes of the process share
// (kIndexCacheBytesMax).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/file_system.h"
#include "daemon/store/segment_index_format.h"
#include "daemon/store/stream_place.h"

namespace understudy {

enum class ExtentKind : std::uint8_t { kData = kExtentData, kZeros = kExtentZeros, kBase = kExtentBase };

// What a record did.
struct IndexedExtent {
  std::uint64_t begin_bytes = 0;
  std::uint64_t end_bytes = 0;  // > begin
  Seq seq = 0;
  std::uint64_t frame_offset_bytes = 0;
  std::uint32_t batch_bytes = 0;
  ExtentKind kind = ExtentKind::kData;
};

// A GAP, HEAL, MARK or GEOMETRY. Places here are as if the stream had begun with the segment (StreamPlace::then()).
struct IndexedEvent {
  Seq seq = 0;
  std::uint64_t time_ns = 0;
  RecordKind kind = RecordKind::kHeal;
  StreamPlace before;
  std::vector<std::byte> payload;
};

struct IndexedPlace {
  StreamPlace before;
  std::uint64_t frame_offset_bytes = 0;
};

class SegmentIndex;

// All entries of an index in its order: disk, length class, begin, length, seq. Its pages do not go through the cache.
// The index must outlive it. One thread.
class SegmentIndexScan {
 public:
  explicit SegmentIndexScan(const SegmentIndex& index) : index_(index) {}

  struct Entry {
    std::uint16_t disk = 0;
    std::uint8_t length_class = 0;
    IndexedExtent extent;
  };
  // nullopt = the end. kCorrupt for pages that are damaged or out of order.
  Result<std::optional<Entry>> next();

 private:
  const SegmentIndex& index_;
  std::shared_ptr<const std::byte> page_;
  std::uint64_t page_number_ = ~std::uint64_t{0};
  std::size_t range_ = 0;   // in the directory
  std::uint64_t next_ = 0;  // number of the entry
};

class SegmentIndex {
 public:
  // kCorrupt when it is damaged or impossible, kUnsupported for a newer format.
  static Result<std::shared_ptr<const SegmentIndex>> open(std::shared_ptr<const File> file);
  static Result<std::shared_ptr<const SegmentIndex>> open(std::vector<std::byte> image);
  ~SegmentIndex();

  // What it is an index of.
  const Uuid& server() const { return server_; }
  const Uuid& store() const { return store_; }
  Seq first_seq() const { return first_seq_; }
  std::uint64_t entry_count() const { return entry_count_; }
  Seq last_seq() const { return last_seq_; }
  std::uint64_t segment_bytes() const { return segment_bytes_; }
  const Sha256Digest& segment_digest() const { return segment_digest_; }
  bool in_memory() const { return file_ == nullptr; }
  std::uint64_t memory_bytes() const;

  // After the last record, as if the stream had begun with the segment.
  const StreamPlace& last_place() const { return last_place_; }
  Result<std::vector<IndexedEvent>> events() const;
  // In order; the first is that of the first batch.
  Result<std::vector<IndexedPlace>> places() const;

  // Adds to `out`, in no order, the extents up to `seq_max` that overlap [begin, end), leaving out those that a newer
  // one with the same extent covers.
  Status collect(std::uint16_t disk, std::uint64_t begin_bytes, std::uint64_t end_bytes, Seq seq_max,
                 std::vector<IndexedExtent>& out) const;

 private:
  friend class SegmentIndexScan;
  class Cursor;
  SegmentIndex() = default;
  static Result<std::shared_ptr<const SegmentIndex>> open_any(std::shared_ptr<SegmentIndex> index);
  Status read_header();
  Status read_lookup(const IndexSection& directory, const IndexSection& fences);
  Status check_sections(const IndexHeader& header, std::uint64_t file_bytes);
  Status read_at(std::uint64_t offset_bytes, std::span<std::byte> out) const;
  Result<std::vector<std::byte>> read_section(const IndexSection& section) const;
  Result<std::shared_ptr<const std::byte>> page(std::uint64_t number, bool keep = true) const;
  Status collect_range(const IndexDirectoryEntry& range, std::uint64_t begin_bytes, std::uint64_t end_bytes,
                       Seq seq_max, std::vector<IndexedExtent>& out) const;

  std::shared_ptr<const File> file_;  // null = image_
  std::vector<std::byte> image_;
  std::uint64_t id_ = 0;  // in the page cache
  Uuid server_;
  Uuid store_;
  Seq first_seq_ = 0;
  Seq last_seq_ = 0;
  std::uint64_t segment_bytes_ = 0;
  Sha256Digest segment_digest_{};
  StreamPlace last_place_;
  std::uint64_t entry_count_ = 0;
  std::uint64_t pages_offset_bytes_ = 0;
  IndexSection events_;
  IndexSection places_;
  std::vector<IndexDirectoryEntry> directory_;
  std::vector<IndexFence> fences_;
};

}  // namespace understudy
