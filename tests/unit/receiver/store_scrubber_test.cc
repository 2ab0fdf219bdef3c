// SPDX-License-Identifier: Apache-2.0
// The scrub finds bytes that went bad, names the points that may be affected, keeps its rate and ends when told to.
#include <chrono>
#include <fstream>
#include <mutex>
#include <thread>

#include "daemon/receiver/store_scrubber.h"
#include "tests/unit/store/stream_maker.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kDiskBytes = 1 << 20;

// A store with a disk that was copied (seq 3) and written to (seq 5).
void make_store(const std::string& directory) {
  StoreOptions options;
  options.directory = directory;
  const Uuid server = Uuid::random();
  auto store = Store::create(options, {server, "web-1", 1});
  REQUIRE(store.ok());
  BatchWriter writer;
  writer.start(server, 1, 1, 1);
  std::vector<OwnedRecord> records;
  records.push_back(make_record(RecordKind::kGeometry, 0, 0, 0,
                                encode_geometry(std::vector<DiskGeometry>{{0, server, "sda", kDiskBytes, 512}})));
  records.push_back(make_record(RecordKind::kGap, 0, 0, 0, encode_gap({})));
  records.push_back(
      make_record(RecordKind::kCopy, 0, 0, 65536, std::vector<std::byte>(65536, std::byte{1}), kRecordInitial));
  records.push_back(make_record(RecordKind::kHeal, 0, 0, 0, {}));
  records.push_back(make_record(RecordKind::kWrite, 0, 4096, 4096, std::vector<std::byte>(4096, std::byte{2})));
  for (OwnedRecord& owned : records) {
    owned.record.payload = owned.payload;
    writer.add(owned.record);
  }
  std::vector<std::byte> batch;
  writer.encode({Codec::kNone, 1}, batch);
  REQUIRE((*store)->append(batch).ok());
  REQUIRE((*store)->commit().ok());
}

// All of the disk again, in a gap (6, 7, 8), as a repair does.
void add_copy(const std::string& directory) {
  StoreOptions options;
  options.directory = directory;
  const auto store = Store::open(options, OpenMode::kReadWrite, {});
  REQUIRE(store.ok());
  BatchWriter writer;
  writer.start((*store)->identity().server, 6, 1, 1);
  std::vector<OwnedRecord> records;
  records.push_back(make_record(RecordKind::kGap, 0, 0, 0, encode_gap({GapReason::kRequested})));
  records.push_back(make_record(RecordKind::kCopy, 0, 0, 65536, std::vector<std::byte>(65536, std::byte{1})));
  records.push_back(make_record(RecordKind::kHeal, 0, 0, 0, {}));
  for (OwnedRecord& owned : records) {
    owned.record.payload = owned.payload;
    writer.add(owned.record);
  }
  std::vector<std::byte> batch;
  writer.encode({Codec::kNone, 1}, batch);
  REQUIRE((*store)->append(batch).ok());
  REQUIRE((*store)->commit().ok());
}

ScrubStatus wait_for(const StoreScrubber& scrubber, std::uint64_t passes) {
  for (int i = 0; i < 6000; ++i) {
    const ScrubStatus status = scrubber.status("web-1");
    if (status.passes >= passes && !status.running) return status;
    std::this_thread::sleep_for(5ms);
  }
  return {};
}

std::map<std::string, StoreOptions> at(const std::string& directory) {
  StoreOptions options;
  options.directory = directory;
  return {{"web-1", options}};
}

// Again and again, as fast as it can.
ScrubSettings eager() { return {1ull << 40, 1'000'000}; }

void flip_byte(const std::string& path, std::streamoff offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const int byte = file.get();
  REQUIRE(byte >= 0);
  file.seekp(offset);
  file.put(static_cast<char>(byte ^ 1));
}

