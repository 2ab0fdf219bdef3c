// SPDX-License-Identifier: Apache-2.0
// The oracle must be believed by everything else, so it is shown here to catch each kind of wrong image and to accept
// what is only in-flight freedom.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/integration/oracle/prefix_check.h"
#include "tests/integration/oracle/stamp.h"
#include "tests/integration/oracle/write_load.h"

using namespace understudy::oracle;

namespace {

constexpr std::uint64_t kRun = 77;
constexpr std::uint64_t kWall = 1'000'000'000;  // wall clock = boot clock + this, in the scripts below

// A scripted run on two disks of 64 sectors, and the image bytes a test builds by applying operations by number.
struct Script {
  LogContent log;
  std::vector<std::vector<std::byte>> disks;

  Script() : disks(2, std::vector<std::byte>(64 * kSectorBytes)) {
    log.header.run = kRun;
    log.header.target_count = 2;
    for (std::uint32_t id = 0; id < 2; ++id) log.header.targets[id] = LogTarget{.id = id, .is_file = 0, .sectors = 64};
  }

  // complete = 0: still in flight when the log ends.
  std::uint64_t add(OperationKind kind, std::uint16_t disk, std::uint64_t sector, std::uint32_t sectors,
                    std::uint64_t submit, std::uint64_t complete) {
    LogSlot slot{.number = log.slots.size() + 1, .target = disk, .kind = kind, .sector = sector, .sectors = sectors};
    slot.state = complete == 0 ? OperationState::kSubmitted : OperationState::kCompleted;
    slot.submit_boot_ns = submit;
    slot.submit_wall_ns = submit + kWall;
    slot.complete_boot_ns = complete;
    slot.complete_wall_ns = complete == 0 ? 0 : complete + kWall;
    log.slots.push_back(slot);
    return slot.number;
  }
  std::uint64_t write(std::uint16_t disk, std::uint64_t sector, std::uint32_t sectors, std::uint64_t submit,
                      std::uint64_t complete) {
    return add(OperationKind::kWrite, disk, sector, sectors, submit, complete);
  }
  std::uint64_t zero(std::uint16_t disk, std::uint64_t sector, std::uint32_t sectors, std::uint64_t submit,
                     std::uint64_t complete) {
    return add(OperationKind::kZero, disk, sector, sectors, submit, complete);
  }
  void flush(std::uint16_t disk, std::uint64_t submit, std::uint64_t complete) {
    add(OperationKind::kFlush, disk, 0, 0, submit, complete);
  }

  // Puts sectors [first, first + count) of an operation into the image; count 0 = all of it.
  void apply(std::uint64_t number, std::uint64_t first = 0, std::uint64_t count = 0) {
    const LogSlot& slot = log.slots[number - 1];
    for (std::uint64_t s = slot.sector + first; s < slot.sector + (count == 0 ? slot.sectors : first + count); ++s) {
      const std::span<std::byte, kSectorBytes> at(disks[slot.target].data() + s * kSectorBytes, kSectorBytes);
      if (slot.kind == OperationKind::kZero)
        std::memset(at.data(), 0, kSectorBytes);
      else
        write_stamp(Stamp{.run = kRun,
                          .write_number = number,
                          .sector = s,
                          .wall_ns = slot.submit_wall_ns,
                          .target = slot.target},
                    false, at);
    }
  }

  std::vector<ImageContent> observe(const History& history, std::string* ret_error) const {
    std::vector<ImageContent> images;
    for (std::uint32_t disk = 0; disk < 2; ++disk) {
      ImageContent image{.target = disk, .sectors = std::vector<std::uint32_t>(64)};
      for (std::uint64_t s = 0; s < 64 && ret_error->empty(); ++s)
        image.sectors[s] =
            identify_sector(history, disk, s, disks[disk].data() + s * kSectorBytes, ret_error).value_or(0);
      images.push_back(std::move(image));
    }
    return images;
  }

  // Empty = a prefix, else what the oracle says.
  std::string verdict() const {
    const History history({log});
    std::string error;
    const auto images = observe(history, &error);
    return error.empty() ? find_cut(history, images).contradiction : error;
  }

