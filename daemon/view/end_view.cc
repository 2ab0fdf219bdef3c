// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/end_view.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

constexpr std::uint32_t kInBase = ~std::uint32_t{0};

Error not_where_it_was(Seq seq) {
  return Error(ErrorKind::kCorrupt, "the payload of record " + std::to_string(seq) + " is not where the index says");
}

}  // namespace

bool EndView::continues(const JournalSnapshot& snapshot) const {
  if (seq_ == 0 || !started_) return true;
  const std::vector<JournalSegment>& segments = snapshot.segments();
  return !segments.empty() && segments.front().info.first_seq == first_seq_ && snapshot.position().seq >= seq_;
}

void EndView::begin_at_start() {
  if (started_ || snapshot_->segments().empty()) return;
  const StreamPosition& start = snapshot_->segments().front().info.state.position;
  seq_ = start.seq;
  first_seq_ = start.seq + 1;
  disks_ = start.disks;
  started_ = true;
}

void EndView::follow(std::shared_ptr<const JournalSnapshot> snapshot) {
  snapshot_ = std::move(snapshot);
  base_index_.reset();  // what is kept was read at an earlier time
  begin_at_start();
  reader_.reset();
  due_ = started_;
}

Result<JournalReader> EndView::reader_behind_last() const {
  if (!last_) return JournalReader(snapshot_);
  BatchLocation location;
  location.segment = static_cast<std::uint32_t>(snapshot_->segment_of(last_->first_seq));
  location.frame = *last_;
  if (!snapshot_->segments()[location.segment].is_run()) return JournalReader(snapshot_, location);
  return JournalReader::from_seq(snapshot_, seq_ + 1);
}

Result<bool> EndView::go_on(std::size_t batches_max) {
  if (due_ && seq_ < snapshot_->position().seq) {
    ASSIGN_OR_RETURN(JournalReader reader, reader_behind_last());
    reader_.emplace(std::move(reader));
  }
  due_ = false;
  for (std::size_t i = 0; reader_ && i < batches_max; ++i) {
    ASSIGN_OR_RETURN(const std::unique_ptr<JournalReader::Entry> entry, reader_->next());
    if (!entry) {
      reader_.reset();
      break;
    }
    if (entry->batch.info().first_seq <= seq_) continue;  // taken in before
    RETURN_IF_ERROR(add(*entry));
    last_ = entry->location.frame;
    seq_ = entry->batch.info().last_seq();
  }
  return !reader_;
}

Status EndView::advance(std::shared_ptr<const JournalSnapshot> snapshot) {
  follow(std::move(snapshot));
  while (true) {
    ASSIGN_OR_RETURN(const bool done, go_on(1024));
    if (done) return ok_status();
  }
}

std::uint64_t EndView::index_bytes() const {
  constexpr std::uint64_t kPieceBytes = 80;  // a node of the map
  std::uint64_t bytes = batches_.capacity() * sizeof(FrameInfo) + base_records_.capacity() * sizeof(BaseRecord);
  for (const auto& [disk, pieces] : pieces_) bytes += pieces.size() * kPieceBytes;
  return bytes;
}

Status EndView::add(const JournalReader::Entry& entry) {
  const auto batch = static_cast<std::uint32_t>(batches_.size());
  bool named = false;
  for (std::uint32_t i = 0; i < entry.batch.records().size(); ++i) {
    const Record& record = entry.batch.records()[i];
    const std::uint64_t end = record.offset_bytes + record.length_bytes;
    const bool zeros = record.kind == RecordKind::kZero || (record.flags & kRecordZeros) != 0;
    if (record.kind == RecordKind::kGeometry) RETURN_IF_ERROR(set_geometry(record));
    if (record.kind != RecordKind::kWrite && record.kind != RecordKind::kZero && record.kind != RecordKind::kCopy)
      continue;
    if (record.length_bytes == 0) continue;
    clear(record.disk, record.offset_bytes, end);
    if (zeros) continue;
    Pieces& pieces = pieces_[record.disk];
    if ((record.flags & kRecordInBase) == 0) {
      pieces[record.offset_bytes] = {end, batch, i};
      named = true;
      continue;
    }
    pieces[record.offset_bytes] = {end, kInBase, static_cast<std::uint32_t>(base_records_.size())};
    base_records_.push_back({record.offset_bytes, record.length_bytes, record.checksum});
  }
  if (named) batches_.push_back(entry.location.frame);
  return ok_status();
}

void EndView::clear(std::uint16_t disk, std::uint64_t begin_bytes, std::uint64_t end_bytes) {
  Pieces& pieces = pieces_[disk];
  auto piece = pieces.upper_bound(begin_bytes);
  if (piece != pieces.begin() && std::prev(piece)->second.end_bytes > begin_bytes) --piece;
  while (piece != pieces.end() && piece->first < end_bytes) {
    const std::uint64_t begin = piece->first;
    const Piece old = piece->second;
    piece = pieces.erase(piece);
    if (begin < begin_bytes) pieces[begin] = {begin_bytes, old.batch, old.record};
    if (old.end_bytes > end_bytes) pieces[end_bytes] = old;
  }
}

Status EndView::set_geometry(const Record& record) {
  ASSIGN_OR_RETURN(std::vector<DiskGeometry> disks, decode_geometry(record.payload));
  for (const DiskGeometry& old : disks_) {
    const auto now = std::find_if(disks.begin(), disks.end(), [&](const auto& disk) { return disk.disk == old.disk; });
    if (now == disks.end() || now->id != old.id)
      pieces_.erase(old.disk);
    else if (now->size_bytes < old.size_bytes)
      clear(old.disk, now->size_bytes, kDiskBytesMax);
  }
  disks_ = std::move(disks);
  return ok_status();
}