TEST_CASE("a sound store is read again and again, and bytes that go bad are named") {
  TemporaryDirectory directory;
  const std::string path = directory.file("store");
  make_store(path);
  StoreScrubber scrubber;
  scrubber.set(at(path), eager());
  const ScrubStatus sound = wait_for(scrubber, 2);
  CHECK(sound.passes >= 2);
  CHECK(sound.damages_total == 0);
  CHECK(sound.last_error.empty());
  CHECK(sound.last_end_wall_ns != 0);
  CHECK(sound.bytes >= 2 * 65536);
  CHECK(sound.done_bytes >= 65536);

  flip_byte(path + "/base/0.img", 30000);
  const ScrubStatus damaged = wait_for(scrubber, sound.passes + 2);
  CHECK(damaged.damages_total == 1);
  REQUIRE(damaged.damages.size() == 1);
  CHECK(damaged.damages[0].find("'base/0.img' at byte 0, 65536 bytes") != std::string::npos);
  CHECK(damaged.damages[0].find("points from seq 3 on may be affected") != std::string::npos);
  CHECK(damaged.last_error.empty());

  flip_byte(path + "/base/0.img", 30000);
  CHECK(wait_for(scrubber, damaged.passes + 2).damages_total == 0);
  CHECK(scrubber.status("web-2").passes == 0);
}

TEST_CASE("what the newest point has lost is handed on, and up to which point when it was written again") {
  TemporaryDirectory directory;
  const std::string path = directory.file("store");
  make_store(path);
  flip_byte(path + "/base/0.img", 30000);
  std::mutex mutex;
  std::vector<DamagedExtent> lost;
  unsigned calls = 0;
  StoreScrubber scrubber(system_clock(), [&](const std::string& server, const std::vector<DamagedExtent>& extents) {
    const std::lock_guard lock(mutex);
    CHECK(server == "web-1");
    lost = extents;
    ++calls;
  });
  scrubber.set(at(path), eager());
  const ScrubStatus damaged = wait_for(scrubber, 2);
  // The copy but for what was written over it since.
  const std::vector<DamagedExtent> expected{{0, 0, 4096}, {0, 8192, 65536 - 8192}};
  CHECK(damaged.damaged_extents == expected);
  CHECK(damaged.damaged_points.starts_with("from seq 3 to seq 5 ("));
  {
    const std::lock_guard lock(mutex);
    CHECK(lost == expected);
    CHECK(calls > 0);
  }
  add_copy(path);
  const ScrubStatus mended = wait_for(scrubber, scrubber.status("web-1").passes + 2);
  CHECK(mended.damages_total == 1);
  CHECK(mended.damaged_extents.empty());
  CHECK(mended.damaged_points.starts_with("from seq 3 to seq 5 ("));
  const auto calls_now = [&] {
    const std::lock_guard lock(mutex);
    return calls;
  };
  const unsigned before = calls_now();
  CHECK(wait_for(scrubber, mended.passes + 2).passes > mended.passes);
  CHECK(calls_now() == before);
}

TEST_CASE("a slow scrub ends at once when it is stopped, switched off or its store goes") {
  TemporaryDirectory directory;
  const std::string path = directory.file("store");
  make_store(path);
  const auto wait_until_running = [&](const StoreScrubber& scrubber) {
    for (int i = 0; i < 6000 && !scrubber.status("web-1").running; ++i) std::this_thread::sleep_for(5ms);
    REQUIRE(scrubber.status("web-1").running);
  };
  const ScrubSettings slow{1, 1'000'000};  // a byte a second: it would take a day
  {
    StoreScrubber scrubber;
    scrubber.set(at(path), slow);
    wait_until_running(scrubber);
    CHECK(scrubber.status("web-1").passes == 0);
  }
  StoreScrubber scrubber;
  scrubber.set(at(path), slow);
  wait_until_running(scrubber);
  scrubber.set(at(path), {0, 1'000'000});
  for (int i = 0; i < 6000 && scrubber.status("web-1").running; ++i) std::this_thread::sleep_for(5ms);
  CHECK_FALSE(scrubber.status("web-1").running);
  CHECK(scrubber.status("web-1").last_error.find("stopped") != std::string::npos);
  scrubber.set(at(path), slow);
  wait_until_running(scrubber);
  scrubber.set(at(path), eager());  // a new rate counts for the pass that runs
  CHECK(wait_for(scrubber, 1).passes >= 1);
  scrubber.set({}, eager());
  CHECK_FALSE(scrubber.status("web-1").running);
}

TEST_CASE("a store that is not there yet is no error") {
  TemporaryDirectory directory;
  StoreScrubber scrubber;
  scrubber.set(at(directory.file("store")), eager());
  std::this_thread::sleep_for(50ms);
  CHECK(scrubber.status("web-1").last_error.empty());
  CHECK(scrubber.status("web-1").passes == 0);
  make_store(directory.file("store"));
  CHECK(wait_for(scrubber, 1).passes >= 1);
}

}  // namespace
}  // namespace understudy
