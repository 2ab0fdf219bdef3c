// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_loader.h"

#include <algorithm>

#include "daemon/base/checksum.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

// Of longer payloads, blocks of this size can be read by themselves once the whole was proved.
constexpr std::size_t kBlocksPayloadBytes = 16 << 10;
constexpr std::size_t kBlockBytes = 4 << 10;

// What a key of the cache is of.
enum class Kept : std::uint64_t { kTable = 0, kBatch = 1, kSums = 2 };

std::uint64_t key_of(Kept kind, std::uint64_t number) { return static_cast<std::uint64_t>(kind) << 62 | number; }
std::uint64_t batch_number(const ViewPiece& piece) {
  return std::uint64_t{piece.segment} << 36 | piece.frame_offset_bytes / 8;
}

Error not_what_was_captured() { return Error(ErrorKind::kCorrupt, "the bytes are not what was captured (checksum)"); }

}  // namespace

Error ViewLoader::damaged(const ViewPiece& piece, const std::string& what) const {
  return Error(ErrorKind::kCorrupt, "segment '" + snapshot_->segments()[piece.segment].name + "' at byte " +
                                        std::to_string(piece.frame_offset_bytes) + ": record " +
                                        std::to_string(piece.seq) + " " + what);
}

Result<std::span<const std::byte>> ViewLoader::load(std::uint16_t disk, const ViewPiece& piece,
                                                    LoadedPointer& holder) const {
  ASSIGN_OR_RETURN(const LoadedPointer table, table_of(piece));
  const BatchReader& batch = table->reader;
  // The index says what the journal says, or one of them is not what it was.
  const std::optional<std::size_t> found = batch.find(piece.seq);
  if (!found) return damaged(piece, "is not in the batch that the index names");
  const std::size_t number = *found;
  const Record& record = batch.records()[number];
  const bool in_base = (record.flags & kRecordInBase) != 0;
  if (record.disk != disk || piece.begin_bytes < record.offset_bytes ||
      piece.end_bytes > record.offset_bytes + record.length_bytes || piece.in_base != in_base ||
      (!in_base && batch.payload_bytes(number) != record.length_bytes))
    return damaged(piece, "is not what the index says");
  const std::uint64_t begin = piece.begin_bytes - record.offset_bytes;
  const std::uint64_t length = piece.end_bytes - piece.begin_bytes;
  if (!in_base && batch.info().codec != Codec::kNone) {
    ASSIGN_OR_RETURN(holder, batch_of(piece));
    return holder->reader.records()[number].payload.subspan(begin, length);
  }
  ASSIGN_OR_RETURN(holder, in_base ? base_payload(piece, record) : plain_payload(piece, *table, number));
  return std::span<const std::byte>(holder->payload).subspan(begin - holder->payload_begin_bytes, length);
}

Result<LoadedPointer> ViewLoader::table_of(const ViewPiece& piece) const {
  const std::uint64_t key = key_of(Kept::kTable, batch_number(piece));
  if (LoadedPointer kept = cache_.find(key)) return kept;
  const JournalSegment& segment = snapshot_->segments()[piece.segment];
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot_->open_segment(piece.segment));
  std::vector<std::byte> scratch;
  Result<FrameTable> table = read_frame_table(*file, segment.info, piece.frame_offset_bytes,
                                              segment.frames_limit_bytes(), scratch, BatchOrder::kAny);
  if (!table.ok())
    return std::move(table).error().with_context("segment '" + segment.name + "' at byte " +
                                                 std::to_string(piece.frame_offset_bytes));
  auto loaded = std::make_shared<Loaded>();
  loaded->payload_offset_bytes = table->frame.batch_offset_bytes() + table->batch.info().table_end_bytes;
  loaded->reader = std::move(table->batch);
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < loaded->reader.records().size(); ++i) {
    loaded->offsets.push_back(static_cast<std::uint32_t>(offset));
    offset += loaded->reader.payload_bytes(i);
  }
  cache_.keep(key, loaded);
  return LoadedPointer(std::move(loaded));
}

