// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_loader.h"

#include <algorithm>
#include <cstring>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

// Of longer payloads, blocks of this size can be read by themselves once the whole was proved.
constexpr std::size_t kBlocksPayloadBytes = 16 << 10;
constexpr std::size_t kBlockBytes = 4 << 10;
// Stretches of a base image that lie closer together are read together with what is between them.
constexpr std::uint64_t kBaseGapBytes = 64 << 10;

// Memory of a thread for a batch as it is stored; a longer one is not kept.
constexpr std::size_t kStoredBytesKept = 2 << 20;

// What a key of the cache is of.
enum class Kind : std::uint64_t { kTable = 0, kBatch = 1, kSums = 2 };

std::uint64_t key_of(Kind kind, std::uint64_t number) { return static_cast<std::uint64_t>(kind) << 62 | number; }
std::uint64_t batch_number(const ViewPiece& piece) {
  return std::uint64_t{piece.segment} << 36 | piece.frame_offset_bytes / 8;
}

Error not_what_was_captured() { return Error(ErrorKind::kCorrupt, "the bytes are not what was captured (checksum)"); }

}  // namespace

// A record, and where its payload lies in the payloads of its batch. No length: it has none, nor one in a base image.
struct ViewLoader::PlacedRecord {
  std::uint64_t offset_bytes = 0;  // of the disk
  std::uint64_t checksum = 0;
  std::uint32_t length_bytes = 0;
  std::uint32_t payload_offset_bytes = 0;
  std::uint16_t disk = 0;
  bool in_base = false;
};

// Bytes that were read from a file, on their way to being proved.
struct ViewLoader::Window {
  std::uint64_t offset_bytes = 0;  // of the file
  std::span<std::byte> bytes;
  std::size_t got = 0;             // of them, read

  bool has(std::uint64_t begin, std::uint64_t end) const { return begin >= offset_bytes && end <= offset_bytes + got; }
};

// One of: the table of a batch; a batch whose payloads can be read; the checksums of the blocks of one payload.
class ViewLoader::Kept {
 public:
  Codec codec = Codec::kNone;
  std::vector<PlacedRecord> records;
  std::vector<Seq> seqs;                         // of the records; empty = they follow one another
  Seq first_seq = 0;
  std::uint64_t payloads_offset_bytes = 0;       // in the segment
  BatchReader decoded;                           // the payloads, when they are in memory
  std::unique_ptr<const ViewSpill::Slot> slot;   // the payloads, when they were decoded and are not in memory
  std::vector<std::uint64_t> sums;               // of the blocks of records.front()

  bool in_memory() const { return !decoded.records().empty(); }
  ViewCacheWeight weight() const {
    constexpr std::size_t kOwnBytes = 192;  // what the cache needs for an entry
    const std::size_t memory = decoded.records().capacity() * (sizeof(Record) + 4) +
                               (in_memory() ? decoded.info().raw_payload_bytes : 0);
    return {sizeof(*this) + kOwnBytes + records.capacity() * sizeof(PlacedRecord) +
                (sums.capacity() + seqs.capacity()) * 8 + memory,
            slot == nullptr ? 0 : slot->length_bytes()};
  }

  // The number of a record; records.size() = it is not here.
  std::size_t find(Seq seq) const {
    if (seqs.empty() && seq < first_seq) return records.size();
    if (seqs.empty()) return std::min<std::uint64_t>(seq - first_seq, records.size());
    return static_cast<std::size_t>(std::find(seqs.begin(), seqs.end(), seq) - seqs.begin());
  }

