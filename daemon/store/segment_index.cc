// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/segment_index.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <list>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>

#include "daemon/base/limits.h"

namespace understudy {
namespace {

// Enough for header, directory and fences of a segment of the usual size.
constexpr std::size_t kOpenReadBytes = 64 << 10;

Error corrupt(std::string message) { return Error(ErrorKind::kCorrupt, "segment index: " + std::move(message)); }
std::string number(std::uint64_t value) { return std::to_string(value); }

StreamPlace loaded(const IndexPlace& stored) {
  StreamPlace place;
  place.seq = stored.seq;
  place.time_ns = stored.time_ns;
  place.write_time_ns = stored.write_time_ns;
  place.barrier_seq = stored.barrier_seq;
  place.barrier_write_time_ns = stored.barrier_write_time_ns;
  place.written_since_barrier = (stored.flags & kPlaceWritten) != 0;
  return place;
}

using PagePointer = std::shared_ptr<const std::byte>;

// Pages of all indexes of the process, the least recently used one goes first. Thread-safe.
class PageCache {
 public:
  PagePointer find(std::uint64_t index, std::uint64_t page) {
    Shard& shard = shard_of(page);
    const std::lock_guard lock(shard.mutex);
    const auto it = shard.places.find(Key{index, page});
    if (it == shard.places.end()) return nullptr;
    shard.entries.splice(shard.entries.begin(), shard.entries, it->second);
    return it->second->second;
  }

  void keep(std::uint64_t index, std::uint64_t page, PagePointer value) {
    Shard& shard = shard_of(page);
    const std::lock_guard lock(shard.mutex);
    const Key key{index, page};
    if (shard.places.contains(key)) return;  // another thread was faster
    shard.entries.emplace_front(key, std::move(value));
    shard.places[key] = shard.entries.begin();
    if (shard.entries.size() > kIndexCacheBytesMax / kShards / kIndexPageBytes) {
      shard.places.erase(shard.entries.back().first);
      shard.entries.pop_back();
    }
  }

 private:
  static constexpr std::size_t kShards = 16;
  using Key = std::pair<std::uint64_t, std::uint64_t>;
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return static_cast<std::size_t>((key.first << 40 ^ key.second) * 0x9e3779b97f4a7c15ull);
    }
  };
  using Entries = std::list<std::pair<Key, PagePointer>>;
  struct Shard {
    std::mutex mutex;
    Entries entries;  // newest use first
    std::unordered_map<Key, Entries::iterator, KeyHash> places;
  };
  Shard& shard_of(std::uint64_t page) { return shards_[page % kShards]; }
  Shard shards_[kShards];
};

PageCache& page_cache() {
  static PageCache cache;
  return cache;
}

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

template <typename T>
std::vector<T> structs_of(std::span<const std::byte> bytes) {
  std::vector<T> structs(bytes.size() / sizeof(T));
  if (!structs.empty()) std::memcpy(structs.data(), bytes.data(), structs.size() * sizeof(T));
  return structs;
}

}  // namespace

Result<std::shared_ptr<const SegmentIndex>> SegmentIndex::open(std::shared_ptr<const File> file) {
  std::shared_ptr<SegmentIndex> index(new SegmentIndex);
  index->file_ = std::move(file);
  return open_any(std::move(index));
}

Result<std::shared_ptr<const SegmentIndex>> SegmentIndex::open(std::vector<std::byte> image) {
  std::shared_ptr<SegmentIndex> index(new SegmentIndex);
  index->image_ = std::move(image);
  return open_any(std::move(index));
}

Result<std::shared_ptr<const SegmentIndex>> SegmentIndex::open_any(std::shared_ptr<SegmentIndex> index) {
  index->id_ = next_id();
  RETURN_IF_ERROR(index->read_header());
  return std::shared_ptr<const SegmentIndex>(std::move(index));
}

SegmentIndex::~SegmentIndex() = default;

std::uint64_t SegmentIndex::memory_bytes() const {
  return sizeof(*this) + image_.size() + fences_.size() * sizeof(IndexFence) +
         directory_.size() * sizeof(IndexDirectoryEntry);
}

Status SegmentIndex::read_at(std::uint64_t offset_bytes, std::span<std::byte> out) const {
  if (file_ == nullptr) {
    if (offset_bytes > image_.size() || out.size() > image_.size() - offset_bytes) return corrupt("cut off");
    if (!out.empty()) std::memcpy(out.data(), image_.data() + offset_bytes, out.size());
    return ok_status();
  }
  ASSIGN_OR_RETURN(const std::size_t got, file_->read(offset_bytes, out));
  if (got != out.size()) return corrupt("cut off at byte " + number(offset_bytes + got));
  return ok_status();
}

