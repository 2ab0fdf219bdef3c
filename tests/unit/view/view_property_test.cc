// SPDX-License-Identifier: Apache-2.0
// Random streams against a naive model: every position of the stream is opened and compared byte by byte.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "daemon/store/journal.h"
#include "daemon/store/run_merge.h"
#include "daemon/store/segment_index_writer.h"
#include "daemon/store/store.h"
#include "daemon/view/end_view.h"
#include "daemon/view/view.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

// What happens to index files: they are made, damaged, cut and lost. None of it may be seen.
void disturb_indexes(MemoryFileSystem& files, const Store& store, std::mt19937_64& random) {
  const std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  for (std::size_t i = 0; i + 1 < snapshot->segments().size(); ++i)
    if (random() % 2 == 0) REQUIRE(write_segment_index(files, *snapshot, i).ok());
  for (const std::string& path : files.paths()) {
    if (!path.ends_with(".idx")) continue;
    std::vector<std::byte>& content = files.content(path);
    const unsigned what = static_cast<unsigned>(random() % 8);
    if (what == 0) content[random() % content.size()] ^= std::byte{4};
    if (what == 1) content.resize(random() % content.size());
    if (what == 2) REQUIRE(files.remove(path).ok());
  }
}

// Merges some adjacent segments and runs, in small pieces of payload, as the job does.
void merge_some(MemoryFileSystem& files, Store& store, std::mt19937_64& random) {
  const std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  const std::size_t sealed = snapshot->segments().empty() ? 0 : snapshot->segments().size() - 1;
  if (sealed < 2) return;
  const std::size_t first = random() % (sealed - 1);
  const std::size_t count = 2 + random() % std::min<std::size_t>(4, sealed - first - 1);
  RunMergeOptions options;
  options.payload_bytes_max = 4096u << random() % 6;
  options.block_bytes = 512u << random() % 8;
  auto merge = RunMerge::begin(files, "/store", snapshot, first, count, options);
  REQUIRE_MESSAGE(merge.ok(), merge.error().message());
  while (true) {
    const Result<bool> done = (*merge)->step();
    REQUIRE_MESSAGE(done.ok(), done.error().message());
    if (*done) break;
  }
  const Status adopted = store.adopt_run((*merge)->run());
  REQUIRE_MESSAGE(adopted.ok(), adopted.error().message());
  REQUIRE(store.remove_superseded().ok());
}

void compare_at(const Store& store, Seq seq, const Model& model, const ViewOptions& options) {
  Result<std::unique_ptr<PointInTimeView>> view = PointInTimeView::open(store, Point{seq, 0, false}, options);
  if (!model.whole) {
    REQUIRE(!view.ok());
    CHECK(view.error().kind() == ErrorKind::kRefused);
    return;
  }
  REQUIRE_MESSAGE(view.ok(), view.error().message());
  REQUIRE((*view)->disks() == model.geometry);
  for (const DiskGeometry& disk : model.geometry) {
    const std::vector<std::byte>& expected = model.content.at(disk.disk);
    std::vector<std::byte> got(disk.size_bytes, std::byte{0xee});
    const Status status = (*view)->read(disk.disk, 0, got);
    REQUIRE_MESSAGE(status.ok(), status.error().message());
    REQUIRE(got == expected);
    // And by pieces, of which some are read a second time, when less of them has to be read and proved.
    std::mt19937_64 random(seq);
    for (int i = 0; i < 24; ++i) {
      const std::uint64_t offset = random() % disk.size_bytes;
      std::vector<std::byte> part(std::min<std::uint64_t>(1 + random() % 9000, disk.size_bytes - offset));
      REQUIRE((*view)->read(disk.disk, offset, part).ok());
      REQUIRE(std::equal(part.begin(), part.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset)));
    }
    // The same by read_all(), and what it leaves out must be zeros, in agreement with extent_at().
    std::vector<std::byte> all(disk.size_bytes);
    std::uint64_t handed_out = 0;
    REQUIRE((*view)
                ->read_all(disk.disk,
                           [&](std::uint64_t offset, std::span<const std::byte> data) {
                             std::copy(data.begin(), data.end(), all.begin() + static_cast<std::ptrdiff_t>(offset));
                             handed_out += data.size();
                             return ok_status();
                           })
                .ok());
    REQUIRE(all == expected);
    std::uint64_t data_bytes = 0;
    for (std::uint64_t at = 0; at < disk.size_bytes;) {
      const PointInTimeView::Extent extent = (*view)->extent_at(disk.disk, at);
      REQUIRE(extent.length_bytes > 0);
      if (!extent.zero) data_bytes += extent.length_bytes;
      at += extent.length_bytes;
    }
    REQUIRE(data_bytes == handed_out);
  }
}

