// SPDX-License-Identifier: Apache-2.0
// One view that many threads read at once, with and without a spill file, and with one that is far too small.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "daemon/base/unique_fd.h"
#include "daemon/store/store.h"
#include "daemon/view/view.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kDiskBytes = (3 << 20) + 1536;  // the last region and the last block are not whole ones
constexpr std::uint64_t kSector = 512;

// A first copy in pieces of many sizes, then small and large writes, some in batches that are compressed.
struct Fixture {
  MemoryFileSystem files;
  StreamMaker maker{31};
  std::unique_ptr<Store> store;
  Model model;
  Seq end = 0;

  Fixture() {
    StoreOptions options;
    options.directory = "/store";
    options.segment_bytes_max = 1 << 20;
    options.file_system = &files;
    store = Store::create(options, {maker.server(), "web-1", 1}).value();
    std::vector<OwnedRecord> records;
    records.push_back(
        make_record(RecordKind::kGeometry, 0, 0, 0,
                    encode_geometry(std::vector<DiskGeometry>{{0, maker.server(), "vda", kDiskBytes, 512}})));
    records.push_back(make_record(RecordKind::kGap, 0, 0, 0, encode_gap({GapReason::kInitialCopy})));
    add(std::move(records));
    for (std::uint64_t at = 0; at < kDiskBytes;) {
      const std::uint64_t length = std::min((1 + random() % (random() % 2 == 0 ? 16 : 400)) * kSector, kDiskBytes - at);
      if (random() % 8 != 0) add_extent(RecordKind::kCopy, kRecordInitial, at, length);
      at += length;
    }
    records.push_back(make_record(RecordKind::kHeal, 0, 0, 0, {}));
    add(std::move(records));
    for (int i = 0; i < 400; ++i) {
      const std::uint64_t first = random() % (kDiskBytes / kSector);
      const std::uint64_t count = 1 + random() % (random() % 10 == 0 ? 300 : 16);
      const std::uint64_t length = std::min(count, kDiskBytes / kSector - first) * kSector;
      add_extent(random() % 6 == 0 ? RecordKind::kZero : RecordKind::kWrite, 0, first * kSector, length);
    }
    add(std::move(batch_));
    end = store->commit().value();
  }

  std::uint64_t random() { return maker.random()(); }

  void add_extent(RecordKind kind, std::uint8_t flags, std::uint64_t offset, std::uint64_t length) {
    std::vector<std::byte> payload(kind == RecordKind::kZero ? 0 : length);
    const bool noise = random() % 2 == 0;
    for (std::size_t at = 0; at < payload.size(); at += noise ? 1 : 32) payload[at] = static_cast<std::byte>(random());
    batch_.push_back(make_record(kind, 0, offset, length, std::move(payload), flags));
    if (random() % 8 == 0) add(std::move(batch_));
  }
  void add(std::vector<OwnedRecord> records) {
    batch_.clear();
    if (records.empty()) return;
    const Seq from = maker.next_seq();
    REQUIRE(store->append(maker.encode(std::move(records))).ok());
    for (Seq seq = from; seq < maker.next_seq(); ++seq) model.apply(maker.history()[seq - 1]);
  }

  std::unique_ptr<PointInTimeView> open(const ViewOptions& options) {
    auto view = PointInTimeView::open(*store, Point{end, 0, false}, options);
    REQUIRE_MESSAGE(view.ok(), view.error().message());
    return std::move(*view);
  }

 private:
  std::vector<OwnedRecord> batch_;
};