Result<std::vector<std::byte>> SegmentIndex::read_section(const IndexSection& section) const {
  std::vector<std::byte> bytes(section.length_bytes);
  RETURN_IF_ERROR(read_at(section.offset_bytes, bytes));
  if (xxh3_64(bytes) != section.checksum)
    return corrupt("checksum of the section at byte " + number(section.offset_bytes) + " does not match");
  return bytes;
}

Status SegmentIndex::check_sections(const IndexHeader& header, std::uint64_t file_bytes) {
  const std::uint64_t pages = (entry_count_ + kIndexPageEntries - 1) / kIndexPageEntries;
  const auto fits = [&](const IndexSection& section, std::size_t unit_bytes) {
    return section.offset_bytes <= file_bytes && section.length_bytes <= file_bytes - section.offset_bytes &&
           section.length_bytes % unit_bytes == 0;
  };
  if (!fits(header.directory, sizeof(IndexDirectoryEntry)) || !fits(header.fences, sizeof(IndexFence)) ||
      !fits(header.events, 8) || !fits(header.places, sizeof(IndexPlaceEntry)))
    return corrupt("a section is not within the file");
  if (entry_count_ > file_bytes || header.fences.length_bytes != pages * sizeof(IndexFence) ||
      header.directory.length_bytes > std::uint64_t{kDisksMax} * 61 * sizeof(IndexDirectoryEntry) ||
      pages_offset_bytes_ > file_bytes || pages > (file_bytes - pages_offset_bytes_) / kIndexPageBytes)
    return corrupt("impossible number of entries");
  if (first_seq_ == 0 || last_seq_ + 1 < first_seq_) return corrupt("impossible range of records");
  return ok_status();
}

Status SegmentIndex::read_header() {
  std::uint64_t file_bytes = image_.size();
  if (file_ != nullptr) {
    ASSIGN_OR_RETURN(file_bytes, file_->size());
  }
  IndexHeader header;
  if (file_bytes < sizeof(header)) return corrupt("cut off in the header");
  std::vector<std::byte> front(std::min<std::uint64_t>(kOpenReadBytes, file_bytes));
  RETURN_IF_ERROR(read_at(0, front));
  std::memcpy(&header, front.data(), sizeof(header));
  if (header.magic != kIndexMagic) return corrupt("wrong magic");
  if (xxh3_64(std::span(front).first(offsetof(IndexHeader, header_checksum))) != header.header_checksum)
    return corrupt("header checksum does not match");
  if (header.version != kIndexVersion || (header.incompatible_flags & ~kIndexIncompatibleKnown) != 0 ||
      header.header_bytes != sizeof(header))
    return Error(ErrorKind::kUnsupported, "segment index: it is of a newer format");
  std::memcpy(server_.bytes.data(), header.server, sizeof(header.server));
  std::memcpy(store_.bytes.data(), header.store, sizeof(header.store));
  first_seq_ = header.first_seq;
  last_seq_ = header.last_seq;
  segment_bytes_ = header.segment_bytes;
  std::memcpy(segment_digest_.data(), header.segment_digest, sizeof(header.segment_digest));
  last_place_ = loaded(header.last_place);
  entry_count_ = header.entry_count;
  pages_offset_bytes_ = header.pages_offset_bytes;
  events_ = header.events;
  places_ = header.places;
  RETURN_IF_ERROR(check_sections(header, file_bytes));
  return read_lookup(header.directory, header.fences);
}

Status SegmentIndex::read_lookup(const IndexSection& directory, const IndexSection& fences) {
  ASSIGN_OR_RETURN(const std::vector<std::byte> directory_bytes, read_section(directory));
  directory_ = structs_of<IndexDirectoryEntry>(directory_bytes);
  ASSIGN_OR_RETURN(const std::vector<std::byte> fence_bytes, read_section(fences));
  fences_ = structs_of<IndexFence>(fence_bytes);
  std::uint64_t next = 0;
  for (const IndexDirectoryEntry& range : directory_) {
    if (range.disk >= kDisksMax || range.length_class > 60 || range.first_entry != next ||
        range.entry_count > entry_count_ - next)
      return corrupt("impossible directory");
    next += range.entry_count;
  }
  return next == entry_count_ ? ok_status() : Status(corrupt("the directory leaves out entries"));
}

