// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_loader.h"

#include "daemon/base/checksum.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

// Smaller payloads that lie in a file as they are, are read again rather than kept: the page cache has them.
constexpr std::size_t kKeepPayloadBytes = 64 << 10;

// What a key of the cache is of.
enum class Kept : std::uint64_t { kTable = 0, kBatch = 1, kPayload = 2, kBase = 3 };

std::uint64_t key_of(Kept kind, std::uint64_t number) { return static_cast<std::uint64_t>(kind) << 62 | number; }
std::uint64_t batch_number(const ViewPiece& piece) {
  return std::uint64_t{piece.segment} << 36 | piece.frame_offset_bytes / 8;
}

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
  const std::uint64_t number = piece.seq - batch.info().first_seq;
  // The index says what the journal says, or one of them is not what it was.
  if (piece.seq < batch.info().first_seq || number >= batch.records().size())
    return damaged(piece, "is not in the batch that the index names");
  const Record& record = batch.records()[number];
  const bool in_base = (record.flags & kRecordInBase) != 0;
  if (record.disk != disk || piece.begin_bytes < record.offset_bytes ||
      piece.end_bytes > record.offset_bytes + record.length_bytes || piece.in_base != in_base ||
      (!in_base && batch.payload_bytes(number) != record.length_bytes))
    return damaged(piece, "is not what the index says");
  std::span<const std::byte> payload;
  if (in_base) {
    ASSIGN_OR_RETURN(holder, base_payload(record, piece.seq));
    payload = holder->payload;
  } else if (batch.info().codec == Codec::kNone) {
    ASSIGN_OR_RETURN(holder, plain_payload(piece, *table, number));
    payload = holder->payload;
  } else {
    ASSIGN_OR_RETURN(holder, batch_of(piece));
    payload = holder->reader.records()[number].payload;
  }
  return payload.subspan(piece.begin_bytes - record.offset_bytes, piece.end_bytes - piece.begin_bytes);
}

Result<LoadedPointer> ViewLoader::table_of(const ViewPiece& piece) const {
  const std::uint64_t key = key_of(Kept::kTable, batch_number(piece));
  if (LoadedPointer kept = cache_.find(key)) return kept;
  const JournalSegment& segment = snapshot_->segments()[piece.segment];
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot_->open_segment(piece.segment));
  std::vector<std::byte> scratch;
  Result<FrameTable> table =
      read_frame_table(*file, segment.info, piece.frame_offset_bytes, segment.end_bytes, scratch);
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
  ASSIGN_OR_RETURN(loaded->reader, read_batch(*snapshot_, location, loaded->payload, Verify::kRecords));
  cache_.keep(key, loaded);
  return LoadedPointer(std::move(loaded));
}

// Just the payload of one record, where payloads are stored as they are.
Result<LoadedPointer> ViewLoader::plain_payload(const ViewPiece& piece, const Loaded& table, std::size_t number) const {
  const std::uint64_t key = key_of(Kept::kPayload, piece.seq);
  if (LoadedPointer kept = cache_.find(key)) return kept;
  const Record& record = table.reader.records()[number];
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot_->open_segment(piece.segment));
  auto loaded = std::make_shared<Loaded>();
  loaded->payload.resize(record.length_bytes);
  ASSIGN_OR_RETURN(const std::size_t got,
                   file->read(table.payload_offset_bytes + table.offsets[number], loaded->payload));
  if (got != loaded->payload.size() || xxh3_64(loaded->payload) != record.checksum)
    return damaged(piece, "is not what was captured (checksum)");
  if (loaded->payload.size() >= kKeepPayloadBytes) cache_.keep(key, loaded);
  return LoadedPointer(std::move(loaded));
}

Result<LoadedPointer> ViewLoader::base_payload(const Record& record, Seq seq) const {
  const std::uint64_t key = key_of(Kept::kBase, seq);
  if (LoadedPointer kept = cache_.find(key)) return kept;
  const std::string where =
      "base image '" + base_image_name(record.disk) + "' at byte " + std::to_string(record.offset_bytes);
  Result<std::shared_ptr<const File>> file = snapshot_->open_base(record.disk);
  if (!file.ok()) return std::move(file).error().with_context(where);
  auto loaded = std::make_shared<Loaded>();
  loaded->payload.resize(record.length_bytes);
  ASSIGN_OR_RETURN(const std::size_t got, (*file)->read(record.offset_bytes, loaded->payload));
  if (got != loaded->payload.size() || xxh3_64(loaded->payload) != record.checksum)
    return Error(ErrorKind::kCorrupt, where + ": the bytes are not what was copied (checksum)");
  cache_.keep(key, loaded);
  return LoadedPointer(std::move(loaded));
}

}  // namespace understudy
