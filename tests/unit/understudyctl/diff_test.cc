// SPDX-License-Identifier: Apache-2.0
// Differences by blocks against a comparison byte by byte, by files for every kind of change; the plot.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/temporary_directory.h"
#include "tools/understudyctl/block_diff.h"
#include "tools/understudyctl/plot.h"
#include "tools/understudyctl/tree_diff.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

// A view of disks in memory; a hole is what is all zeros in steps of `grain`, which need not be that of a block.
class MemoryView final : public PointInTimeView {
 public:
  MemoryView(std::vector<DiskGeometry> disks, std::vector<std::vector<std::byte>> contents, std::uint64_t grain)
      : disks_(std::move(disks)), contents_(std::move(contents)), grain_(grain) {}

  const Point& point() const override { return point_; }
  const std::vector<DiskGeometry>& disks() const override { return disks_; }
  Status read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    const std::vector<std::byte>& bytes = contents_.at(disk);
    REQUIRE(offset_bytes + out.size() <= bytes.size());
    std::memcpy(out.data(), bytes.data() + offset_bytes, out.size());
    return ok_status();
  }
  Status read_all(std::uint16_t, const DataSink&) const override { return ok_status(); }
  Extent extent_at(std::uint16_t disk, std::uint64_t offset_bytes) const override {
    const std::vector<std::byte>& bytes = contents_.at(disk);
    const bool zero = is_zero(bytes, offset_bytes);
    std::uint64_t end = offset_bytes;
    while (end < bytes.size() && is_zero(bytes, end) == zero) end = (end / grain_ + 1) * grain_;
    return {std::min<std::uint64_t>(end, bytes.size()) - offset_bytes, zero};
  }

 private:
  bool is_zero(const std::vector<std::byte>& bytes, std::uint64_t at) const {
    const std::uint64_t begin = at / grain_ * grain_;
    const std::uint64_t end = std::min<std::uint64_t>(begin + grain_, bytes.size());
    return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                       bytes.begin() + static_cast<std::ptrdiff_t>(end), [](std::byte b) { return b == std::byte{0}; });
  }
  std::vector<DiskGeometry> disks_;
  std::vector<std::vector<std::byte>> contents_;
  std::uint64_t grain_;
  Point point_;
};

std::vector<ChangedRange> naive_diff(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  std::vector<ChangedRange> ranges;
  const std::uint64_t size = std::min(a.size(), b.size());
  for (std::uint64_t block = 0; block < size; block += kDiffBlockBytes) {
    const std::uint64_t bytes = std::min(kDiffBlockBytes, size - block);
    if (std::memcmp(a.data() + block, b.data() + block, bytes) == 0) continue;
    if (!ranges.empty() && ranges.back().offset_bytes + ranges.back().length_bytes == block)
      ranges.back().length_bytes += bytes;
    else
      ranges.push_back({block, bytes});
  }
  return ranges;
}

