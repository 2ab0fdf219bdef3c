// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/disk_inspect.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/temporary_directory.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;

// A sysfs of one disk 8:16 "sdb" with a partition, below a temporary directory.
struct FakeSysfs {
  TemporaryDirectory directory;
  fs::path root = directory.path();
  fs::path disk = root / "devices" / "sdb";
  InspectRoots roots{root.string(), (root / "mountinfo").string()};
  DiskInfo info;

  FakeSysfs() {
    info.path = "/dev/sdb";
    info.device = 8 << 20 | 16;
    put(disk / "ro", "0");
    put(disk / "diskseq", "42");
    put(disk / "queue/zoned", "none");
    put(disk / "queue/dax", "0");
    put(disk / "queue/write_cache", "write back");
    put(disk / "sdb1/partition", "1");
    put(disk / "sdb1/dev", "8:17");
    fs::create_directories(root / "dev/block");
    fs::create_directory_symlink(disk, root / "dev/block/8:16");
    fs::create_directory_symlink(disk / "sdb1", root / "dev/block/8:17");
    put(root / "mountinfo", "36 35 254:0 / / rw - ext4 /dev/vda rw");
  }
  static void put(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }
  void refused(ErrorKind kind, const std::string& why) {
    const Status status = inspect_sysfs(roots, info);
    REQUIRE(!status.ok());
    CHECK(status.error().kind() == kind);
    INFO(status.error().message());
    CHECK(status.error().message().find(why) != std::string::npos);
    CHECK(status.error().message().find("/dev/sdb") != std::string::npos);
  }
};

TEST_CASE("a plain disk is described") {
  FakeSysfs fake;
  fs::create_directories(fake.disk / "sdb1/holders/dm-0");
  FakeSysfs::put(fake.root / "mountinfo", "36 35 8:17 / /srv/my\\040data rw,noatime shared:1 - ext4 /dev/sdb1 rw");
  REQUIRE(inspect_sysfs(fake.roots, fake.info).ok());
  CHECK(fake.info.name == "sdb");
  CHECK(fake.info.sequence == 42);
  CHECK(fake.info.write_cache);
  CHECK(fake.info.partitions == std::vector<std::string>{"sdb1"});
  CHECK(fake.info.holders == std::vector<std::string>{"dm-0"});
  CHECK(fake.info.mount_points == std::vector<std::string>{"/srv/my data"});
}

TEST_CASE("a partition is refused and its disk named") {
  FakeSysfs fake;
  fake.info.device = 8 << 20 | 17;
  fake.refused(ErrorKind::kInvalidArgument, "partition 1 of 'sdb'");
}

TEST_CASE("disks without writes are refused") {
  FakeSysfs fake;
  FakeSysfs::put(fake.disk / "ro", "1");
  fake.refused(ErrorKind::kRefused, "read-only");
  FakeSysfs::put(fake.disk / "ro", "0");
  FakeSysfs::put(fake.root / "mountinfo", "36 35 8:17 / /mnt ro,noatime - ext4 /dev/sdb1 rw");
  fake.refused(ErrorKind::kRefused, "mounted read-only on '/mnt'");
  FakeSysfs::put(fake.root / "mountinfo", "36 35 8:17 / /mnt rw,noatime - ext4 /dev/sdb1 ro,errors=continue");
  fake.refused(ErrorKind::kRefused, "mounted read-only on '/mnt'");
  FakeSysfs::put(fake.root / "mountinfo",
                 "36 35 8:17 / /mnt ro - ext4 /dev/sdb1 rw\n37 35 8:17 / /rw rw - ext4 /dev/sdb1 rw");
  CHECK(inspect_sysfs(fake.roots, fake.info).ok());
}

TEST_CASE("devices whose writes the kernel reports elsewhere, or not at all, are refused") {
  FakeSysfs fake;
  fs::create_directories(fake.disk / "sdb1/holders/md0");
  FakeSysfs::put(fake.root / "block/md0/md/level", "raid1");
  CHECK(inspect_sysfs(fake.roots, fake.info).ok());
  for (const std::string level : {"raid0", "linear"}) {
    FakeSysfs::put(fake.root / "block/md0/md/level", level);
    fake.refused(ErrorKind::kUnsupported, "'sdb1' is a member of 'md0' (md " + level + ")");
  }
  fs::remove_all(fake.disk / "sdb1/holders/md0");
  fs::create_directories(fake.disk / "bcache");
  fake.refused(ErrorKind::kUnsupported, "bcache");
  fs::remove_all(fake.disk / "bcache");
  FakeSysfs::put(fake.disk / "queue/dax", "1");
  fake.refused(ErrorKind::kUnsupported, "DAX");
  FakeSysfs::put(fake.disk / "queue/dax", "0");
  FakeSysfs::put(fake.disk / "queue/zoned", "host-managed");
  fake.refused(ErrorKind::kRefused, "zoned (host-managed)");
}

TEST_CASE("paths that are no disks are refused by name") {
  const auto missing = inspect_disk("/dev/understudy-no-such-disk");
  REQUIRE(!missing.ok());
  CHECK(missing.error().kind() == ErrorKind::kNotFound);
  CHECK(missing.error().message().find("'/dev/understudy-no-such-disk'") != std::string::npos);
  const auto not_block = inspect_disk("/dev/null");
  REQUIRE(!not_block.ok());
  CHECK(not_block.error().kind() == ErrorKind::kInvalidArgument);
  CHECK(not_block.error().message() == "disk '/dev/null' is not a block device");
}

}  // namespace
}  // namespace understudy