// The view that moves forward with the stream, at what is durable now.
void compare_end(EndView& end, const Store& store, const Model& model) {
  const Status advanced = end.advance(store.snapshot());
  REQUIRE_MESSAGE(advanced.ok(), advanced.error().message());
  REQUIRE(end.seq() == store.position().seq);
  if (!store.position().initial_copy_done) return;  // copies into the base may lie under a record that is not there yet
  for (const DiskGeometry& disk : model.geometry) {
    REQUIRE(end.disk_bytes(disk.disk) == disk.size_bytes);
    const std::vector<std::byte>& expected = model.content.at(disk.disk);
    std::vector<std::byte> got(disk.size_bytes, std::byte{0xee});
    const auto whole = end.read(disk.disk, 0, got);
    REQUIRE_MESSAGE(whole.ok(), whole.error().message());
    REQUIRE(std::equal(whole->begin(), whole->end(), expected.begin(), expected.end()));
    for (std::uint64_t at = 0; at < disk.size_bytes; at += 1024) {
      const std::uint64_t bytes = std::min<std::uint64_t>(1024, disk.size_bytes - at);
      const auto part = end.read(disk.disk, at, std::span(got).first(bytes));
      REQUIRE_MESSAGE(part.ok(), part.error().message());
      REQUIRE(part->size() == bytes);
      REQUIRE(std::equal(part->begin(), part->end(), expected.begin() + static_cast<std::ptrdiff_t>(at)));
    }
    for (std::uint64_t at = 0; at < disk.size_bytes; at += 512) {
      if (!end.known_zeros(disk.disk, at, 512)) continue;
      const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(at);
      REQUIRE(std::all_of(begin, begin + 512, [](std::byte b) { return b == std::byte{0}; }));
    }
  }
}

void run_stream(std::uint64_t seed) {
  CAPTURE(seed);
  MemoryFileSystem files;
  StreamMaker maker(seed);
  StoreOptions options;
  options.directory = "/store";
  options.segment_bytes_max = 64 << 10;
  options.file_system = &files;
  auto store = Store::create(options, {maker.server(), "web-1", 1});
  REQUIRE_MESSAGE(store.ok(), store.error().message());
  const TemporaryDirectory directory;
  const ViewOptions spill{directory.path(), maker.random()() % 2 == 0 ? 1u << 20 : 100u << 10};
  EndView end;
  Model at_end;
  for (int i = 0; i < 60; ++i) {
    const Status status = (*store)->append(maker.next_batch());
    REQUIRE_MESSAGE(status.ok(), status.error().message());
    if (maker.random()() % 3 == 0) {
      REQUIRE((*store)->commit().ok());
      for (Seq seq = end.seq() + 1; seq < maker.next_seq(); ++seq) at_end.apply(maker.history()[seq - 1]);
      compare_end(end, **store, at_end);
    }
    if (maker.random()() % 6 == 0) merge_some(files, **store, maker.random());
    if (maker.random()() % 20 == 0) {  // a receiver that was started again
      REQUIRE((*store)->commit().ok());
      const StreamPosition before = (*store)->position();
      const Sha256Digest head = (*store)->chain_head();
      *store = nullptr;
      store = Store::open(options, OpenMode::kReadWrite, [](const Damage& damage) { FAIL(damage.reason); });
      REQUIRE_MESSAGE(store.ok(), store.error().message());
      const StreamPosition after = (*store)->position();
      CHECK(after.seq == before.seq);
      CHECK(after.generation == before.generation);
      CHECK(after.cursor == before.cursor);
      CHECK(after.gap_open == before.gap_open);
      CHECK(after.gap_reason == before.gap_reason);
      CHECK(after.initial_copy_done == before.initial_copy_done);
      CHECK(after.disks == before.disks);
      CHECK(after.last_time_ns == before.last_time_ns);
      CHECK((*store)->chain_head() == head);
    }
  }
  REQUIRE((*store)->commit().value() == maker.next_seq() - 1);
  Model model;
  for (Seq seq = 1; seq < maker.next_seq(); ++seq) {
    CAPTURE(seq);
    if (seq % 16 == 1) disturb_indexes(files, **store, maker.random());
    if (seq % 40 == 7) merge_some(files, **store, maker.random());
    model.apply(maker.history()[seq - 1]);
    compare_at(**store, seq, model, seq % 2 == 0 ? spill : ViewOptions{});
  }
  const auto report = [](const Damage& damage) { FAIL_CHECK(damage.object << ": " << damage.reason); };
  CHECK((*store)->scrub(report, {}).ok());
}

TEST_CASE("every position of random streams is the exact prefix") {
  const char* seeds = std::getenv("UNDERSTUDY_TEST_SEEDS");
  const std::uint64_t count = seeds != nullptr ? std::stoull(seeds) : 12;
  for (std::uint64_t seed = 1; seed <= count; ++seed) run_stream(seed);
}

}  // namespace
}  // namespace understudy
