// SPDX-License-Identifier: Apache-2.0
// Failing calls: fsync, full disks, writes.
#include <cerrno>
#include <string>

#include "daemon/store/store.h"
#include "daemon/view/view.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

StoreOptions options_on(MemoryFileSystem& files) {
  StoreOptions options;
  options.directory = "/store";
  options.segment_bytes_max = 96 << 10;
  options.file_system = &files;
  return options;
}

std::unique_ptr<Store> new_store(MemoryFileSystem& files, const StreamMaker& maker) {
  Result<std::unique_ptr<Store>> store = Store::create(options_on(files), {maker.server(), "web-1", 1});
  REQUIRE_MESSAGE(store.ok(), store.error().message());
  return std::move(*store);
}

void compare_last(const Store& store, const StreamMaker& maker) {
  Model model;
  for (const OwnedRecord& record : maker.history()) model.apply(record);
  if (!model.whole) return;
  Result<std::unique_ptr<PointInTimeView>> view = PointInTimeView::open(store, Point{store.position().seq, 0, false});
  REQUIRE_MESSAGE(view.ok(), view.error().message());
  for (const DiskGeometry& disk : model.geometry) {
    std::vector<std::byte> got(disk.size_bytes);
    REQUIRE((*view)->read(disk.disk, 0, got).ok());
    CHECK(got == model.content.at(disk.disk));
  }
}

TEST_CASE("an open that cannot sync what it found promises nothing of it") {
  MemoryFileSystem files;
  StreamMaker maker(1);
  std::unique_ptr<Store> store = new_store(files, maker);
  REQUIRE(store->append(maker.next_batch()).ok());
  const Seq acknowledged = store->commit().value();
  REQUIRE(store->append(maker.next_batch()).ok());
  const auto no_sync = [](const FileOperation& operation) -> std::optional<Error> {
    if (operation.kind != FileOperation::Kind::kSync) return std::nullopt;
    return Error::from_errno(EIO, "fdatasync '" + operation.path + "'");
  };
  files.set_fault(no_sync);
  CHECK(!store->commit().ok());
  store.reset();
  // The frames are in the page cache, and the next process cannot get them to the disk either. Later syncs, of the
  // MANIFEST for one, work again.
  files.restart_process();
  bool failed = false;
  files.set_fault([&](const FileOperation& operation) -> std::optional<Error> {
    if (failed || !operation.path.ends_with(".wal")) return std::nullopt;
    auto error = no_sync(operation);
    failed = error.has_value();
    return error;
  });
  CHECK(!Store::open(options_on(files), OpenMode::kReadWrite, {}).ok());
  REQUIRE(failed);
  const std::unique_ptr<MemoryFileSystem> left = files.after_power_cut();
  const auto opened = Store::open(options_on(*left), OpenMode::kReadWrite, [](const Damage& damage) {
    CHECK_MESSAGE(damage.torn_tail, damage.reason);
  });
  REQUIRE(opened.ok());
  CHECK_FALSE((*opened)->read_only());
  CHECK((*opened)->position().seq == acknowledged);
}

TEST_CASE("after a failed fsync the store takes nothing until it is opened again") {
  MemoryFileSystem files;
  StreamMaker maker(1);
  std::unique_ptr<Store> store = new_store(files, maker);
  REQUIRE(store->append(maker.next_batch()).ok());
  const Seq acknowledged = store->commit().value();
  REQUIRE(store->append(maker.next_batch()).ok());
  bool failed = false;
  files.set_fault([&](const FileOperation& operation) -> std::optional<Error> {
    if (operation.kind != FileOperation::Kind::kSync || failed) return std::nullopt;
    failed = true;
    return Error::from_errno(EIO, "fdatasync '" + operation.path + "'");
  });
  const Result<Seq> committed = store->commit();
  REQUIRE(!committed.ok());
  CHECK(committed.error().kind() == ErrorKind::kIo);
  CHECK(store->read_only());
  CHECK(store->position().seq == acknowledged);
  // fsync would work now, but what it said about the earlier bytes can't be believed.
  const Status again = store->append(maker.next_batch());
  REQUIRE(!again.ok());
  CHECK(again.error().message().find("read-only until it is opened again") != std::string::npos);
  CHECK(!store->commit().ok());
  store = nullptr;
  Result<std::unique_ptr<Store>> reopened = Store::open(options_on(files), OpenMode::kReadWrite, {});
  REQUIRE(reopened.ok());
  CHECK(!(*reopened)->read_only());
  CHECK((*reopened)->position().seq >= acknowledged);
}