Result<std::vector<IndexedEvent>> SegmentIndex::events() const {
  ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, read_section(events_));
  std::vector<IndexedEvent> events;
  std::span<const std::byte> rest(bytes);
  while (!rest.empty()) {
    IndexEvent stored;
    if (rest.size() < sizeof(stored)) return corrupt("an event is cut off");
    std::memcpy(&stored, rest.data(), sizeof(stored));
    rest = rest.subspan(sizeof(stored));
    if (stored.payload_bytes > kRecordPayloadBytesMax || stored.payload_bytes > rest.size() ||
        stored.kind > kRecordKindMax)
      return corrupt("impossible event");
    IndexedEvent event;
    event.seq = stored.seq;
    event.time_ns = stored.time_ns;
    event.kind = static_cast<RecordKind>(stored.kind);
    event.before = loaded(stored.before);
    const std::span<const std::byte> payload = rest.first(stored.payload_bytes);
    event.payload.assign(payload.begin(), payload.end());
    rest = rest.subspan(std::min<std::size_t>(rest.size(), (payload.size() + 7) / 8 * 8));
    events.push_back(std::move(event));
  }
  return events;
}

Result<std::vector<IndexedPlace>> SegmentIndex::places() const {
  ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, read_section(places_));
  std::vector<IndexedPlace> places;
  for (const IndexPlaceEntry& entry : structs_of<IndexPlaceEntry>(bytes))
    places.push_back({loaded(entry.before), entry.frame_offset_bytes});
  return places;
}

Result<PagePointer> SegmentIndex::page(std::uint64_t page, bool keep) const {
  const std::uint64_t offset = pages_offset_bytes_ + page * kIndexPageBytes;
  if (file_ == nullptr) return PagePointer(PagePointer(), image_.data() + offset);
  if (PagePointer cached = page_cache().find(id_, page)) return cached;
  std::shared_ptr<std::byte> bytes(new std::byte[kIndexPageBytes], std::default_delete<std::byte[]>());
  const std::span<std::byte> span(bytes.get(), kIndexPageBytes);
  RETURN_IF_ERROR(read_at(offset, span));
  IndexPageHeader header;
  std::memcpy(&header, span.data(), sizeof(header));
  if (xxh3_64(span.subspan(sizeof(header.checksum))) != header.checksum)
    return corrupt("checksum of page " + number(page) + " does not match");
  if (header.number != page || header.first_seq != first_seq_ ||
      std::memcmp(header.store, store_.bytes.data(), sizeof(header.store)) != 0)
    return corrupt("page " + number(page) + " is another one");
  if (keep) page_cache().keep(id_, page, bytes);
  return PagePointer(std::move(bytes));
}

namespace {

Result<IndexedExtent> extent_of(const IndexEntry& entry) {
  if (entry.length_bytes == 0 || entry.begin_bytes > kDiskBytesMax ||
      entry.length_bytes > kDiskBytesMax - entry.begin_bytes)
    return corrupt("impossible extent");
  const std::uint32_t kind = entry.batch_bytes_and_kind & kExtentKindMask;
  if (kind > kExtentBase) return corrupt("unknown kind of extent");
  if ((entry.batch_bytes_and_kind & ~kExtentKindMask) > kBatchEncodedBytesMax) return corrupt("impossible batch");
  return IndexedExtent{entry.begin_bytes,
                       entry.begin_bytes + entry.length_bytes,
                       entry.seq,
                       std::uint64_t{entry.frame_place} * 8,
                       entry.batch_bytes_and_kind & ~kExtentKindMask,
                       static_cast<ExtentKind>(kind)};
}

}  // namespace

Result<std::optional<SegmentIndexScan::Entry>> SegmentIndexScan::next() {
  const std::vector<IndexDirectoryEntry>& directory = index_.directory_;
  while (range_ < directory.size() && next_ >= directory[range_].first_entry + directory[range_].entry_count) ++range_;
  if (range_ == directory.size()) return std::optional<Entry>();
  const std::uint64_t number = next_ / kIndexPageEntries;
  if (number != page_number_) {
    ASSIGN_OR_RETURN(page_, index_.page(number, false));
    page_number_ = number;
  }
  IndexEntry stored;
  std::memcpy(&stored, page_.get() + sizeof(IndexPageHeader) + next_ % kIndexPageEntries * sizeof(stored),
              sizeof(stored));
  ++next_;
  Entry entry;
  entry.disk = directory[range_].disk;
  entry.length_class = directory[range_].length_class;
  ASSIGN_OR_RETURN(entry.extent, extent_of(stored));
  return std::optional<Entry>(entry);
}