  void set_records(const BatchReader& batch) {
    first_seq = batch.info().first_seq;
    codec = batch.info().codec;
    records.resize(batch.records().size());
    if (batch.info().block_order) seqs.reserve(records.size());
    std::uint32_t place = 0;
    for (std::size_t i = 0; i < records.size(); ++i) {
      const Record& record = batch.records()[i];
      const bool base = (record.flags & kRecordInBase) != 0;
      // Where there are no bytes of the disk, nothing is to be found.
      const std::uint64_t length = base || batch.payload_bytes(i) == record.length_bytes ? record.length_bytes : 0;
      records[i] = {record.offset_bytes, record.checksum, static_cast<std::uint32_t>(length), place, record.disk, base};
      place += batch.payload_bytes(i);
      if (batch.info().block_order) seqs.push_back(record.time_ns);
    }
  }

  // Blocks that can be proved by themselves: those of `record`, or, of a short one, all of it.
  std::uint64_t block_bytes(const PlacedRecord& record) const {
    return sums.empty() ? record.length_bytes : kBlockBytes;
  }
  std::uint64_t sum(const PlacedRecord& record, std::uint64_t block) const {
    return sums.empty() ? record.checksum : sums[block];
  }
};

namespace {

// Proves [begin, end) of a file, which is within `window` and a part of the payload at `payload_offset_bytes`. Blocks
// of which the window has only a part are read beside it.
template <typename Proof, typename PlacedRecord, typename Window>
Status prove(const File& file, const Proof& proof, const PlacedRecord& record, std::uint64_t payload_offset_bytes,
             std::uint64_t begin, std::uint64_t end, const Window& window) {
  const std::uint64_t unit = proof.block_bytes(record);
  const std::uint64_t payload_end = payload_offset_bytes + record.length_bytes;
  for (std::uint64_t block = (begin - payload_offset_bytes) / unit;; ++block) {
    const std::uint64_t block_begin = payload_offset_bytes + block * unit;
    if (block_begin >= end) return ok_status();
    const std::uint64_t block_end = std::min(block_begin + unit, payload_end);
    if (window.has(block_begin, block_end)) {
      const auto bytes = window.bytes.subspan(block_begin - window.offset_bytes, block_end - block_begin);
      if (xxh3_64(bytes) != proof.sum(record, block)) return not_what_was_captured();
      continue;
    }
    std::byte memory[kBlocksPayloadBytes];
    const std::span<std::byte> bytes = std::span(memory).first(block_end - block_begin);
    ASSIGN_OR_RETURN(const std::size_t got, file.read(block_begin, bytes));
    if (got != bytes.size() || xxh3_64(bytes) != proof.sum(record, block)) return not_what_was_captured();
    const std::uint64_t from = std::max(begin, block_begin);
    const std::uint64_t to = std::min(end, block_end);
    std::memcpy(window.bytes.data() + (from - window.offset_bytes), memory + (from - block_begin), to - from);
  }
}

}  // namespace

ViewLoader::ViewLoader(std::shared_ptr<const JournalSnapshot> snapshot, std::shared_ptr<ViewSpill> spill,
                       std::uint64_t spill_bytes_max)
    : snapshot_(std::move(snapshot)), spill_(std::move(spill)), cache_({kViewCacheBytesMax, spill_bytes_max}) {}

Error ViewLoader::damaged(const ViewPiece& piece, const std::string& what) const {
  return Error(ErrorKind::kCorrupt, "segment '" + snapshot_->segments()[piece.segment].name + "' at byte " +
                                        std::to_string(piece.frame_offset_bytes) + ": record " +
                                        std::to_string(piece.seq) + " " + what);
}

Status ViewLoader::read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const ViewPiece> pieces,
                        std::span<std::byte> out) const {
  // The base first: it is read in long runs, which the rest then covers.
  RETURN_IF_ERROR(read_base(disk, offset_bytes, pieces, out));
  std::uint64_t at = offset_bytes;
  for (const ViewPiece& piece : pieces) {
    std::memset(out.data() + (at - offset_bytes), 0, piece.begin_bytes - at);
    at = piece.end_bytes;
    if (!piece.in_base)
      RETURN_IF_ERROR(read_journal(disk, piece, out.subspan(piece.begin_bytes - offset_bytes, at - piece.begin_bytes)));
  }
  std::memset(out.data() + (at - offset_bytes), 0, offset_bytes + out.size() - at);
  return ok_status();
}