TEST_CASE("a failed fsync of a base image is as bad") {
  MemoryFileSystem files;
  StreamMaker maker(2);
  std::unique_ptr<Store> store = new_store(files, maker);
  files.set_fault([&](const FileOperation& operation) -> std::optional<Error> {
    if (operation.kind != FileOperation::Kind::kSync || !operation.path.ends_with(".img")) return std::nullopt;
    return Error::from_errno(ENOSPC, "fdatasync '" + operation.path + "'");  // even ENOSPC: the pages may be gone
  });
  Result<Seq> committed = Seq{0};
  for (int i = 0; i < 12 && committed.ok(); ++i) {
    REQUIRE(store->append(maker.next_batch()).ok());
    committed = store->commit();
  }
  REQUIRE(!committed.ok());
  CHECK(store->read_only());
}

TEST_CASE("a full disk is survived: nothing is lost, nothing doubled, it goes on when there is room") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    MemoryFileSystem files;
    StreamMaker maker(seed);
    std::unique_ptr<Store> store = new_store(files, maker);
    unsigned full = 0;
    const auto make_room = [&](const Error& error) {
      REQUIRE_MESSAGE(error.kind() == ErrorKind::kNoSpace, error.message());
      REQUIRE(!store->read_only());
      ++full;
      files.set_space(files.used_bytes() + 200 + maker.random()() % (8'000 * full));
    };
    files.set_space(files.used_bytes() + maker.random()() % 20'000);
    for (int i = 0; i < 40; ++i) {
      const std::vector<std::byte> batch = maker.next_batch();
      for (Status status = store->append(batch); !status.ok(); status = store->append(batch)) make_room(status.error());
      for (Result<Seq> done = store->commit(); !done.ok() || *done + 1 != maker.next_seq(); done = store->commit()) {
        REQUIRE(!done.ok());
        make_room(done.error());
      }
    }
    CHECK(full > 3);
    CHECK(store->position().seq + 1 == maker.next_seq());
    compare_last(*store, maker);
    files.set_space(~0ull);
    store = nullptr;
    Result<std::unique_ptr<Store>> reopened =
        Store::open(options_on(files), OpenMode::kReadWrite, [](const Damage& damage) { FAIL(damage.reason); });
    REQUIRE(reopened.ok());
    CHECK((*reopened)->position().seq + 1 == maker.next_seq());
    compare_last(**reopened, maker);
    CHECK((*reopened)->scrub([](const Damage& damage) { FAIL_CHECK(damage.reason); }, {}).ok());
  }
}

TEST_CASE("any call that fails leaves acknowledged records readable after a new start") {
  for (std::uint64_t number = 0;; ++number) {
    CAPTURE(number);
    MemoryFileSystem files;
    StreamMaker maker(7);
    bool hit = false;
    files.set_fault([&](const FileOperation& operation) -> std::optional<Error> {
      if (operation.number != number) return std::nullopt;
      hit = true;
      return Error::from_errno(EIO, "operation on '" + operation.path + "'");
    });
    Result<std::unique_ptr<Store>> store = Store::create(options_on(files), {maker.server(), "web-1", 1});
    if (!store.ok()) store = Store::create(options_on(files), {maker.server(), "web-1", 1});
    if (!store.ok()) store = Store::open(options_on(files), OpenMode::kReadWrite, {});  // only the last fsync failed
    REQUIRE_MESSAGE(store.ok(), store.error().message());
    Seq acknowledged = 0;
    for (int i = 0; i < 30; ++i) {
      if (!(*store)->append(maker.next_batch()).ok()) break;
      if (const Result<Seq> committed = (*store)->commit(); committed.ok())
        acknowledged = *committed;
      else
        break;
    }
    *store = nullptr;
    files.set_fault(nullptr);
    store = Store::open(options_on(files), OpenMode::kReadWrite, [](const Damage& damage) { CHECK(damage.torn_tail); });
    REQUIRE_MESSAGE(store.ok(), store.error().message());
    CHECK((*store)->position().seq >= acknowledged);
    maker.rewind((*store)->position().seq);
    for (int i = 0; i < 5; ++i) REQUIRE((*store)->append(maker.next_batch()).ok());
    CHECK((*store)->commit().value() + 1 == maker.next_seq());
    compare_last(**store, maker);
    if (!hit) break;
  }
}

}  // namespace
}  // namespace understudy
