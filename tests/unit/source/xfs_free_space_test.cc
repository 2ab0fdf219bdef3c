// SPDX-License-Identifier: Apache-2.0
// Against xfs_db on images of both format versions; and damaged.
#include "daemon/source/xfs_free_space.h"

#include <filesystem>
#include <fstream>
#include <random>

#include "tests/unit/source/images.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

Result<ExtentList> free_of(const std::string& image) {
  const auto volume = open_volume(image, 0, std::filesystem::file_size(image), nullptr);
  REQUIRE(volume.ok());
  return xfs_free_space(**volume, 1);
}

void compare(const TemporaryDirectory& directory, const std::string& options, std::uint64_t block_bytes) {
  CAPTURE(options);
  const std::string image = make_xfs(directory.path(), options, 320 * kMiB);
  const auto found = free_of(image);
  REQUIRE_MESSAGE(found.ok(), found.error().message());
  const ExtentList all = free_by_xfs_db(image);
  REQUIRE(!all.empty());
  CHECK(subtracted(*found, all).empty());
  CHECK(total_bytes(all) - total_bytes(*found) == blocks_in_xfs_free_lists(image) * block_bytes);
}

TEST_CASE("the free extents of XFS file systems are those that xfs_db lists") {
  TemporaryDirectory directory;
  compare(directory, "", 4096);
  compare(directory, "-b size=1024", 1024);
  compare(directory, "-s size=4096", 4096);
  compare(directory, "-m crc=0", 4096);
  compare(directory, "-m crc=0 -b size=512 -l version=1", 512);
  compare(directory, "-m rmapbt=1,reflink=1,bigtime=1,inobtcount=1", 4096);
  compare(directory, "-m reflink=0,finobt=0", 4096);
  compare(directory, "-m crc=0,finobt=0 -n ftype=0", 4096);
  compare(directory, "-l su=65536 -d agcount=2,su=65536,sw=2", 4096);
  compare(directory, "-m uuid=01234567-89ab-cdef-0123-456789abcdef", 4096);
}

TEST_CASE("what is not plainly clean is refused") {
  TemporaryDirectory directory;
  const std::string image = make_xfs(directory.path(), "", 320 * kMiB);
  REQUIRE(free_of(image).ok());
  // A journal as xfs_admin leaves it, with blocks of no turn behind its head. After the next mount it is plain again.
  output_of("PATH=$PATH:/sbin:/usr/sbin xfs_admin -U 11111111-2222-3333-4444-555555555555 " + image);
  CHECK(free_of(image).error().kind() == ErrorKind::kBusy);
  // A repair is needed: found before anything else.
  output_of("PATH=$PATH:/sbin:/usr/sbin xfs_db -x -c 'sb 0' -c 'write features_incompat 0x1b' " + image);
  CHECK(free_of(image).error().kind() == ErrorKind::kUnsupported);
}

TEST_CASE("a damaged XFS gives the right list or none") {
  TemporaryDirectory directory;
  const std::string image = make_xfs(directory.path(), "-d agcount=2 -b size=1024", 320 * kMiB);
  MemoryVolume volume(bytes_of_file(image));
  const auto expected = xfs_free_space(volume, 1);
  REQUIRE(expected.ok());
  const std::size_t group_bytes = volume.size_bytes() / 2;
  std::mt19937_64 random(11);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    // Super block and headers, then the tree's and other blocks behind them, of either group.
    const std::size_t within = i < 1024 ? static_cast<std::size_t>(i) : i < 2000 ? random() % 2048 : random() % 32768;
    const std::size_t at = within + (i % 2 == 0 ? 0 : group_bytes);
    const std::byte before = volume.bytes()[at];
    volume.bytes()[at] ^= static_cast<std::byte>(random() % 3 == 0 ? 1 + random() % 255 : 1u << random() % 8);
    const auto found = xfs_free_space(volume, 1);
    if (!found.ok()) ++refused;
    if (found.ok()) REQUIRE(*found == *expected);
    volume.bytes()[at] = before;
  }
  CHECK(refused > 300);
}

}  // namespace
}  // namespace understudy
