// SPDX-License-Identifier: Apache-2.0
// The index of a segment against a list of extents, and what becomes of one that is damaged or of another segment.
#include "daemon/store/segment_index.h"

#include <algorithm>
#include <random>
#include <string>

#include "daemon/store/journal.h"
#include "daemon/store/segment_index_writer.h"
#include "daemon/store/store.h"
#include "daemon/store/store_paths.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kSector = 512;

struct KnownExtent {
  std::uint16_t disk = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  Seq seq = 0;
};

// Batches as a segment would have them, with a few hot extents, long and short ones.
std::vector<std::byte> make_index(std::uint64_t seed, std::size_t batches, std::vector<KnownExtent>& known) {
  std::mt19937_64 random(seed);
  SegmentInfo info;
  info.first_seq = 1;
  info.server = Uuid::random();
  info.store = Uuid::random();
  SegmentIndexBuilder builder(info);
  FrameInfo frame;
  frame.offset_bytes = 1024;
  Seq seq = 1;
  for (std::size_t b = 0; b < batches; ++b) {
    BatchWriter writer;
    writer.start(info.server, seq, 1, 1);
    frame.first_seq = seq;
    for (std::size_t i = 0; i < 1 + random() % 40; ++i, ++seq) {
      const auto disk = static_cast<std::uint16_t>(random() % 3);
      std::uint64_t first = random() % 4000;
      std::uint64_t count = 1 + random() % 16;
      if (random() % 3 == 0) first = random() % 4 * 8, count = 8;
      if (random() % 50 == 0) count = 1 + random() % (1 << 20);
      writer.add(make_record(RecordKind::kZero, disk, first * kSector, count * kSector, {}).record);
      known.push_back({disk, first * kSector, (first + count) * kSector, seq});
    }
    std::vector<std::byte> bytes;
    const BatchInfo batch = writer.encode({Codec::kNone, 1}, bytes);
    frame.batch_bytes = batch.encoded_bytes;
    REQUIRE(builder.add_batch(frame, BatchReader::decode_table(bytes).value()).ok());
    frame.offset_bytes = frame.end_offset_bytes();
  }
  return std::move(builder).finish(frame.offset_bytes, Sha256Digest{});
}

TEST_CASE("an index finds the newest record of every place up to any seq") {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    CAPTURE(seed);
    std::vector<KnownExtent> known;
    const auto index = SegmentIndex::open(make_index(seed, seed == 1 ? 0 : 40 * seed, known)).value();
    CHECK(index->last_seq() == known.size());
    std::mt19937_64 random(seed);
    for (int round = 0; round < 400; ++round) {
      const auto disk = static_cast<std::uint16_t>(random() % 4);
      const std::uint64_t begin = random() % 4100 * kSector;
      const std::uint64_t end = begin + (1 + random() % 64) * kSector;
      const Seq seq_max = round % 3 == 0 ? known.size() + 5 : random() % (known.size() + 1);
      std::vector<IndexedExtent> found;
      REQUIRE(index->collect(disk, begin, end, seq_max, found).ok());
      for (const IndexedExtent& extent : found) {
        const KnownExtent& is = known.at(extent.seq - 1);
        REQUIRE(is.disk == disk);
        REQUIRE(is.begin == extent.begin_bytes);
        REQUIRE(is.end == extent.end_bytes);
        REQUIRE(extent.seq <= seq_max);
        REQUIRE(extent.begin_bytes < end);
        REQUIRE(extent.end_bytes > begin);
      }
      for (std::uint64_t place = begin; place < end; place += kSector) {
        Seq expected = 0;
        for (const KnownExtent& is : known)
          if (is.seq <= seq_max && is.disk == disk && is.begin <= place && place < is.end) expected = is.seq;
        Seq got = 0;
        for (const IndexedExtent& extent : found)
          if (extent.begin_bytes <= place && place < extent.end_bytes) got = std::max(got, extent.seq);
        REQUIRE(got == expected);
      }
    }
  }
}

StoreOptions options_on(MemoryFileSystem& files) {
  StoreOptions options;
  options.directory = "/store";
  options.segment_bytes_max = 48 << 10;
  options.file_system = &files;
  return options;
}

