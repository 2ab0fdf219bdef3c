// SPDX-License-Identifier: Apache-2.0
// Against dumpe2fs on images of every layout; and damaged.
#include "daemon/source/ext_free_space.h"

#include <filesystem>
#include <random>

#include "tests/unit/source/images.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

Result<ExtentList> free_of(const std::string& image, std::uint64_t length_bytes_min = 1) {
  const auto volume = open_volume(image, 0, std::filesystem::file_size(image), nullptr);
  REQUIRE(volume.ok());
  return ext_free_space(**volume, length_bytes_min);
}

void compare(const TemporaryDirectory& directory, const std::string& options, std::uint64_t size_bytes) {
  CAPTURE(options);
  const std::string image = make_ext(directory.path(), options, size_bytes);
  const auto found = free_of(image);
  REQUIRE_MESSAGE(found.ok(), found.error().message());
  const ExtentList expected = free_by_dumpe2fs(image);
  REQUIRE(expected.size() > 20);
  CHECK(*found == expected);
}

TEST_CASE("the free extents of ext file systems are those that dumpe2fs lists") {
  TemporaryDirectory directory;
  compare(directory, "-t ext4", 160 * kMiB);
  compare(directory, "-t ext4 -b 1024", 100 * kMiB);
  compare(directory, "-t ext4 -b 2048 -N 20000", 100 * kMiB + 12345);
  compare(directory, "-t ext4 -O ^metadata_csum,uninit_bg", 400 * kMiB);
  compare(directory, "-t ext4 -O ^metadata_csum,^uninit_bg,^64bit -b 1024", 64 * kMiB);
  compare(directory, "-t ext4 -O ^64bit", 300 * kMiB);
  compare(directory, "-t ext4 -O ^flex_bg", 300 * kMiB);
  compare(directory, "-t ext4 -O meta_bg,^resize_inode -b 1024", 200 * kMiB);
  compare(directory, "-t ext4 -O meta_bg,^resize_inode,^flex_bg -b 1024 -g 1024", 200 * kMiB);
  compare(directory, "-t ext4 -O bigalloc -C 65536", 400 * kMiB);
  compare(directory, "-t ext4 -O bigalloc -b 1024 -C 16384", 200 * kMiB);
  compare(directory, "-t ext4 -O sparse_super2 -b 1024", 100 * kMiB);
  compare(directory, "-t ext4 -O ^sparse_super,^resize_inode -b 1024", 100 * kMiB);
  compare(directory, "-t ext4 -O metadata_csum_seed,inline_data,large_dir,quota,project,encrypt", 200 * kMiB);
  compare(directory, "-t ext4 -O fast_commit,orphan_file", 200 * kMiB);
  compare(directory, "-t ext4 -O ^has_journal", 200 * kMiB);
  compare(directory, "-t ext3", 200 * kMiB);
  compare(directory, "-t ext2 -b 1024", 64 * kMiB);
  compare(directory, "-t ext2 -r 0 -b 1024", 64 * kMiB);
}

TEST_CASE("short free extents are left out, and the volume may begin anywhere on a device") {
  TemporaryDirectory directory;
  const std::string image = make_ext(directory.path(), "-t ext4", 160 * kMiB);
  ExtentList expected;
  for (const Extent& extent : free_by_dumpe2fs(image)) {
    if (extent.length_bytes >= 65536) expected.push_back(extent);
  }
  CHECK(*free_of(image, 65536) == expected);
  output_of("truncate -s 4198912 " + directory.file("disk") + " && cat " + image + " >> " + directory.file("disk"));
  const auto volume = open_volume(directory.file("disk"), 4198912, 160 * kMiB, nullptr);
  REQUIRE(volume.ok());
  CHECK(*ext_free_space(**volume, 65536) == expected);
}

TEST_CASE("a file system that is in use, dirty or of an unknown kind is refused") {
  TemporaryDirectory directory;
  const std::string image = make_ext(directory.path(), "-t ext4", 64 * kMiB);
  const auto with = [&](const std::string& command) {
    output_of("PATH=$PATH:/sbin:/usr/sbin debugfs -w -R '" + command + "' " + image);
    const auto found = free_of(image);
    REQUIRE(!found.ok());
    return found.error();
  };
  REQUIRE(free_of(image).ok());
  CHECK(with("ssv free_blocks_count 77").kind() == ErrorKind::kCorrupt);
  CHECK(with("ssv state 0").kind() == ErrorKind::kBusy);
  CHECK(with("ssv state 3").kind() == ErrorKind::kBusy);
  output_of("PATH=$PATH:/sbin:/usr/sbin debugfs -w -R 'feature needs_recovery' " + image);
  CHECK(with("ssv state 1").kind() == ErrorKind::kBusy);
  output_of("PATH=$PATH:/sbin:/usr/sbin debugfs -w -R 'feature -needs_recovery mmp' " + image);
  CHECK(free_of(image).error().message() == "unknown incompatible features 0x100");
}

TEST_CASE("a damaged file system gives the right list or none") {
  TemporaryDirectory directory;
  for (const std::string options :
       {"-t ext4 -b 1024", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg", "-t ext2 -b 1024"}) {
    CAPTURE(options);
    const std::vector<std::byte> whole = bytes_of_file(make_ext(directory.path(), options, 24 * kMiB));
    MemoryVolume volume(whole);
    const auto expected = ext_free_space(volume, 1);
    REQUIRE(expected.ok());
    const bool checksums = options == "-t ext4 -b 1024";
    std::mt19937_64 random(7);
    int refused = 0;
    for (int i = 0; i < 6000; ++i) {
      // Every byte of the super block, then of descriptors, then of whatever stands in the first 300 blocks.
      const std::size_t at = i < 1024   ? 1024 + static_cast<std::size_t>(i)
                             : i < 3000 ? 2048 + random() % 2048
                                        : random() % (300 << 10);
      const std::byte before = volume.bytes()[at];
      volume.bytes()[at] ^= static_cast<std::byte>(random() % 3 == 0 ? 1 + random() % 255 : 1u << random() % 8);
      const auto found = ext_free_space(volume, 1);
      if (!found.ok()) ++refused;
      if (found.ok() && checksums) REQUIRE(*found == *expected);
      volume.bytes()[at] = before;
    }
    CHECK(refused > 50);  // without checksums most of what is there says nothing of blocks
  }
}

TEST_CASE("a volume that ends too early is refused") {
  TemporaryDirectory directory;
  std::vector<std::byte> bytes = bytes_of_file(make_ext(directory.path(), "-t ext4 -b 1024", 24 * kMiB));
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1500}, std::size_t{2048}, std::size_t{5000}, bytes.size() - 1024}) {
    MemoryVolume volume({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
    CHECK(!ext_free_space(volume, 1).ok());
  }
}

}  // namespace
}  // namespace understudy