Result<std::span<const std::byte>> ViewLoader::load(std::uint16_t disk, const ViewPiece& piece, Holder& holder) const {
  const std::uint64_t length = piece.end_bytes - piece.begin_bytes;
  if (!piece.in_base) {
    ASSIGN_OR_RETURN(const KeptPointer batch, batch_of(piece));
    ASSIGN_OR_RETURN(const std::size_t number, number_of(*batch, disk, piece));
    if (batch->in_memory()) {
      holder.owner = batch;
      return batch->decoded.records()[number].payload.subspan(
          piece.begin_bytes - batch->records[number].offset_bytes, length);
    }
  }
  holder.memory.resize(length);
  RETURN_IF_ERROR(read(disk, piece.begin_bytes, std::span(&piece, 1), holder.memory));
  return std::span<const std::byte>(holder.memory);
}

// The index says what the journal says, or one of them is not what it was.
Result<std::size_t> ViewLoader::number_of(const Kept& batch, std::uint16_t disk, const ViewPiece& piece) const {
  const std::size_t number = batch.find(piece.seq);
  if (number >= batch.records.size()) return damaged(piece, "is not in the batch that the index names");
  const PlacedRecord& record = batch.records[number];
  if (record.disk != disk || piece.begin_bytes < record.offset_bytes ||
      piece.end_bytes > record.offset_bytes + record.length_bytes || piece.in_base != record.in_base)
    return damaged(piece, "is not what the index says");
  return number;
}

Result<ViewLoader::KeptPointer> ViewLoader::read_table(const ViewPiece& piece) const {
  const JournalSegment& segment = snapshot_->segments()[piece.segment];
  ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, snapshot_->open_segment(piece.segment));
  std::vector<std::byte> scratch;
  Result<FrameTable> table =
      read_frame_table(*file, segment.info, piece.frame_offset_bytes, segment.frames_limit_bytes(), scratch,
                       BatchOrder::kAny);
  if (!table.ok())
    return std::move(table).error().with_context("segment '" + segment.name + "' at byte " +
                                                 std::to_string(piece.frame_offset_bytes));
  auto kept = std::make_shared<Kept>();
  kept->set_records(table->batch);
  kept->payloads_offset_bytes = table->frame.batch_offset_bytes() + table->batch.info().table_end_bytes;
  return KeptPointer(std::move(kept));
}

Result<ViewLoader::KeptPointer> ViewLoader::table_of(const ViewPiece& piece) const {
  return cache_.get(key_of(Kind::kTable, batch_number(piece)), [&] { return read_table(piece); });
}

Result<ViewLoader::KeptPointer> ViewLoader::batch_of(const ViewPiece& piece) const {
  return cache_.get(key_of(Kind::kBatch, batch_number(piece)), [&]() -> Result<KeptPointer> {
    ASSIGN_OR_RETURN(KeptPointer table, read_table(piece));
    if (table->codec == Codec::kNone) return table;
    return decode(piece, true);
  });
}

// Of a batch with compressed payloads, everything: there is no way to only a part of it.
Result<ViewLoader::KeptPointer> ViewLoader::decode(const ViewPiece& piece, bool may_spill) const {
  BatchLocation location;
  location.segment = piece.segment;
  location.frame.offset_bytes = piece.frame_offset_bytes;
  location.frame.batch_bytes = piece.batch_bytes;
  thread_local std::vector<std::byte> stored;  // most batches are of one size, and fresh memory costs page faults
  if (stored.capacity() > kStoredBytesKept) std::vector<std::byte>().swap(stored);
  ASSIGN_OR_RETURN(BatchReader batch,
                   read_batch(*snapshot_, location, stored, Verify::kRecords, BatchOrder::kAny));
  auto kept = std::make_shared<Kept>();
  kept->set_records(batch);
  if (kept->codec == Codec::kNone) return damaged(piece, "is not in the batch that was here");
  if (may_spill && spill_ != nullptr)
    kept->slot = ViewSpill::put(spill_, {batch.records().front().payload.data(), batch.info().raw_payload_bytes});
  if (kept->slot == nullptr) kept->decoded = std::move(batch);
  return KeptPointer(std::move(kept));
}