// Reads of all sizes, at random and in order; what was wrong, or "".
std::string read_around(const PointInTimeView& view, const std::vector<std::byte>& expected, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> got;
  const auto is_right = [&](std::uint64_t offset, std::uint64_t length) {
    got.assign(length, std::byte{0xee});
    return view.read(0, offset, got).ok() &&
           std::equal(got.begin(), got.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
  };
  for (int round = 0; round < 60; ++round) {
    const std::uint64_t offset = random() % expected.size();
    const std::uint64_t length_max = random() % 4 == 0 ? 1 << 20 : 8192;
    const std::uint64_t length = std::min<std::uint64_t>(1 + random() % length_max, expected.size() - offset);
    const std::string where = std::to_string(offset) + " + " + std::to_string(length);
    if (!is_right(offset, length)) return "read at " + where;
    const PointInTimeView::Extent extent = view.extent_at(0, offset);
    if (extent.length_bytes == 0 || extent.length_bytes > expected.size() - offset) return "extent at " + where;
    const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(offset);
    if (extent.zero && std::any_of(begin, begin + static_cast<std::ptrdiff_t>(extent.length_bytes),
                                   [](std::byte b) { return b != std::byte{0}; }))
      return "zeros at " + where;
    if (round % 20 != 10) continue;
    for (std::uint64_t at = 0; at < expected.size(); at += 128 << 10)
      if (!is_right(at, std::min<std::uint64_t>(128 << 10, expected.size() - at)))
        return "in order at " + std::to_string(at);
  }
  return "";
}

void read_with_threads(const PointInTimeView& view, const Model& model) {
  constexpr std::size_t kThreads = 8;
  std::vector<std::string> problems(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] { problems[i] = read_around(view, model.content.at(0), i); });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& problem : problems) CHECK(problem == "");
}

TEST_CASE_FIXTURE(Fixture, "many threads read one view at once, each byte as in the model") {
  const TemporaryDirectory directory;
  read_with_threads(*open({}), model);
  read_with_threads(*open({directory.path(), 64 << 20}), model);
  read_with_threads(*open({directory.path(), 256 << 10}), model);  // what is decoded is thrown out again and again
}

// The nameless files of this process that were in `directory`, opened for writing.
std::vector<UniqueFd> spill_files(const std::string& directory) {
  std::vector<UniqueFd> files;
  DIR* open_files = ::opendir("/proc/self/fd");
  REQUIRE(open_files != nullptr);
  while (const dirent* entry = ::readdir(open_files)) {
    const std::string link = std::string("/proc/self/fd/") + entry->d_name;
    char target[4096];
    const ssize_t length = ::readlink(link.c_str(), target, sizeof(target));
    if (length > 0 && std::string(target, static_cast<std::size_t>(length)).starts_with(directory))
      files.emplace_back(::open(link.c_str(), O_RDWR | O_CLOEXEC));
  }
  ::closedir(open_files);
  return files;
}

TEST_CASE_FIXTURE(Fixture, "what becomes of the spill file is never seen") {
  const TemporaryDirectory directory;
  const std::unique_ptr<PointInTimeView> view = open({directory.path(), 64 << 20});
  REQUIRE(read_around(*view, model.content.at(0), 1) == "");
  const std::vector<UniqueFd> spill = spill_files(directory.path());
  REQUIRE(spill.size() == 1);
  const auto bytes = static_cast<std::uint64_t>(::lseek(spill[0].get(), 0, SEEK_END));
  CHECK(bytes > 1 << 20);
  SUBCASE("bytes that change") {
    for (std::uint64_t at = 0; at < bytes; at += 3001) {
      std::byte b{};
      REQUIRE(::pread(spill[0].get(), &b, 1, static_cast<off_t>(at)) == 1);
      b ^= std::byte{1};
      REQUIRE(::pwrite(spill[0].get(), &b, 1, static_cast<off_t>(at)) == 1);
    }
  }
  SUBCASE("bytes that are lost") { REQUIRE(::ftruncate(spill[0].get(), static_cast<off_t>(bytes / 3)) == 0); }
  read_with_threads(*view, model);
}

TEST_CASE_FIXTURE(Fixture, "a spill that can't be created is an error that names the place") {
  const auto view = PointInTimeView::open(*store, Point{end, 0, false}, {"/nowhere/at/all", 1 << 20});
  REQUIRE(!view.ok());
  CHECK(view.error().kind() == ErrorKind::kNotFound);
  CHECK(view.error().message().find("/nowhere/at/all") != std::string::npos);
}

}  // namespace
}  // namespace understudy