// Reads entries by number; keeps the page of the last one.
class SegmentIndex::Cursor {
 public:
  explicit Cursor(const SegmentIndex& index) : index_(index) {}

  Status read(std::uint64_t entry, IndexEntry& out) {
    const std::uint64_t page = entry / kIndexPageEntries;
    if (bytes_ == nullptr || page != page_) {
      ASSIGN_OR_RETURN(bytes_, index_.page(page));
      page_ = page;
    }
    std::memcpy(&out, bytes_.get() + sizeof(IndexPageHeader) + entry % kIndexPageEntries * sizeof(out), sizeof(out));
    return ok_status();
  }

  // The first entry in [from, end) that is not before (begin, length, seq).
  Result<std::uint64_t> lower_bound(std::uint64_t from, std::uint64_t end, std::uint64_t begin, std::uint64_t length,
                                    Seq seq) {
    const auto before = [&](const auto& key) {
      return std::tuple<std::uint64_t, std::uint64_t, Seq>(key.begin_bytes, key.length_bytes, key.seq) <
             std::tuple(begin, length, seq);
    };
    // Pages that begin within the range: the wanted entry is in the one before the first that is not before the key.
    std::uint64_t low = (from + kIndexPageEntries - 1) / kIndexPageEntries;
    std::uint64_t high = (end + kIndexPageEntries - 1) / kIndexPageEntries;
    if (low > high) low = high;
    while (low < high) {
      const std::uint64_t middle = low + (high - low) / 2;
      if (before(index_.fences_[middle]))
        low = middle + 1;
      else
        high = middle;
    }
    std::uint64_t first = low == 0 ? from : std::max(from, (low - 1) * kIndexPageEntries);
    std::uint64_t last = std::min(end, low * kIndexPageEntries);
    last = std::max(first, last);
    while (first < last) {
      const std::uint64_t middle = first + (last - first) / 2;
      IndexEntry entry;
      RETURN_IF_ERROR(read(middle, entry));
      if (before(entry))
        first = middle + 1;
      else
        last = middle;
    }
    return first;
  }

 private:
  const SegmentIndex& index_;
  PagePointer bytes_;
  std::uint64_t page_ = 0;
};

Status SegmentIndex::collect(std::uint16_t disk, std::uint64_t begin_bytes, std::uint64_t end_bytes, Seq seq_max,
                             std::vector<IndexedExtent>& out) const {
  for (const IndexDirectoryEntry& range : directory_)
    if (range.disk == disk) RETURN_IF_ERROR(collect_range(range, begin_bytes, end_bytes, seq_max, out));
  return ok_status();
}

Status SegmentIndex::collect_range(const IndexDirectoryEntry& range, std::uint64_t begin_bytes, std::uint64_t end_bytes,
                                   Seq seq_max, std::vector<IndexedExtent>& out) const {
  const std::uint64_t longest = std::uint64_t{1} << range.length_class;
  const std::uint64_t end = range.first_entry + range.entry_count;
  Cursor cursor(*this);
  ASSIGN_OR_RETURN(std::uint64_t at, cursor.lower_bound(range.first_entry, end,
                                                        begin_bytes >= longest ? begin_bytes - longest + 1 : 0, 0, 0));
  while (at < end) {
    IndexEntry entry;
    RETURN_IF_ERROR(cursor.read(at, entry));
    if (entry.begin_bytes >= end_bytes) break;
    // Of all versions of one extent only the newest one counts.
    const std::uint64_t group = at++;
    IndexEntry next;
    if (at < end) RETURN_IF_ERROR(cursor.read(at, next));
    if (at < end && next.begin_bytes == entry.begin_bytes && next.length_bytes == entry.length_bytes) {
      ASSIGN_OR_RETURN(at, cursor.lower_bound(at, end, entry.begin_bytes, entry.length_bytes, ~Seq{0}));
      std::uint64_t behind = at;
      if (seq_max < last_seq_) {
        ASSIGN_OR_RETURN(behind, cursor.lower_bound(group, at, entry.begin_bytes, entry.length_bytes, seq_max + 1));
      }
      if (behind == group) continue;
      RETURN_IF_ERROR(cursor.read(behind - 1, entry));
    }
    if (entry.seq > seq_max) continue;
    ASSIGN_OR_RETURN(const IndexedExtent extent, extent_of(entry));
    if (extent.end_bytes > begin_bytes) out.push_back(extent);
  }
  return ok_status();
}

}  // namespace understudy