// The checksums of the blocks of a long payload, all of which is proved for that, and read unless it was already.
Result<ViewLoader::KeptPointer> ViewLoader::sums_of(Seq seq, const File& file, std::uint64_t offset_bytes,
                                                    const PlacedRecord& record, const Window& window) const {
  return cache_.get(key_of(Kind::kSums, seq), [&]() -> Result<KeptPointer> {
    std::unique_ptr<std::byte[]> memory;
    std::span<const std::byte> rest;
    if (window.has(offset_bytes, offset_bytes + record.length_bytes)) {
      rest = window.bytes.subspan(offset_bytes - window.offset_bytes, record.length_bytes);
    } else {
      memory = std::make_unique_for_overwrite<std::byte[]>(record.length_bytes);
      const std::span<std::byte> whole(memory.get(), record.length_bytes);
      ASSIGN_OR_RETURN(const std::size_t got, file.read(offset_bytes, whole));
      if (got != whole.size()) return not_what_was_captured();
      rest = whole;
    }
    if (xxh3_64(rest) != record.checksum) return not_what_was_captured();
    auto kept = std::make_shared<Kept>();
    kept->first_seq = seq;
    kept->records.assign(1, record);
    kept->sums.reserve((rest.size() + kBlockBytes - 1) / kBlockBytes);
    while (!rest.empty()) {
      const std::span<const std::byte> block = rest.first(std::min(kBlockBytes, rest.size()));
      kept->sums.push_back(xxh3_64(block));
      rest = rest.subspan(block.size());
    }
    return KeptPointer(std::move(kept));
  });
}

Status ViewLoader::read_journal(std::uint16_t disk, const ViewPiece& piece, std::span<std::byte> out) const {
  const auto read_from = [&](const Kept& batch) -> Status {
    ASSIGN_OR_RETURN(const std::size_t number, number_of(batch, disk, piece));
    const PlacedRecord& record = batch.records[number];
    if (!batch.in_memory()) return read_placed(batch, record, piece, out);
    const std::span<const std::byte> payload = batch.decoded.records()[number].payload;
    std::memcpy(out.data(), payload.data() + (piece.begin_bytes - record.offset_bytes), out.size());
    return ok_status();
  };
  ASSIGN_OR_RETURN(const KeptPointer batch, batch_of(piece));
  Status status = read_from(*batch);
  if (status.ok() || batch->slot == nullptr) return status;
  // What became of the spill does not matter: the journal has the bytes.
  const std::uint64_t key = key_of(Kind::kBatch, batch_number(piece));
  cache_.forget(key);
  ASSIGN_OR_RETURN(const KeptPointer again, cache_.get(key, [&] { return decode(piece, false); }));
  return read_from(*again);
}

