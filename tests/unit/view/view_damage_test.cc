// SPDX-License-Identifier: Apache-2.0
// A view never hands out bytes that are not what was captured, and holds still while the stream goes on.
#include <algorithm>
#include <string>

#include "daemon/store/store.h"
#include "daemon/view/damage_reach.h"
#include "daemon/view/view.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

StoreOptions options_on(MemoryFileSystem& files) {
  StoreOptions options;
  options.directory = "/store";
  options.segment_bytes_max = 64 << 10;
  options.file_system = &files;
  return options;
}

// Number of disks of a view that could be read; each must then be exact.
unsigned readable_disks(const PointInTimeView& view, const Model& model, std::string& errors) {
  unsigned readable = 0;
  for (const DiskGeometry& disk : model.geometry) {
    std::vector<std::byte> got(disk.size_bytes);
    if (const Status status = view.read(disk.disk, 0, got); !status.ok()) {
      CHECK(status.error().kind() == ErrorKind::kCorrupt);
      errors += status.error().message() + "\n";
      continue;
    }
    ++readable;
    CHECK(got == model.content.at(disk.disk));
  }
  return readable;
}

TEST_CASE("a flipped byte is an error of the read that needs it, never other data") {
  MemoryFileSystem files;
  StreamMaker maker(21);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  Model model;
  while (maker.next_seq() < 300 || !model.whole) {
    const Seq from = maker.next_seq();
    REQUIRE(store->append(maker.next_batch()).ok());
    for (Seq seq = from; seq < maker.next_seq(); ++seq) model.apply(maker.history()[seq - 1]);
  }
  const Seq end = store->commit().value();
  std::mt19937_64 random(21);
  unsigned refused = 0;
  for (int round = 0; round < 400; ++round) {
    const std::vector<std::string> paths = files.paths();
    const std::string path = paths[random() % paths.size()];
    std::vector<std::byte>& content = files.content(path);
    if (content.empty() || path.ends_with("MANIFEST")) continue;
    const std::size_t at = random() % content.size();
    CAPTURE(path);
    CAPTURE(at);
    content[at] ^= std::byte{0x20};
    std::string errors;
    const auto view = PointInTimeView::open(*store, Point{end, 0, false});
    if (!view.ok()) {
      CHECK(view.error().message().find(".wal") != std::string::npos);
      ++refused;
    } else if (readable_disks(**view, model, errors) < model.geometry.size()) {
      ++refused;
      CHECK(errors.find(path.substr(path.rfind('/') + 1)) != std::string::npos);
    }
    content[at] ^= std::byte{0x20};
  }
  CHECK(refused > 20);
}

// Sector by sector, whether it can be read.
std::vector<bool> readable_sectors(const PointInTimeView& view, const DiskGeometry& disk) {
  std::vector<bool> readable;
  std::vector<std::byte> sector(512);
  for (std::uint64_t at = 0; at < disk.size_bytes; at += 512) readable.push_back(view.read(disk.disk, at, sector).ok());
  return readable;
}

TEST_CASE("what damage is said to have taken from the newest point is what can't be read of it") {
  MemoryFileSystem files;
  StreamMaker maker(26);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  Model model;
  while (maker.next_seq() < 300 || !model.whole) {
    const Seq from = maker.next_seq();
    REQUIRE(store->append(maker.next_batch()).ok());
    for (Seq seq = from; seq < maker.next_seq(); ++seq) model.apply(maker.history()[seq - 1]);
  }
  const Seq end = store->commit().value();
  std::mt19937_64 random(26);
  unsigned lost = 0;
  for (int round = 0; round < 60; ++round) {
    const std::vector<std::string> paths = files.paths();
    const std::string path = paths[random() % paths.size()];
    std::vector<std::byte>& content = files.content(path);
    if (content.empty() || path.ends_with("MANIFEST")) continue;
    const std::size_t at = random() % content.size();
    CAPTURE(path);
    CAPTURE(at);
    content[at] ^= std::byte{0x20};
    std::vector<Damage> damages;
    (void)store->scrub([&](const Damage& damage) { damages.push_back(damage); }, {});
    const auto view = PointInTimeView::open(*store, Point{end, 0, false});
    const auto reach = find_damage_reach(*store, damages, 1000);
    if (view.ok() && reach.ok()) {
      for (const DiskGeometry& disk : model.geometry) {
        const std::vector<bool> readable = readable_sectors(**view, disk);
        for (std::uint64_t sector = 0; sector < readable.size(); ++sector) {
          const std::uint64_t offset = sector * 512;
          const bool named = std::any_of(reach->extents.begin(), reach->extents.end(), [&](const auto& extent) {
            return extent.disk == disk.disk && offset >= extent.offset_bytes &&
                   offset < extent.offset_bytes + extent.length_bytes;
          });
          REQUIRE(named == !readable[sector]);
        }
      }
      CHECK(reach->newest == !reach->extents.empty());
      lost += reach->newest;
    }
    content[at] ^= std::byte{0x20};
  }
  CHECK(lost > 5);
}

