// SPDX-License-Identifier: Apache-2.0
// What a store takes and what it refuses; creation, locking, identities.
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "daemon/base/checksum.h"
#include "daemon/store/journal.h"
#include "daemon/store/store.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

StoreOptions options_on(MemoryFileSystem& files) {
  StoreOptions options;
  options.directory = "/store";
  options.file_system = &files;
  return options;
}

struct Fixture {
  MemoryFileSystem files;
  StreamMaker maker{11};
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();

  void expect_refused(const std::vector<std::byte>& batch, const std::string& why,
                      ErrorKind kind = ErrorKind::kRefused) {
    const Seq before = store->position().seq;
    const Status status = store->append(batch);
    REQUIRE(!status.ok());
    CHECK(status.error().kind() == kind);
    CHECK_MESSAGE(status.error().message().find(why) != std::string::npos, status.error().message());
    CHECK(!store->read_only());
    CHECK(store->commit().value() == before);
  }
};

TEST_CASE_FIXTURE(Fixture, "a batch must follow the last one") {
  const std::vector<std::byte> first = maker.next_batch();
  const std::vector<std::byte> second = maker.next_batch();
  expect_refused(second, "records between are missing");
  REQUIRE(store->append(first).ok());
  REQUIRE(store->commit().ok());
  expect_refused(first, "the store already has everything up to");
  REQUIRE(store->append(second).ok());
  CHECK(store->commit().value() + 1 == maker.next_seq());
}

TEST_CASE_FIXTURE(Fixture, "server, epoch, generation and capture must fit") {
  REQUIRE(store->append(maker.next_batch()).ok());
  REQUIRE(store->commit().ok());
  const Seq kept = store->position().seq;
  StreamMaker other(12);
  expect_refused(other.next_batch(), "the batch is of server");
  maker.epoch = 2;
  expect_refused(maker.next_batch(), "the batch has epoch 2, the store has epoch 1");
  maker.rewind(kept);
  maker.epoch = 1;
  maker.generation = 0;
  expect_refused(maker.next_batch(), "the batch has generation 0, the store is at 1");
  maker.rewind(kept);
  maker.generation = 3;
  REQUIRE(store->append(maker.next_batch()).ok());
  REQUIRE(store->commit().ok());
  CHECK(store->position().generation == 3);
}

TEST_CASE_FIXTURE(Fixture, "an empty store takes the epoch of its first batch") {
  maker.epoch = 9;
  REQUIRE(store->append(maker.next_batch()).ok());
  REQUIRE(store->commit().ok());
  CHECK(store->identity().epoch == 9);
  store = nullptr;
  store = Store::open(options_on(files), OpenMode::kReadWrite, {}).value();
  CHECK(store->identity().epoch == 9);
  CHECK(store->position().epoch == 9);
}

TEST_CASE_FIXTURE(Fixture, "a payload that is not what was captured is refused by record") {
  std::vector<OwnedRecord> records;
  records.push_back(make_record(RecordKind::kGeometry, 0, 0, 0,
                                encode_geometry(std::vector<DiskGeometry>{{0, Uuid::random(), "sda", 65536, 512}})));
  records.push_back(make_record(RecordKind::kWrite, 0, 512, 512, std::vector<std::byte>(512, std::byte{7})));
  records[1].record.checksum ^= 1;
  expect_refused(maker.encode(std::move(records)), "record 2 (write, disk 0, offset 512)", ErrorKind::kCorrupt);
}

TEST_CASE_FIXTURE(Fixture, "a record of an unknown disk is refused") {
  std::vector<OwnedRecord> records;
  records.push_back(make_record(RecordKind::kWrite, 5, 0, 512, std::vector<std::byte>(512)));
  expect_refused(maker.encode(std::move(records)), "names disk 5, which no geometry record has announced");
}

TEST_CASE_FIXTURE(Fixture, "only the first full copy goes to the base, and never twice to one place") {
  const auto copy = [](std::uint64_t offset, std::byte value) {
    return make_record(RecordKind::kCopy, 0, offset, 4096, std::vector<std::byte>(4096, value), kRecordInitial);
  };
  std::vector<OwnedRecord> records;
  records.push_back(make_record(RecordKind::kGeometry, 0, 0, 0,
                                encode_geometry(std::vector<DiskGeometry>{{0, Uuid::random(), "sda", 65536, 512}})));
  records.push_back(make_record(RecordKind::kGap, 0, 0, 0, encode_gap({})));
  records.push_back(copy(0, std::byte{1}));
  records.push_back(copy(2048, std::byte{2}));  // overlaps
  REQUIRE(store->append(maker.encode(std::move(records))).ok());
  REQUIRE(store->commit().ok());
  records.clear();
  records.push_back(copy(8192, std::byte{3}));
  records.push_back(copy(1024, std::byte{4}));  // overlaps what is durable
  records.push_back(make_record(RecordKind::kHeal, 0, 0, 0, {}));
  records.push_back(copy(16384, std::byte{5}));  // after the first HEAL
  REQUIRE(store->append(maker.encode(std::move(records))).ok());
  REQUIRE(store->commit().ok());
  std::vector<bool> in_base;
  JournalReader reader(store->snapshot());
  while (const auto entry = reader.next().value())
    for (const Record& record : entry->batch.records())
      if (record.kind == RecordKind::kCopy) in_base.push_back((record.flags & kRecordInBase) != 0);
  CHECK(in_base == std::vector<bool>{true, false, true, false, false});
  const std::vector<std::byte>& base = files.content("/store/base/0.img");
  CHECK(base.size() == 65536);
  CHECK(base[1500] == std::byte{1});
  CHECK(base[3000] == std::byte{1});
  CHECK(base[9000] == std::byte{3});
  CHECK(base[17000] == std::byte{0});
}

