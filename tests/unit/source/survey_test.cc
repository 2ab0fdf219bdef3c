// SPDX-License-Identifier: Apache-2.0
// The pure parts: findings, granules, mounts, mapping. The rest needs devices: tests/integration/existing_data.py.
#include "daemon/source/survey.h"

#include <algorithm>

#include "tests/unit/source/images.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kGiB = 1u << 30;

std::vector<std::string> codes(const std::vector<Finding>& findings) {
  std::vector<std::string> list;
  for (const Finding& finding : findings) list.push_back(finding.code);
  return list;
}
using Codes = std::vector<std::string>;

MountPoint mounted(std::uint32_t device, const std::string& directory) {
  MountPoint mount;
  mount.device = device;
  mount.directory = directory;
  return mount;
}

TEST_CASE("a sound server has no findings") {
  const std::vector<FileSystemFacts> volumes{
      {"/dev/vda1", "vfat", {"/boot/efi"}, kGiB, kGiB / 2, true},
      {"/dev/vda2", "ext4", {"/boot"}, kGiB, kGiB / 2, true},
      {"/dev/mapper/vg-root", "xfs", {"/"}, 40 * kGiB, 6 * kGiB + kGiB / 2, true}};
  CHECK(judge(volumes, {mounted(1, "/"), mounted(2, "/boot")}, false).empty());
}

TEST_CASE("what an operator should know is found") {
  const std::vector<MountPoint> mounts{mounted(1, "/"), mounted(2, "/boot")};
  const FileSystemFacts root{"/dev/vda1", "ext4", {"/"}, 100 * kGiB, 50 * kGiB, true};
  CHECK(codes(judge({root}, mounts, false)) == Codes{"boot-elsewhere"});
  CHECK(codes(judge({}, mounts, false)) == Codes{"root-elsewhere"});
  CHECK(judge({root}, {mounts[0]}, false).empty());
  const std::vector<MountPoint> only_root{mounts[0]};
  const auto with = [&](FileSystemFacts other, bool leave_out_swap = false) {
    return codes(judge({root, std::move(other)}, only_root, leave_out_swap));
  };
  CHECK(with({"/dev/vdb", "btrfs", {"/srv"}, 0, 0, true}) == Codes{"file-system-kind"});
  CHECK(with({"/dev/vdb", "", {}, 0, 0, true}) == Codes{"no-file-system"});
  CHECK(with({"/dev/vdb", "LVM2_member", {}, 0, 0, true}) == Codes{"not-left-out"});
  CHECK(with({"/dev/vdb", "swap", {}, 0, 0, true}) == Codes{"swap-copied"});
  CHECK(with({"/dev/vdb", "swap", {}, 0, 0, true}, true).empty());
  CHECK(with({"/dev/vdb", "xfs", {}, 0, 0, false}) == Codes{"volume-elsewhere"});
  CHECK(with({"/dev/vdb", "xfs", {"/srv"}, 100 * kGiB, 15 * kGiB, true}).empty());
  CHECK(with({"/dev/vdb", "xfs", {"/srv"}, 100 * kGiB, 14 * kGiB, true}) == Codes{"low-free-space"});
  for (const Finding& finding : judge({{"/dev/vdb", "xfs", {"/srv"}, 100 * kGiB, 14 * kGiB, true}}, only_root, false)) {
    if (finding.code != "low-free-space") continue;
    CHECK(finding.text == "'/dev/vdb', mounted on '/srv', has 14.0 % of 100 GiB free");
    CHECK(finding.advice == "keep 15 % free");
  }
}

TEST_CASE("only whole granules are left out, and never a last one that is shorter") {
  constexpr std::uint32_t kGranule = 65536;
  constexpr std::uint64_t kDisk = 10 * kGranule + 512;
  CHECK(whole_granules({{1, kGranule}, {3 * kGranule - 1, 2 * kGranule}}, kGranule, kDisk) ==
        ExtentList{{3 * kGranule, kGranule}});
  CHECK(whole_granules({{9 * kGranule + 1, kGranule + 511}}, kGranule, kDisk) == ExtentList{});
  CHECK(whole_granules({{9 * kGranule, kGranule + 511}}, kGranule, kDisk) == ExtentList{{9 * kGranule, kGranule}});
  CHECK(whole_granules({{0, 100 * kGranule}}, kGranule, kDisk) == ExtentList{{0, 10 * kGranule}});
  CHECK(whole_granules({{kDisk, kGranule}}, kGranule, kDisk).empty());
}

TEST_CASE("extents of a volume in pieces become those of its disks") {
  Volume volume;
  volume.size_bytes = 3000;
  volume.segments = {{0, 1, 5000, 1000}, {1000, 2, 100, 1000}, {2000, 1, 2000, 1000}};
  const ExtentList free{{500, 1000}, {1900, 300}, {2900, 100}};
  CHECK(on_disk(volume, free, 1) == ExtentList{{2000, 200}, {2900, 100}, {5500, 500}});
  CHECK(on_disk(volume, free, 2) == ExtentList{{100, 500}, {1000, 100}});
  CHECK(on_disk(volume, free, 3).empty());
}

}  // namespace
}  // namespace understudy