// From a batch whose payloads lie in a file as they are: the segment, or the spill.
Status ViewLoader::read_placed(const Kept& batch, const PlacedRecord& record, const ViewPiece& piece,
                               std::span<std::byte> out) const {
  std::shared_ptr<const File> segment;
  if (batch.slot == nullptr) {
    ASSIGN_OR_RETURN(segment, snapshot_->open_segment(piece.segment));
  }
  const File& file = batch.slot == nullptr ? *segment : batch.slot->file();
  const std::uint64_t payload =
      (batch.slot == nullptr ? batch.payloads_offset_bytes : batch.slot->offset_bytes()) + record.payload_offset_bytes;
  const std::uint64_t begin = payload + (piece.begin_bytes - record.offset_bytes);
  const auto status = [&]() -> Status {
    Window window{begin, out, 0};
    if (record.length_bytes <= kBlocksPayloadBytes) {
      if (out.size() == record.length_bytes) {
        ASSIGN_OR_RETURN(window.got, file.read(begin, out));
      }
      return prove(file, batch, record, payload, begin, begin + out.size(), window);
    }
    ASSIGN_OR_RETURN(window.got, file.read(begin, out));
    ASSIGN_OR_RETURN(const KeptPointer sums, sums_of(piece.seq, file, payload, record, window));
    return prove(file, *sums, record, payload, begin, begin + out.size(), window);
  }();
  if (status.ok()) return status;
  return Error(status.error()).with_context("segment '" + snapshot_->segments()[piece.segment].name + "' at byte " +
                                            std::to_string(piece.frame_offset_bytes) + ": record " +
                                            std::to_string(piece.seq));
}

Status ViewLoader::read_base(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const ViewPiece> pieces,
                             std::span<std::byte> out) const {
  std::shared_ptr<const File> file;
  for (std::size_t first = 0; first < pieces.size(); ++first) {
    if (!pieces[first].in_base) continue;
    std::size_t last = first;
    for (std::size_t i = first + 1; i < pieces.size(); ++i) {
      if (!pieces[i].in_base) continue;
      if (pieces[i].begin_bytes - pieces[last].end_bytes > kBaseGapBytes) break;
      last = i;
    }
    const std::uint64_t begin = pieces[first].begin_bytes;
    const auto named = [&](Error error) {
      return std::move(error).with_context("base image '" + base_image_name(disk) + "' at byte " +
                                           std::to_string(begin));
    };
    if (file == nullptr) {
      Result<std::shared_ptr<const File>> opened = snapshot_->open_base(disk);
      if (!opened.ok()) return named(std::move(opened).error());
      file = std::move(*opened);
    }
    Status status = read_base_run(disk, *file, pieces.subspan(first, last + 1 - first),
                                  out.subspan(begin - offset_bytes, pieces[last].end_bytes - begin));
    if (!status.ok()) return named(std::move(status).error());
    first = last;
  }
  return ok_status();
}

// `out` is from the first of the pieces to the last; those of the journal among them are left out.
Status ViewLoader::read_base_run(std::uint16_t disk, const File& file, std::span<const ViewPiece> pieces,
                                 std::span<std::byte> out) const {
  Window window{pieces.front().begin_bytes, out, 0};
  ASSIGN_OR_RETURN(window.got, file.read(window.offset_bytes, out));
  KeptPointer proof;
  Seq proof_seq = 0;
  for (const ViewPiece& piece : pieces) {
    if (!piece.in_base) continue;
    if (piece.seq != proof_seq) {
      ASSIGN_OR_RETURN(proof, proof_of_base(disk, piece, file, window));
      proof_seq = piece.seq;
    }
    ASSIGN_OR_RETURN(const std::size_t number, number_of(*proof, disk, piece));
    const PlacedRecord& record = proof->records[number];
    RETURN_IF_ERROR(prove(file, *proof, record, record.offset_bytes, piece.begin_bytes, piece.end_bytes, window));
  }
  return ok_status();
}

// Of a long payload the checksums of its blocks, of a short one the table with its own.
Result<ViewLoader::KeptPointer> ViewLoader::proof_of_base(std::uint16_t disk, const ViewPiece& piece, const File& file,
                                                          const Window& window) const {
  if (KeptPointer sums = cache_.find(key_of(Kind::kSums, piece.seq))) return sums;
  ASSIGN_OR_RETURN(KeptPointer table, table_of(piece));
  ASSIGN_OR_RETURN(const std::size_t number, number_of(*table, disk, piece));
  const PlacedRecord& record = table->records[number];
  if (record.length_bytes <= kBlocksPayloadBytes) return table;
  return sums_of(piece.seq, file, record.offset_bytes, record, window);
}

}  // namespace understudy