TEST_CASE_FIXTURE(Fixture, "damaged and cut batches are refused") {
  const std::vector<std::byte> batch = maker.next_batch();
  for (std::size_t size = 0; size < batch.size(); size += 1 + batch.size() / 50) {
    const Status status = store->append(std::span(batch).first(size));
    REQUIRE(!status.ok());
    CHECK(status.error().kind() == ErrorKind::kCorrupt);
  }
  std::vector<std::byte> longer = batch;
  longer.resize(batch.size() + 8);
  expect_refused(longer, "bytes of a batch", ErrorKind::kCorrupt);
  REQUIRE(store->append(batch).ok());
}

TEST_CASE("a real store is locked, and the holder is named") {
  TemporaryDirectory directory;
  StoreOptions options;
  options.directory = directory.path() + "/web-1";
  const StoreIdentity identity{Uuid::random(), "web-1", 1};
  std::unique_ptr<Store> store = Store::create(options, identity).value();
  CHECK(Store::create(options, identity).error().kind() == ErrorKind::kAlreadyExists);
  const Result<std::unique_ptr<Store>> second = Store::open(options, OpenMode::kReadWrite, {});
  REQUIRE(!second.ok());
  CHECK(second.error().kind() == ErrorKind::kBusy);
  CHECK(second.error().message().find("held by process " + std::to_string(::getpid()) + " (store_test)") !=
        std::string::npos);
  CHECK(Store::open(options, OpenMode::kReadOnly, {}).ok());
  StreamMaker maker(13);
  store = nullptr;
  CHECK(Store::open(options, OpenMode::kReadWrite, {}).ok());
}

TEST_CASE("the same stream on a real file system") {
  TemporaryDirectory directory;
  StoreOptions options;
  options.directory = directory.path() + "/web-1";
  options.base_directory = directory.path() + "/elsewhere";
  options.segment_bytes_max = 64 << 10;
  StreamMaker maker(14);
  std::unique_ptr<Store> store = Store::create(options, {maker.server(), "web-1", 1}).value();
  for (int i = 0; i < 40; ++i) REQUIRE(store->append(maker.next_batch()).ok());
  CHECK(store->commit().value() + 1 == maker.next_seq());
  CHECK(store->base_bytes() > 0);
  // All that is read is counted, so that a rate can be kept: the frames, and for the chain all segments but the last.
  std::uint64_t read_bytes = 0;
  const std::shared_ptr<const JournalSnapshot> snapshot = store->snapshot();
  for (const JournalSegment& segment : snapshot->segments())
    read_bytes += 2 * segment.end_bytes - segment.info.frames_offset_bytes;
  read_bytes -= snapshot->segments().back().end_bytes;
  std::uint64_t done_bytes = 0;
  const auto progress = [&](std::uint64_t done, std::uint64_t total) {
    CHECK(done >= done_bytes);
    CHECK(done <= total);
    done_bytes = done;
    return true;
  };
  const auto report = [](const Damage& damage) { FAIL_CHECK(damage.object << ": " << damage.reason); };
  CHECK(store->scrub(report, progress).ok());
  CHECK(snapshot->segments().size() > 3);
  CHECK(done_bytes > read_bytes);  // and what is in the base
  const Sha256Digest head = store->chain_head();
  store = nullptr;
  options.base_directory.clear();  // the MANIFEST remembers it
  store = Store::open(options, OpenMode::kReadOnly, [](const Damage& damage) { FAIL(damage.reason); }).value();
  CHECK(store->chain_head() == head);
  CHECK(store->read_only());
  CHECK(store->append(maker.next_batch()).error().kind() == ErrorKind::kPermission);
  CHECK(store->scrub([](const Damage& damage) { FAIL_CHECK(damage.object << ": " << damage.reason); }, {}).ok());
}

TEST_CASE("a directory that is no store, or has other things in it, is refused") {
  TemporaryDirectory directory;
  StoreOptions options;
  options.directory = directory.path();
  const StoreIdentity identity{Uuid::random(), "web-1", 1};
  CHECK(Store::open(options, OpenMode::kReadWrite, {}).error().kind() == ErrorKind::kNotFound);
  REQUIRE(::mkdir((directory.path() + "/photos").c_str(), 0700) == 0);
  const Result<std::unique_ptr<Store>> store = Store::create(options, identity);
  REQUIRE(!store.ok());
  CHECK(store.error().kind() == ErrorKind::kAlreadyExists);
  CHECK(store.error().message().find("it has 'photos'") != std::string::npos);
  CHECK(Store::create(options, {Uuid{}, "web-1", 1}).error().kind() == ErrorKind::kInvalidArgument);
  CHECK(Store::create(options, {Uuid::random(), "bad\nname", 1}).error().kind() == ErrorKind::kInvalidArgument);
}

}  // namespace
}  // namespace understudy