TEST_CASE("a changed index file is noticed wherever it was changed, and made again") {
  MemoryFileSystem files;
  StreamMaker maker(31);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  while (store->sealed_segments() < 3) {
    REQUIRE(store->append(maker.next_batch()).ok());
    REQUIRE(store->commit().ok());
  }
  const std::shared_ptr<const JournalSnapshot> snapshot = store->snapshot();
  CHECK(write_segment_index(files, *snapshot, 3).error().kind() == ErrorKind::kInvalidArgument);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(snapshot->open_segment_index(i).error().kind() == ErrorKind::kNotFound);
    CHECK(write_segment_index(files, *snapshot, i).value());
    CHECK_FALSE(write_segment_index(files, *snapshot, i).value());  // it is there already
    CHECK_FALSE(snapshot->segment_index(i)->index->in_memory());
  }
  const std::string path = "/store/journal/" + index_name(snapshot->segments()[1].info.first_seq);
  const std::vector<std::byte> good = files.content(path);
  std::mt19937_64 random(31);
  unsigned noticed_on_use = 0;
  for (int round = 0; round < 300; ++round) {
    const std::size_t at = random() % good.size();
    CAPTURE(at);
    files.content(path)[at] ^= std::byte{0x10};
    const auto opened = snapshot->open_segment_index(1);
    bool noticed = !opened.ok();
    if (opened.ok()) {
      std::vector<IndexedExtent> out;
      noticed = !(*opened)->events().ok() || !(*opened)->places().ok();
      for (std::uint16_t disk = 0; disk < 6; ++disk)
        noticed = noticed || !(*opened)->collect(disk, 0, kDiskBytesMax, ~Seq{0} - 1, out).ok();
      noticed_on_use += noticed;
    } else {
      CHECK(opened.error().kind() != ErrorKind::kNotFound);
      CHECK(write_segment_index(files, *snapshot, 1).value());
      CHECK(files.content(path) == good);
    }
    // Padding between the sections is the only thing that may change unnoticed.
    if (!noticed) {
      CHECK(good[at] == std::byte{0});
    }
    files.content(path) = good;
  }
  CHECK(noticed_on_use > 10);
  files.content(path).resize(good.size() / 2);
  CHECK_FALSE(snapshot->open_segment_index(1).ok());
  files.content(path) = files.content("/store/journal/" + index_name(snapshot->segments()[0].info.first_seq));
  CHECK(snapshot->open_segment_index(1).error().message().find("not the index") != std::string::npos);
}

TEST_CASE("a segment is sealed at its number of records and batches, too") {
  MemoryFileSystem files;
  StreamMaker maker(32);
  StoreOptions options = options_on(files);
  options.segment_bytes_max = 1 << 30;
  options.segment_batches_max = 5;
  options.segment_records_max = 40;
  std::unique_ptr<Store> store = Store::create(options, {maker.server(), "web-1", 1}).value();
  for (int i = 0; i < 60; ++i) {
    REQUIRE(store->append(maker.next_batch()).ok());
    if (i % 7 == 0) REQUIRE(store->commit().ok());
    if (i == 32) {  // a new process goes on counting
      REQUIRE(store->commit().ok());
      store = nullptr;
      store = Store::open(options, OpenMode::kReadWrite, {}).value();
    }
  }
  REQUIRE(store->commit().ok());
  JournalReader reader(store->snapshot());
  std::map<std::uint32_t, std::pair<std::uint64_t, std::uint64_t>> counts;
  while (true) {
    const auto entry = reader.next();
    REQUIRE(entry.ok());
    if (*entry == nullptr) break;
    auto& [batches, records] = counts[(*entry)->location.segment];
    ++batches;
    records += (*entry)->batch.records().size();
  }
  CHECK(counts.size() >= 12);
  for (const auto& [segment, count] : counts) {
    CHECK(count.first <= 5);
    CHECK(count.second <= 40);
  }
}

TEST_CASE("an index that finds no room leaves nothing behind") {
  MemoryFileSystem files;
  StreamMaker maker(33);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  while (store->sealed_segments() < 1) {
    REQUIRE(store->append(maker.next_batch()).ok());
    REQUIRE(store->commit().ok());
  }
  const std::vector<std::string> before = files.paths();
  files.set_space(files.used_bytes() + 100);
  CHECK(write_segment_index(files, *store->snapshot(), 0).error().kind() == ErrorKind::kNoSpace);
  CHECK(files.paths() == before);
  files.set_space(~std::uint64_t{0});
  CHECK(write_segment_index(files, *store->snapshot(), 0).value());
}

}  // namespace
}  // namespace understudy