  Account count(const Requirements& requirements) const {
    const History history({log});
    std::string error;
    const auto images = observe(history, &error);
    const PrefixResult cut = find_cut(history, images);
    REQUIRE(error == "");
    REQUIRE(cut.contradiction == "");
    return account(history, images, cut, requirements);
  }
};

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("every prefix of a sequential run is accepted, on both disks") {
  for (std::uint64_t cut = 0; cut <= 20; ++cut) {
    Script script;
    for (std::uint64_t i = 0; i < 20; ++i)
      script.write(static_cast<std::uint16_t>(i % 2), (i * 5) % 60, 4, 100 * i + 1, 100 * i + 50);
    for (std::uint64_t number = 1; number <= cut; ++number) script.apply(number);
    CHECK(script.verdict() == "");
  }
}

TEST_CASE("a lost write is caught") {
  Script script;
  const auto a = script.write(0, 0, 8, 10, 20);
  const auto b = script.write(0, 8, 8, 30, 40);
  const auto c = script.write(0, 16, 8, 50, 60);
  script.apply(a);
  script.apply(c);
  CHECK(contains(script.verdict(), "disk 0 sector 8 holds the zeros of the start and lacks write 2"));
  script.apply(b);
  CHECK(script.verdict() == "");
}

TEST_CASE("one lost sector in the middle of a write is caught") {
  Script script;
  const auto a = script.write(0, 0, 8, 10, 20);
  const auto b = script.write(0, 0, 8, 30, 40);
  const auto c = script.write(1, 0, 1, 50, 60);
  script.apply(a);
  script.apply(b, 0, 3);
  script.apply(b, 4, 4);
  script.apply(c);
  CHECK(contains(script.verdict(), "disk 0 sector 3 holds write 1"));
}

TEST_CASE("a swapped pair of writes is caught") {
  Script script;
  const auto a = script.write(0, 5, 2, 10, 20);
  const auto b = script.write(0, 5, 2, 30, 40);
  const auto c = script.write(0, 50, 2, 50, 60);
  script.apply(b);
  script.apply(a);
  CHECK(script.verdict() == "");  // without the third one it is just the earlier prefix
  script.apply(c);
  CHECK(contains(script.verdict(), "holds write 1 (sectors 5+2) and lacks write 2"));
}

TEST_CASE("writes swapped between two disks are caught") {
  Script script;
  script.write(0, 0, 1, 10, 20);
  const auto b = script.write(1, 0, 1, 30, 40);
  script.apply(b);
  CHECK(contains(script.verdict(), "disk 1 sector 0 holds write 2"));
}

TEST_CASE("a stale sector is caught") {
  Script script;
  const auto a = script.write(0, 0, 16, 10, 20);
  const auto b = script.write(0, 0, 16, 30, 40);
  const auto c = script.write(0, 32, 1, 50, 60);
  script.apply(a);
  script.apply(b);
  script.apply(c);
  script.apply(a, 7, 1);
  CHECK(contains(script.verdict(), "disk 0 sector 7 holds write 1"));
}

TEST_CASE("a torn flush order is caught and the flush named") {
  Script script;
  script.write(0, 0, 4, 10, 20);
  script.flush(0, 21, 29);
  const auto after = script.write(0, 8, 4, 30, 40);
  script.apply(after);
  CHECK(contains(script.verdict(), "with flush 2 between them"));
}

TEST_CASE("an invented, a misplaced, a torn and an older run's sector are caught") {
  Script script;
  const auto a = script.write(0, 0, 4, 10, 20);
  script.apply(a);
  const std::span<std::byte, kSectorBytes> at(script.disks[0].data() + 9 * kSectorBytes, kSectorBytes);
  SUBCASE("a write number that was never given") {
    write_stamp(Stamp{.run = kRun, .write_number = 9, .sector = 9}, false, at);
    CHECK(contains(script.verdict(), "holds write 9 of run 77, which no log knows"));
  }
  SUBCASE("another run") {
    write_stamp(Stamp{.run = kRun + 1, .write_number = 1, .sector = 9}, false, at);
    CHECK(contains(script.verdict(), "which no log knows"));
  }
  SUBCASE("right stamp, wrong place") {
    std::memcpy(at.data(), script.disks[0].data(), kSectorBytes);
    CHECK(contains(script.verdict(), "belongs to disk 0 sector 0 (misplaced)"));
  }
  SUBCASE("outside its write") {
    write_stamp(Stamp{.run = kRun, .write_number = 1, .sector = 9, .wall_ns = 10 + kWall}, false, at);
    CHECK(contains(script.verdict(), "misplaced"));
  }
  SUBCASE("one flipped bit") {
    script.disks[0][3 * kSectorBytes + 300] ^= std::byte{1};
    CHECK(contains(script.verdict(), "disk 0 sector 3 holds bytes that no stamped write made"));
  }
}

TEST_CASE("writes in flight at the cut may be present, absent or torn") {
  for (unsigned present = 0; present < 16; ++present) {
    Script script;
    const auto before = script.write(0, 0, 2, 10, 20);
    const auto a = script.write(0, 10, 2, 30, 60);
    const auto b = script.write(1, 10, 2, 31, 50);
    script.apply(before);
    for (unsigned bit = 0; bit < 4; ++bit)
      if (present >> bit & 1) script.apply(bit < 2 ? a : b, bit % 2, 1);
    CHECK(script.verdict() == "");
  }
}

TEST_CASE("freedom ends where no common cut is left") {
  Script script;
  script.write(0, 0, 1, 10, 100);  // in flight all the time
  const auto b = script.write(0, 1, 1, 20, 30);
  script.write(0, 2, 1, 40, 50);  // completed before the next ...
  const auto d = script.write(0, 3, 1, 60, 70);
  script.apply(b);
  CHECK(script.verdict() == "");
  script.apply(d);
  CHECK(contains(script.verdict(), "lacks write 3"));  // ... so it cannot be missing beside it
}

TEST_CASE("zeroing is part of the order") {
  Script script;
  const auto a = script.write(0, 0, 4, 10, 20);
  const auto z = script.zero(0, 0, 4, 30, 40);
  const auto c = script.write(0, 8, 4, 50, 60);
  script.apply(a);
  SUBCASE("applied") {
    script.apply(z);
    script.apply(c);
    CHECK(script.verdict() == "");
  }
  SUBCASE("lost") {
    script.apply(c);
    CHECK(contains(script.verdict(), "holds write 1 (sectors 0+4) and lacks zeroing 2"));
  }
  SUBCASE("invented: the sector was never zero when the other one was there") {
    const auto d = script.write(0, 0, 4, 70, 80);
    const auto e = script.write(0, 20, 4, 90, 95);
    script.apply(c);
    script.apply(d);
    script.apply(e);
    script.apply(z);
    CHECK(contains(script.verdict(), "reads zero") != contains(script.verdict(), "lacks write"));
  }
}

TEST_CASE("zero sectors choose their zeroing together") {
  Script script;  // two sectors, each zeroed and written in turn, so that both are zero only early or late
  script.write(0, 0, 1, 10, 20);
  script.zero(0, 0, 1, 30, 40);
  script.write(0, 0, 1, 50, 60);
  script.write(0, 1, 1, 70, 80);
  SUBCASE("both zero before the first write or between zeroing and the second") { CHECK(script.verdict() == ""); }
  SUBCASE("with a third sector that pins the cut to a time when one of them was not") {
    const auto pin = script.write(0, 5, 1, 90, 95);
    script.apply(pin);
    CHECK(script.verdict() != "");
  }
}

TEST_CASE("a log with two operations in flight on one sector is refused") {
  Script script;
  script.write(0, 0, 4, 10, 30);
  script.write(0, 3, 4, 20, 40);
  CHECK(contains(script.verdict(), "in flight on one sector at once"));
}

TEST_CASE("loss is counted and dated") {
  Script script;
  const auto a = script.write(0, 0, 1, 1'000'000, 2'000'000);
  script.flush(0, 2'000'001, 3'000'000);
  script.write(0, 1, 1, 4'000'000, 5'000'000);
  script.flush(0, 5'000'001, 6'000'000);
  script.write(0, 2, 1, 7'000'000, 8'000'000);
  script.write(0, 3, 1, 8'500'000, 0);
  script.apply(a);
  Requirements requirements{.kill_ns = 10'000'000 + kWall};
  Account counted = script.count(requirements);
  CHECK(counted.missing_completed == 2);
  CHECK(counted.missing_flushed == 1);
  CHECK(counted.newest_contained_number == 1);
  CHECK(counted.rpo_ms == doctest::Approx(5.0));
  CHECK(counted.rpo_flushed_ms == doctest::Approx(4.0));
  CHECK(counted.violations.empty());

  requirements.flushed_before_ns = 6'000'000 + kWall;
  CHECK(script.count(requirements).violations.empty());
  requirements.flushed_before_ns = 6'000'001 + kWall;
  REQUIRE(script.count(requirements).violations.size() == 1);
  CHECK(contains(script.count(requirements).violations[0], "lost: write 3"));

  requirements = {.completed_before_ns = kNever};
  CHECK(contains(script.count(requirements).violations.at(0), "lost: write 3"));  // the oldest one is named
  requirements = {.not_after_ns = 999'999 + kWall};
  CHECK(contains(script.count(requirements).violations.at(0), "later than allowed: write 1"));
}

TEST_CASE("a real run on a file is verified from its log, and not with a byte changed") {
  char directory[] = "/tmp/oracle_test.XXXXXX";
  REQUIRE(::mkdtemp(directory) != nullptr);
  const std::string path = std::string(directory) + "/target";
  std::ofstream(path).close();
  std::filesystem::resize_file(path, 8 << 20);
  LoadOptions options{.targets = {{.id = 3, .path = path}}, .log_path = std::string(directory) + "/log"};
  options.operations_max = 2000;
  options.write_bytes_max = 64 << 10;
  const std::atomic<bool> never = false;
  const LoadSummary summary = run_load(options, never);
  CHECK(summary.first_error == "");
  CHECK(summary.operations >= 2000);

  const History history({read_log(options.log_path)});
  const std::vector<ImageContent> images = {read_image(history, 0, path, 0)};
  const PrefixResult cut = find_cut(history, images);
  CHECK(cut.contradiction == "");
  CHECK(account(history, images, cut, {.completed_before_ns = kNever}).violations.empty());

  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(4 << 20).put('\x2a');
  file.close();
  CHECK_THROWS_AS(read_image(history, 0, path, 0), std::runtime_error);
  std::filesystem::remove_all(directory);
}
