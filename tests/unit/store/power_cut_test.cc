// SPDX-License-Identifier: Apache-2.0
// The power goes at every single call that the store makes; each time the machine comes back with what its disk kept,
// and the stream is continued from what the store says it has.
#include <cstdlib>
#include <string>

#include "daemon/store/journal.h"
#include "daemon/store/merge_policy.h"
#include "daemon/store/run_merge.h"
#include "daemon/store/segment_index_writer.h"
#include "daemon/store/store.h"
#include "daemon/view/view.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr int kBatches = 24;

StoreOptions options_on(MemoryFileSystem& files) {
  StoreOptions options;
  options.directory = "/store";
  options.segment_bytes_max = 32 << 10;
  options.file_system = &files;
  return options;
}

// The job that follows the writer.
void write_indexes(MemoryFileSystem& files, const Store& store) {
  const std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
  for (std::size_t i = 0; i + 1 < snapshot->segments().size(); ++i)
    if (!write_segment_index(files, *snapshot, i).ok()) return;
}

// As the job does it, two files at a time: every change it makes to the file system is one at which the power may go.
void merge_all(MemoryFileSystem& files, Store& store) {
  MergePolicy policy;
  policy.unit_bytes = 32 << 10;
  policy.files = 2;
  while (true) {
    const std::shared_ptr<const JournalSnapshot> snapshot = store.snapshot();
    const std::optional<MergeChoice> choice = choose_merge(snapshot->segments(), policy, {});
    if (!choice) return;
    RunMergeOptions options;
    options.payload_bytes_max = 64 << 10;
    auto merge = RunMerge::begin(files, "/store", snapshot, choice->first, choice->count, options);
    if (!merge.ok()) return;
    while (true) {
      const Result<bool> done = (*merge)->step();
      if (!done.ok()) return;
      if (*done) break;
    }
    if (!store.adopt_run((*merge)->run()).ok() || !store.remove_superseded().ok()) return;
  }
}

// Sends batches until `batches` were made or the store fails; returns what was acknowledged.
Seq send(MemoryFileSystem& files, Store& store, StreamMaker& maker, int batches) {
  Seq acknowledged = store.position().seq;
  for (int i = 0; i < batches; ++i) {
    if (!store.append(maker.next_batch()).ok()) return acknowledged;
    if (maker.random()() % 2 != 0) continue;
    const Result<Seq> committed = store.commit();
    if (!committed.ok()) return acknowledged;
    acknowledged = *committed;
    write_indexes(files, store);
    merge_all(files, store);
  }
  const Result<Seq> committed = store.commit();
  return committed.ok() ? *committed : acknowledged;
}

void compare_some(const Store& store, StreamMaker& maker) {
  Model model;
  const Seq last = store.position().seq;
  for (Seq seq = 1; seq <= last; ++seq) {
    model.apply(maker.history()[seq - 1]);
    if (!model.whole || (seq != last && maker.random()() % 20 != 0)) continue;
    Result<std::unique_ptr<PointInTimeView>> view = PointInTimeView::open(store, Point{seq, 0, false});
    REQUIRE_MESSAGE(view.ok(), view.error().message());
    for (const DiskGeometry& disk : model.geometry) {
      std::vector<std::byte> got(disk.size_bytes);
      const Status status = (*view)->read(disk.disk, 0, got);
      REQUIRE_MESSAGE(status.ok(), status.error().message());
      REQUIRE(got == model.content.at(disk.disk));
    }
  }
}

// One run with the power cut at call `number`; false = the run ended before that call.
bool run_cut_at(std::uint64_t seed, std::uint64_t number) {
  CAPTURE(seed);
  CAPTURE(number);
  MemoryFileSystem files;
  StreamMaker maker(seed);
  bool cut = false;
  files.set_fault([&](const FileOperation& operation) -> std::optional<Error> {
    if (operation.number == number) {
      cut = true;
      files.cut_power();
    }
    return std::nullopt;
  });
  Seq acknowledged = 0;
  {
    Result<std::unique_ptr<Store>> store = Store::create(options_on(files), {maker.server(), "web-1", 1});
    if (store.ok()) acknowledged = send(files, **store, maker, kBatches);
    if (!cut) return false;
  }
  std::mt19937_64 chance(seed * 1000 + number);
  files.restart(chance);

  const auto report = [](const Damage& damage) { REQUIRE_MESSAGE(damage.torn_tail, damage.reason); };
  Result<std::unique_ptr<Store>> store = Store::open(options_on(files), OpenMode::kReadWrite, report);
  if (!store.ok() && store.error().kind() == ErrorKind::kNotFound) {
    REQUIRE(acknowledged == 0);  // never got a MANIFEST
    store = Store::create(options_on(files), {maker.server(), "web-1", 1});
  }
  REQUIRE_MESSAGE(store.ok(), store.error().message());
  REQUIRE(!(*store)->read_only());
  REQUIRE((*store)->remove_superseded().ok());
  const Seq kept = (*store)->position().seq;
  REQUIRE(kept >= acknowledged);
  REQUIRE(kept < maker.next_seq());
  maker.rewind(kept);
  compare_some(**store, maker);
  const Seq end = send(files, **store, maker, 6);
  REQUIRE(end + 1 == maker.next_seq());
  compare_some(**store, maker);
  REQUIRE((*store)->scrub([](const Damage& damage) { FAIL_CHECK(damage.object << ": " << damage.reason); }, {}).ok());
  return true;
}

TEST_CASE("a power cut at any call loses nothing acknowledged and invents nothing") {
  const char* seeds = std::getenv("UNDERSTUDY_TEST_SEEDS");
  const std::uint64_t count = seeds != nullptr ? std::stoull(seeds) : 6;
  std::uint64_t cuts = 0;
  for (std::uint64_t seed = 1; seed <= count; ++seed)
    for (std::uint64_t number = 0; run_cut_at(seed, number); ++number) ++cuts;
  MESSAGE(cuts << " power cuts");
  CHECK(cuts > count * 50);
}

}  // namespace
}  // namespace understudy