// Of a batch with compressed payloads, everything: there is no way to only a part of it.
Result<LoadedPointer> ViewLoader::batch_of(const ViewPiece& piece) const {
  const std::uint64_t key = key_of(Kept::kBatch, batch_number(piece));
  if (LoadedPointer kept = cache_.find(key)) return kept;
  auto loaded = std::make_shared<Loaded>();
  BatchLocation location;
  location.segment = piece.segment;
  location.frame.offset_bytes = piece.frame_offset_bytes;
  location.frame.batch_bytes = piece.batch_bytes;
  ASSIGN_OR_RETURN(loaded->reader,
                   read_batch(*snapshot_, location, loaded->payload, Verify::kRecords, BatchOrder::kAny));
  cache_.keep(key, loaded);
  return LoadedPointer(std::move(loaded));
}

// A payload that lies in a file as it is. The first time all of it is read and proved by the checksum of capture, and
// the checksums of its blocks are kept: from then on a block is read and proved by itself.
Result<LoadedPointer> ViewLoader::payload_in(const File& file, std::uint64_t offset_bytes, const Record& record,
                                             const ViewPiece& piece) const {
  const std::uint64_t key = key_of(Kept::kSums, piece.seq);
  const std::uint64_t begin = piece.begin_bytes - record.offset_bytes;
  const std::uint64_t end = piece.end_bytes - record.offset_bytes;
  auto loaded = std::make_shared<Loaded>();
  const bool by_blocks = record.length_bytes > kBlocksPayloadBytes;
  if (const LoadedPointer sums = by_blocks ? cache_.find(key) : nullptr) {
    const std::uint64_t first = begin / kBlockBytes;
    loaded->payload_begin_bytes = first * kBlockBytes;
    const std::uint64_t wanted_end =
        std::min<std::uint64_t>((end + kBlockBytes - 1) / kBlockBytes * kBlockBytes, record.length_bytes);
    loaded->payload.resize(wanted_end - loaded->payload_begin_bytes);
    ASSIGN_OR_RETURN(const std::size_t got, file.read(offset_bytes + loaded->payload_begin_bytes, loaded->payload));
    std::span<const std::byte> rest(loaded->payload);
    bool good = got == rest.size();
    for (std::uint64_t block = first; good && !rest.empty(); ++block) {
      const std::span<const std::byte> bytes = rest.first(std::min(kBlockBytes, rest.size()));
      good = xxh3_64(bytes) == sums->sums[block];
      rest = rest.subspan(bytes.size());
    }
    if (!good) return not_what_was_captured();
    return LoadedPointer(std::move(loaded));
  }
  loaded->payload.resize(record.length_bytes);
  ASSIGN_OR_RETURN(const std::size_t got, file.read(offset_bytes, loaded->payload));
  if (got != loaded->payload.size() || xxh3_64(loaded->payload) != record.checksum) return not_what_was_captured();
  if (by_blocks) {
    auto sums = std::make_shared<Loaded>();
    std::span<const std::byte> rest(loaded->payload);
    while (!rest.empty()) {
      const std::span<const std::byte> bytes = rest.first(std::min(kBlockBytes, rest.size()));
      sums->sums.push_back(xxh3_64(bytes));
      rest = rest.subspan(bytes.size());
    }
    cache_.keep(key, std::move(sums));
  }
  return LoadedPointer(std::move(loaded));
}

Result<LoadedPointer> ViewLoader::plain_payload(const ViewPiece& piece, const Loaded& table, std::size_t number) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot_->open_segment(piece.segment));
  Result<LoadedPointer> payload =
      payload_in(*file, table.payload_offset_bytes + table.offsets[number], table.reader.records()[number], piece);
  if (!payload.ok())
    return std::move(payload).error().with_context("segment '" + snapshot_->segments()[piece.segment].name +
                                                   "' at byte " + std::to_string(piece.frame_offset_bytes) +
                                                   ": record " + std::to_string(piece.seq));
  return payload;
}

Result<LoadedPointer> ViewLoader::base_payload(const ViewPiece& piece, const Record& record) const {
  const Result<std::shared_ptr<const File>> file = snapshot_->open_base(record.disk);
  Result<LoadedPointer> payload =
      file.ok() ? payload_in(**file, record.offset_bytes, record, piece) : Result<LoadedPointer>(file.error());
  if (!payload.ok())
    return std::move(payload).error().with_context("base image '" + base_image_name(record.disk) + "' at byte " +
                                                   std::to_string(record.offset_bytes));
  return payload;
}

}  // namespace understudy