TEST_CASE("blocks that differ are found wherever extents begin and end") {
  std::mt19937_64 random(7);
  const Uuid id = Uuid::random();
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const std::uint64_t size = (1 + random() % 4000) * 512 + (round % 3 == 0 ? 2 << 20 : 0);
    const std::uint64_t old_size = round % 4 == 0 ? size / 1024 * 512 + 512 : size;
    std::vector<std::byte> now(size);
    for (int i = 0; i < 8; ++i) {
      const std::uint64_t at = random() % size;
      const std::uint64_t end = std::min(size, at + random() % 100'000);
      for (std::uint64_t j = at; j < end; ++j) now[j] = static_cast<std::byte>(random());
    }
    std::vector<std::byte> old(now.begin(), now.begin() + static_cast<std::ptrdiff_t>(old_size));
    for (int i = 0; i < 6; ++i) {
      const std::uint64_t at = random() % old_size;
      const std::uint64_t end = std::min(old_size, at + (i % 2 == 0 ? 1 : random() % 50'000));
      for (std::uint64_t j = at; j < end; ++j) old[j] = i % 3 == 0 ? std::byte{0} : static_cast<std::byte>(random());
    }
    const MemoryView first({{0, id, "a", old_size, 512}}, {old}, 512);
    const MemoryView second({{0, id, "a", size, 512}}, {now}, round % 2 == 0 ? 512 : 3 * 512);
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    const auto diffs = diff_blocks(first, second, [&](std::uint64_t now_done, std::uint64_t all) {
      CHECK(now_done > done);
      done = now_done;
      total = all;
    });
    REQUIRE(diffs.ok());
    REQUIRE(diffs->size() == 1);
    CHECK((*diffs)[0].kind == DiskDiff::Kind::kBoth);
    CHECK((*diffs)[0].old_size_bytes == old_size);
    CHECK((*diffs)[0].ranges == naive_diff(old, now));
    CHECK(done == total);
    CHECK(total == std::min(size, old_size));
  }
}

TEST_CASE("disks that came and went, and one that took another's slot") {
  const Uuid kept = Uuid::random();
  const std::vector<std::byte> bytes(4096);
  const MemoryView first({{0, kept, "a", 4096, 512}, {1, Uuid::random(), "b", 4096, 512}}, {bytes, bytes}, 512);
  const MemoryView second({{0, kept, "a", 4096, 512}, {1, Uuid::random(), "c", 4096, 512}}, {bytes, bytes}, 512);
  const auto diffs = diff_blocks(first, second, [](std::uint64_t, std::uint64_t) {});
  REQUIRE(diffs.ok());
  REQUIRE(diffs->size() == 3);
  CHECK((*diffs)[0].changed_bytes() == 0);
  CHECK((*diffs)[1].kind == DiskDiff::Kind::kAdded);
  CHECK((*diffs)[1].disk.name == "c");
  CHECK((*diffs)[2].kind == DiskDiff::Kind::kRemoved);
  CHECK((*diffs)[2].disk.name == "b");
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

void set_time(const std::string& path, std::int64_t seconds) {
  const timespec times[2] = {{seconds, 5}, {seconds, 5}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

// The same tree in both directories, with equal times.
void make_tree(const std::string& root) {
  namespace fs = std::filesystem;
  fs::create_directories(root + "/dir/below");
  for (const char* name : {"same", "content", "size", "mode", "time", "gone", "to_dir", "dir/below/deep", "attributes"})
    write(root + "/" + name, std::string("content of ") + name);
  fs::create_symlink("same", root + "/link");
  fs::create_directory(root + "/to_file");
  write(root + "/to_file/inside", "x");
  for (const auto& entry : fs::recursive_directory_iterator(root)) set_time(entry.path().string(), 1'000'000);
}

TEST_CASE("trees differ in what changed and in nothing else") {
  namespace fs = std::filesystem;
  TemporaryDirectory directory;
  const std::string first = directory.path() + "/first";
  const std::string second = directory.path() + "/second";
  make_tree(first);
  make_tree(second);
  REQUIRE(diff_trees(first, second).ok());
  CHECK(diff_trees(first, second)->empty());

  write(second + "/content", "Content of content");  // same length and time: only the bytes tell
  set_time(second + "/content", 1'000'000);
  write(second + "/size", "longer than it was before");
  set_time(second + "/size", 1'000'000);
  fs::permissions(second + "/mode", fs::perms::owner_read);
  set_time(second + "/time", 1'000'001);
  fs::remove(second + "/gone");
  fs::remove(second + "/to_dir");
  fs::create_directory(second + "/to_dir");
  write(second + "/to_dir/new", "x");
  fs::remove_all(second + "/to_file");
  write(second + "/to_file", "x");
  fs::remove(second + "/link");
  fs::create_symlink("elsewhere", second + "/link");
  set_time(second + "/link", 1'000'000);
  fs::create_directory(second + "/new\n");
  write(second + "/new\n/file", "12345");
  const bool has_attributes = ::setxattr((second + "/attributes").c_str(), "user.a", "b", 1, 0) == 0;

  const Result<std::vector<TreeChange>> changes = diff_trees(first, second);
  REQUIRE_MESSAGE(changes.ok(), changes.error().message());
  std::set<std::string> found;
  for (const TreeChange& change : *changes) {
    std::string text = change.kind == TreeChange::Kind::kAdded     ? "+"
                       : change.kind == TreeChange::Kind::kRemoved ? "-"
                                                                   : "M";
    text += change.path;
    for (const std::string& what : change.what) text += " " + what;
    found.insert(text);
    if (change.path == "new\n/file") CHECK(change.new_size_bytes == 5);
  }
  std::set<std::string> expected{
      "Mcontent content", "Msize size content", "Mmode mode",      "Mtime time",   "-gone",  "Mto_dir type",
      "+to_dir/new",      "Mto_file type",      "-to_file/inside", "Mlink target", "+new\n", "+new\n/file"};
  if (has_attributes) expected.insert("Mattributes attributes");
  CHECK(found == expected);
}

TEST_CASE("a tree that is not there is an error that names it") {
  TemporaryDirectory directory;
  const auto changes = diff_trees(directory.path(), directory.path() + "/nothing");
  REQUIRE(!changes.ok());
  CHECK(changes.error().message().find("/nothing") != std::string::npos);
}

ChangeRate example_rate() {
  ChangeRate rate;
  rate.bucket_ns = 1'000'000'000;
  for (std::uint64_t i = 0; i < 10; ++i) rate.buckets.push_back({(100 + i) * rate.bucket_ns, i * 1024, 0, 0, i});
  return rate;
}

Timeline example_timeline() {
  Timeline timeline;
  timeline.gaps.push_back({1, 2, 90'000'000'000, 101'500'000'000, GapReason::kOverflow});
  timeline.gaps.push_back({8, 0, 108'000'000'000, 0, GapReason::kNewCapture});
  timeline.marks.push_back({5, 104'000'000'000, MarkInfo{"<upgrade>", Consistency::kCrash, ""}});
  timeline.marks.push_back({6, 500'000'000'000, MarkInfo{"beyond", Consistency::kCrash, ""}});
  return timeline;
}

TEST_CASE("the plot in text") {
  const std::string text = plot_text("web-1", example_rate(), example_timeline());
  CHECK(text.find("change rate of web-1") == 0);
  CHECK(text.find("45 KiB\n") != std::string::npos);  // in all
  CHECK(text.find("9 KiB/s       |         █") != std::string::npos);
  CHECK(text.find("\n              | ▇") != std::string::npos);  // the lowest row: nothing, then 1 of 9
  CHECK(text.find("0             +----------\n") != std::string::npos);
  CHECK(text.find("gaps           xx      xx\n") != std::string::npos);
  CHECK(text.find("marks              ^\n") != std::string::npos);
  CHECK(plot_text("idle", {1, {{5, 0, 0, 0, 0}}}, Timeline{}).find("0 B/s") != std::string::npos);
}

TEST_CASE("the plot as SVG") {
  const std::string svg = plot_svg("web-1", example_rate(), example_timeline());
  CHECK(svg.starts_with("<?xml"));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(svg.find("@&lt;upgrade&gt;") != std::string::npos);
  CHECK(svg.find("beyond") == std::string::npos);
  CHECK(svg.find("gap (overflow)") != std::string::npos);
  std::size_t bars = 0;
  for (auto at = svg.find("#3367d6"); at != std::string::npos; at = svg.find("#3367d6", at + 1)) ++bars;
  CHECK(bars == 9);
}

}  // namespace
}  // namespace understudy
