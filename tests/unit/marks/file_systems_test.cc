// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/file_systems.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

namespace fs = std::filesystem;

constexpr DeviceNumber device(std::uint32_t major, std::uint32_t minor) { return major << 20 | minor; }

// A made-up /sys: sda (8:0) with sda1 and sda2, on sda2 the LVM volumes dm-0 and dm-1, sdb (8:16) whole, and loop0.
class MadeUp {
 public:
  MadeUp() {
    char name[] = "/tmp/understudy-sysfs-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    root_ = name;
    fs::create_directories(root_ / "dev/block");
    fs::create_directories(root_ / "block");
    disk("sda", "8:0");
    partition("sda", "sda1", "8:1");
    partition("sda", "sda2", "8:2");
    disk("dm-0", "253:0");
    disk("dm-1", "253:1");
    hold("devices/sda/sda2", "dm-0");
    hold("devices/sda/sda2", "dm-1");
    disk("sdb", "8:16");
    disk("loop0", "7:0");
    disk("loop1", "7:1");
    devices.sysfs = root_;
    devices.device_of_node = [](const std::string& path) { return path == "/dev/sdb" ? device(8, 16) : 0; };
  }
  ~MadeUp() { fs::remove_all(root_); }

  void loop(const std::string& name, const std::string& file) {
    write(root_ / "devices" / name / "loop/backing_file", file);
  }
  void disk(const std::string& name, const std::string& number) {
    write(root_ / "devices" / name / "dev", number);
    fs::create_symlink(root_ / "devices" / name, root_ / "dev/block" / number);
    fs::create_symlink(root_ / "devices" / name, root_ / "block" / name);
  }
  void hold(const std::string& lower, const std::string& upper) {
    fs::create_directories(root_ / lower / "holders" / upper);
  }
  std::vector<FileSystemMounts> on(const std::vector<DeviceNumber>& disks, const std::string& mountinfo) const {
    return file_systems_on(disks, parse_mounts(mountinfo), devices);
  }

  BlockDevices devices;

 private:
  void partition(const std::string& disk_name, const std::string& name, const std::string& number) {
    const fs::path path = root_ / "devices" / disk_name / name;
    write(path / "dev", number);
    write(path / "partition", "1");
    fs::create_symlink(path, root_ / "dev/block" / number);
  }
  static void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }
  fs::path root_;
};

std::vector<std::string> first_points(const std::vector<FileSystemMounts>& found) {
  std::vector<std::string> points;
  for (const FileSystemMounts& file_system : found) points.push_back(file_system.mount_points.front());
  return points;
}

const std::string kMounts = R"(22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/root rw
23 22 0:5 / /dev rw,nosuid - devtmpfs udev rw,size=1k
24 22 8:1 / /boot rw,relatime shared:2 - ext4 /dev/sda1 rw
25 22 253:1 / /var/lib\040x rw - xfs /dev/mapper/var rw,attr2
26 22 8:16 / /data rw - xfs /dev/sdb rw
27 22 8:32 / /other rw - ext4 /dev/sdc rw
)";

}  // namespace

TEST_CASE("file systems: of a disk, its partitions and what is stacked on them, the upper first") {
  const MadeUp made;
  CHECK(first_points(made.on({device(8, 0)}, kMounts)) == std::vector<std::string>{"/var/lib x", "/", "/boot"});
  CHECK(first_points(made.on({device(8, 16)}, kMounts)) == std::vector<std::string>{"/data"});
  CHECK(first_points(made.on({device(8, 16), device(8, 0)}, kMounts)) ==
        std::vector<std::string>{"/var/lib x", "/", "/boot", "/data"});
  CHECK(made.on({device(8, 48)}, kMounts).empty());
}

TEST_CASE("file systems: bind mounts and second mounts are the same one, its own root is preferred") {
  const MadeUp made;
  const auto found = made.on({device(8, 16)}, R"(30 1 8:16 /etc/hosts /run/container/hosts rw - xfs /dev/sdb rw
31 1 8:16 /sub /srv/sub rw - xfs /dev/sdb rw
32 1 8:16 / /mnt/second ro - xfs /dev/sdb rw
33 1 8:16 / /data rw - xfs /dev/sdb rw
)");
  REQUIRE(found.size() == 1);
  CHECK(found[0].type == "xfs");
  CHECK(found[0].mount_points.size() == 4);
  CHECK(found[0].mount_points[0] == "/data");
  CHECK(found[0].mount_points[1] == "/mnt/second");
}

TEST_CASE("file systems: one that is read-only has nothing to freeze") {
  const MadeUp made;
  CHECK(made.on({device(8, 16)}, "30 1 8:16 / /data ro - xfs /dev/sdb ro,attr2\n").empty());
  CHECK(made.on({device(8, 16)}, "30 1 8:16 / /data ro - xfs /dev/sdb rw,attr2\n").size() == 1);
}

TEST_CASE("file systems: in files of protected ones come before these, however deep") {
  MadeUp made;
  made.loop("loop0", "/data/images/inner.img");
  made.loop("loop1", "/mnt/inner/innermost.img");
  const std::string mounts = kMounts + R"(40 22 7:0 / /mnt/inner rw - ext4 /dev/loop0 rw
41 40 7:1 / /mnt/innermost rw - ext4 /dev/loop1 rw
)";
  CHECK(first_points(made.on({device(8, 16)}, mounts)) ==
        std::vector<std::string>{"/mnt/innermost", "/mnt/inner", "/data"});
  // The file lies on "/", which is no file system of sdb; and /database is not below /data.
  made.loop("loop0", "/database/inner.img");
  CHECK(first_points(made.on({device(8, 16)}, mounts)) == std::vector<std::string>{"/data"});
}

TEST_CASE("file systems: those without a device number of their own are found by their source") {
  const MadeUp made;
  const auto found =
      made.on({device(8, 16)}, "30 1 0:44 /@ / rw - btrfs /dev/sdb rw\n31 1 0:45 / /p rw - tmpfs tmpfs rw\n");
  REQUIRE(found.size() == 1);
  CHECK(found[0].device == device(8, 16));
}

TEST_CASE("file systems: a circle in sysfs ends") {
  MadeUp made;
  made.hold("devices/dm-0", "dm-1");
  made.hold("devices/dm-1", "dm-0");
  CHECK(made.on({device(8, 0)}, kMounts).size() == 3);
}

}  // namespace understudy