TEST_CASE("what was read and proved once is proved again when it is read again") {
  MemoryFileSystem files;
  StreamMaker maker(25);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  // Large records, in the base image and, not compressible, in the journal.
  const std::uint64_t large = 100 << 10;
  std::vector<std::byte> noise(2 * large);
  for (std::byte& b : noise) b = static_cast<std::byte>(maker.random()());
  const std::vector<std::byte> first(noise.begin(), noise.begin() + large);
  const std::vector<std::byte> second(noise.begin() + large, noise.end());
  std::vector<OwnedRecord> records;
  records.push_back(
      make_record(RecordKind::kGeometry, 0, 0, 0,
                  encode_geometry(std::vector<DiskGeometry>{{0, maker.server(), "vda", 2 * large, 512}})));
  records.push_back(make_record(RecordKind::kGap, 0, 0, 0, encode_gap({GapReason::kInitialCopy})));
  records.push_back(make_record(RecordKind::kCopy, 0, 0, large, first, kRecordInitial));
  records.push_back(make_record(RecordKind::kHeal, 0, 0, 0, {}));
  records.push_back(make_record(RecordKind::kWrite, 0, large, large, second));
  REQUIRE(store->append(maker.encode(std::move(records))).ok());
  const Seq end = store->commit().value();
  const std::unique_ptr<PointInTimeView> view = PointInTimeView::open(*store, Point{end, 0, false}).value();
  std::vector<std::byte> all(2 * large);
  REQUIRE(view->read(0, 0, all).ok());
  REQUIRE(all == noise);
  unsigned refused = 0;
  for (const std::string& path : files.paths()) {
    if (!path.ends_with(".wal") && !path.ends_with(".img")) continue;
    std::vector<std::byte>& content = files.content(path);
    for (int i = 0; i < 60; ++i) {
      const std::size_t at = maker.random()() % content.size();
      content[at] ^= std::byte{1};
      for (std::uint64_t offset = 0; offset < 2 * large; offset += 10240) {
        std::vector<std::byte> part(10240);
        const Status status = view->read(0, offset, part);
        if (!status.ok()) {
          CHECK(status.error().kind() == ErrorKind::kCorrupt);
          CHECK(status.error().message().find(path.substr(path.rfind('/') + 1)) != std::string::npos);
          ++refused;
        } else {
          REQUIRE(std::equal(part.begin(), part.end(), noise.begin() + static_cast<std::ptrdiff_t>(offset)));
        }
      }
      content[at] ^= std::byte{1};
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("history is readable up to the damage, which the timeline names") {
  MemoryFileSystem files;
  StreamMaker maker(22);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  while (files.paths().size() < 9) {
    REQUIRE(store->append(maker.next_batch()).ok());
    REQUIRE(store->commit().ok());
  }
  const Seq end = store->position().seq;
  store = nullptr;
  std::vector<std::string> segments;
  for (const std::string& path : files.paths())
    if (path.ends_with(".wal")) segments.push_back(path);
  REQUIRE(segments.size() > 3);
  std::vector<std::byte>& content = files.content(segments[segments.size() / 2]);
  content[content.size() - 30] ^= std::byte{1};  // payload of a batch in the middle: only a scrub or a read sees it
  content[700] ^= std::byte{1};                  // and something in the first frame: the tables end here
  store = Store::open(options_on(files), OpenMode::kReadOnly, {}).value();
  const Timeline timeline = read_timeline(*store).value();
  REQUIRE(timeline.damage.has_value());
  CHECK(segments[segments.size() / 2].ends_with(timeline.damage->object));
  CHECK(timeline.last_seq < end);
  CHECK(timeline.damage->first_seq == timeline.last_seq + 1);
  const Result<Point> behind = resolve_point(timeline, "seq:" + std::to_string(end));
  REQUIRE(!behind.ok());
  CHECK(behind.error().message().find("behind the damage") != std::string::npos);
  Model model;
  for (Seq seq = 1; seq <= timeline.last_seq; ++seq) model.apply(maker.history()[seq - 1]);
  if (model.whole) {
    std::string errors;
    const auto view = PointInTimeView::open(*store, Point{timeline.last_seq, 0, false});
    REQUIRE(view.ok());
    CHECK(readable_disks(**view, model, errors) == model.geometry.size());
  }
}

TEST_CASE("a view holds still while the stream goes on, and outlives the store") {
  MemoryFileSystem files;
  StreamMaker maker(23);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  Model model;
  while (maker.next_seq() < 150 || !model.whole) {
    const Seq from = maker.next_seq();
    REQUIRE(store->append(maker.next_batch()).ok());
    for (Seq seq = from; seq < maker.next_seq(); ++seq) model.apply(maker.history()[seq - 1]);
  }
  const Seq point = store->commit().value();
  const std::unique_ptr<PointInTimeView> view = PointInTimeView::open(*store, Point{point, 0, false}).value();
  for (int i = 0; i < 80; ++i) {
    REQUIRE(store->append(maker.next_batch()).ok());
    REQUIRE(store->commit().ok());
  }
  store = nullptr;
  std::string errors;
  CHECK(readable_disks(*view, model, errors) == model.geometry.size());
  std::vector<std::byte> one(1);
  const DiskGeometry& disk = model.geometry.front();
  CHECK(view->read(disk.disk, disk.size_bytes, one).error().kind() == ErrorKind::kInvalidArgument);
  CHECK(view->read(60, 0, one).error().kind() == ErrorKind::kNotFound);
  CHECK(view->extent_at(disk.disk, disk.size_bytes).length_bytes == 0);
}

TEST_CASE("appended but not committed records are not shown") {
  MemoryFileSystem files;
  StreamMaker maker(24);
  std::unique_ptr<Store> store = Store::create(options_on(files), {maker.server(), "web-1", 1}).value();
  REQUIRE(store->append(maker.next_batch()).ok());
  CHECK(read_timeline(*store)->last_seq == 0);
  CHECK(store->position().seq == 0);
  const Seq end = store->commit().value();
  CHECK(read_timeline(*store)->last_seq == end);
}

}  // namespace
}  // namespace understudy