std::optional<std::uint64_t> EndView::disk_bytes(std::uint16_t disk) const {
  for (const DiskGeometry& geometry : disks_)
    if (geometry.disk == disk) return geometry.size_bytes;
  return std::nullopt;
}

bool EndView::known_zeros(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  const auto pieces = pieces_.find(disk);
  if (pieces == pieces_.end()) return true;
  const auto next = pieces->second.lower_bound(offset_bytes + length_bytes);
  return next == pieces->second.begin() || std::prev(next)->second.end_bytes <= offset_bytes;
}

Result<std::span<const std::byte>> EndView::read(std::uint16_t disk, std::uint64_t offset_bytes,
                                                 std::span<std::byte> room) const {
  static const Pieces kNoPieces;
  const auto of_disk = pieces_.find(disk);
  const Pieces& pieces = of_disk == pieces_.end() ? kNoPieces : of_disk->second;
  const std::uint64_t end = offset_bytes + room.size();
  auto piece = pieces.upper_bound(offset_bytes);
  if (piece != pieces.begin()) --piece;
  std::uint64_t done = offset_bytes;  // in room
  for (; piece != pieces.end() && piece->first < end; ++piece) {
    const std::uint64_t from = std::max(piece->first, offset_bytes);
    const std::uint64_t to = std::min(piece->second.end_bytes, end);
    if (from >= to) continue;
    ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, read_piece(disk, from, piece->second, to - from));
    if (bytes.size() == room.size()) return bytes;
    std::memset(room.data() + (done - offset_bytes), 0, from - done);
    std::memcpy(room.data() + (from - offset_bytes), bytes.data(), bytes.size());
    done = to;
  }
  std::memset(room.data() + (done - offset_bytes), 0, end - done);
  return std::span<const std::byte>(room);
}

Result<std::span<const std::byte>> EndView::read_piece(std::uint16_t disk, std::uint64_t offset_bytes,
                                                       const Piece& piece, std::uint64_t length_bytes) const {
  if (piece.batch == kInBase) {
    RETURN_IF_ERROR(load_base(disk, piece.record));
    return std::span<const std::byte>(base_).subspan(offset_bytes - base_records_[piece.record].offset_bytes,
                                                     length_bytes);
  }
  const Seq seq = batches_[piece.batch].first_seq + piece.record;
  ASSIGN_OR_RETURN(const std::shared_ptr<const LoadedBatch> batch, load(piece.batch, seq, disk, offset_bytes));
  const std::optional<std::size_t> number = batch->reader.find(seq);
  if (!number) return not_where_it_was(seq);
  const Record& record = batch->reader.records()[*number];
  if (record.disk != disk || offset_bytes < record.offset_bytes ||
      offset_bytes + length_bytes > record.offset_bytes + record.payload.size())
    return not_where_it_was(seq);
  return record.payload.subspan(offset_bytes - record.offset_bytes, length_bytes);
}

// Into base_; pieces of one record come one after another.
Status EndView::load_base(std::uint16_t disk, std::uint32_t index) const {
  if (base_index_ == index) return ok_status();
  base_index_.reset();
  const BaseRecord& record = base_records_[index];
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot_->open_base(disk));
  base_.resize(record.length_bytes);
  ASSIGN_OR_RETURN(const std::size_t got, file->read(record.offset_bytes, base_));
  if (got != base_.size() || xxh3_64(base_) != record.checksum)
    return Error(ErrorKind::kCorrupt,
                 "base image '" + base_image_name(disk) + "' at byte " + std::to_string(record.offset_bytes) + ", " +
                     std::to_string(record.length_bytes) + " bytes: not what was copied (checksum)");
  base_index_ = index;
  return ok_status();
}

// The batch with the payload of record `seq`, which was in batches_[batch] of the stream; the cache keeps it.
Result<std::shared_ptr<const EndView::LoadedBatch>> EndView::load(std::uint32_t batch, Seq seq, std::uint16_t disk,
                                                                  std::uint64_t offset_bytes) const {
  const auto bytes_of = [](const LoadedBatch& loaded) {
    return loaded.stored.size() + loaded.reader.info().raw_payload_bytes;
  };
  const bool in_run = snapshot_->segments()[snapshot_->segment_of(seq)].is_run();
  const auto known = std::find_if(cache_.begin(), cache_.end(), [&](const auto& one) {
    return one->reader.info().block_order ? in_run && one->reader.find(seq).has_value() : one->batch == batch;
  });
  if (known != cache_.end()) {
    cache_.splice(cache_.begin(), cache_, known);
    return cache_.front();
  }
  auto loaded = std::make_shared<LoadedBatch>();
  loaded->batch = batch;
  ASSIGN_OR_RETURN(loaded->reader,
                   read_payload_batch(*snapshot_, seq, disk, offset_bytes, batches_[batch], loaded->stored));
  cache_bytes_ += bytes_of(*loaded);
  cache_.push_front(std::move(loaded));
  while (cache_bytes_ > kEndViewCacheBytesMax && cache_.size() > 1) {
    cache_bytes_ -= bytes_of(*cache_.back());
    cache_.pop_back();
  }
  return cache_.front();
}

}  // namespace understudy
