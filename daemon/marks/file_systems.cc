// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/file_systems.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

namespace understudy {
namespace {

namespace fs = std::filesystem;

// Nothing real is stacked deeper; a circle in sysfs would otherwise not end.
constexpr std::uint32_t kLevelMax = 32;

std::string attribute(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<fs::path> entries_of(const fs::path& directory) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    entries.push_back(entry->path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool lies_below(const std::string& path, const std::string& directory) {
  return directory == "/" || path == directory ||
         (path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/');
}

// The block devices that hold data of the protected disks, each with how high it is stacked.
class Stack {
 public:
  Stack(const std::vector<MountPoint>& mounts, const BlockDevices& devices) : mounts_(mounts), devices_(devices) {}

  void add(DeviceNumber device, std::uint32_t level) {
    const auto known = levels_.find(device);
    if (level > kLevelMax || (known != levels_.end() && known->second >= level)) return;
    levels_[device] = level;
    const fs::path link = fs::path(devices_.sysfs) / "dev" / "block" /
                          (std::to_string(device >> 20) + ":" + std::to_string(device & 0xfffff));
    std::error_code error;
    const fs::path directory = fs::canonical(link, error);
    if (error) return;
    add_holders(directory, level);
    for (const fs::path& entry : entries_of(directory)) {
      if (!fs::exists(entry / "partition", error)) continue;
      const DeviceNumber partition = parse_device_number(attribute(entry / "dev"));
      if (partition != 0) add(partition, level);
    }
  }

  // Loop devices over files on what is known so far, until no more are found.
  void add_loops() {
    for (bool found = true; found;) {
      found = false;
      for (const fs::path& block : entries_of(fs::path(devices_.sysfs) / "block")) {
        const std::string file = attribute(block / "loop" / "backing_file");
        const DeviceNumber loop = parse_device_number(attribute(block / "dev"));
        if (file.empty() || !loop) continue;
        const auto below = level_of_file(file);
        const auto known = levels_.find(loop);
        if (!below || *below >= kLevelMax || (known != levels_.end() && known->second > *below)) continue;
        add(loop, *below + 1);
        found = true;
      }
    }
  }

  // The device of the stack that a mount is on; nullopt = none of them.
  std::optional<DeviceNumber> device_of(const MountPoint& mount) const {
    DeviceNumber device = mount.device;
    if (device >> 20 == 0 && mount.source.starts_with("/dev/") && devices_.device_of_node) {
      device = devices_.device_of_node(mount.source);
    }
    return levels_.contains(device) ? std::optional(device) : std::nullopt;
  }

  std::uint32_t level(DeviceNumber device) const { return levels_.at(device); }

 private:
  void add_holders(const fs::path& directory, std::uint32_t level) {
    for (const fs::path& holder : entries_of(directory / "holders")) {
      const DeviceNumber device =
          parse_device_number(attribute(fs::path(devices_.sysfs) / "block" / holder.filename() / "dev"));
      if (device != 0) add(device, level + 1);
    }
  }

  std::optional<std::uint32_t> level_of_file(const std::string& path) const {
    const MountPoint* best = nullptr;
    for (const MountPoint& mount : mounts_) {  // of two mounts on one place, the later hides the earlier
      if (lies_below(path, mount.directory) &&
          (best == nullptr || mount.directory.size() >= best->directory.size()))
        best = &mount;
    }
    const auto device = best == nullptr ? std::nullopt : device_of(*best);
    return device ? std::optional(levels_.at(*device)) : std::nullopt;
  }

  const std::vector<MountPoint>& mounts_;
  const BlockDevices& devices_;
  std::map<DeviceNumber, std::uint32_t> levels_;
};

}  // namespace

BlockDevices machine_block_devices() {
  BlockDevices devices;
  devices.device_of_node = [](const std::string& path) -> DeviceNumber {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) return 0;
    return major(status.st_rdev) << 20 | minor(status.st_rdev);
  };
  return devices;
}

std::vector<FileSystemMounts> file_systems_on(const std::vector<DeviceNumber>& disks,
                                              const std::vector<MountPoint>& mounts, const BlockDevices& devices) {
  Stack stack(mounts, devices);
  for (const DeviceNumber disk : disks) stack.add(disk, 0);
  stack.add_loops();

  std::map<DeviceNumber, std::vector<const MountPoint*>> by_device;
  for (const MountPoint& mount : mounts) {
    if (mount.super_read_only) continue;
    if (const auto device = stack.device_of(mount)) by_device[*device].push_back(&mount);
  }
  std::vector<FileSystemMounts> found;
  for (auto& [device, entries] : by_device) {
    // The root of the file system is a directory for sure; a bind mount may be a single file.
    std::stable_sort(entries.begin(), entries.end(), [](const MountPoint* a, const MountPoint* b) {
      return (a->root == "/") != (b->root == "/") ? a->root == "/" : a->directory.size() < b->directory.size();
    });
    FileSystemMounts file_system{device, entries.front()->type, stack.level(device), {}};
    for (const MountPoint* entry : entries) file_system.mount_points.push_back(entry->directory);
    found.push_back(std::move(file_system));
  }
  std::stable_sort(found.begin(), found.end(), [](const FileSystemMounts& a, const FileSystemMounts& b) {
    if (a.level != b.level) return a.level > b.level;
    return a.mount_points.front().size() > b.mount_points.front().size();
  });
  return found;
}

Result<std::vector<FileSystemMounts>> file_systems_on(const std::vector<DeviceNumber>& disks) {
  ASSIGN_OR_RETURN(const std::vector<MountPoint> mounts, read_mounts());
  return file_systems_on(disks, mounts, machine_block_devices());
}

}  // namespace understudy
