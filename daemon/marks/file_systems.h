// SPDX-License-Identifier: Apache-2.0
// Which mounted file systems keep their data on the protected disks, and in which order they can be frozen.
//
// A disk carries a file system itself, through its partitions, through what is stacked on those (device mapper, md:
// "holders"), and through loop devices over files of such a file system. Bind mounts and second mounts of a file system
// are one. The upper comes before the lower: synchronising a frozen-to-be loop file system writes to the one below.
//
// Sources: /proc/self/mountinfo (proc(5)), sysfs (Documentation/ABI: holders, loop/backing_file). Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/mounts.h"
#include "daemon/base/result.h"

namespace understudy {

// A kernel device number: major << 20 | minor.
using DeviceNumber = std::uint32_t;

struct FileSystemMounts {
  DeviceNumber device = 0;
  std::string type;
  std::uint32_t level = 0;                // devices and file systems below it; higher is frozen first
  std::vector<std::string> mount_points;  // where it may be opened, the best first
};

// What is read of the machine; tests make their own.
struct BlockDevices {
  std::string sysfs = "/sys";
  // The device number of a node such as /dev/vdb1; 0 = none. For file systems with several devices (btrfs), whose
  // mountinfo does not name them.
  std::function<DeviceNumber(const std::string& path)> device_of_node;
};
BlockDevices machine_block_devices();

// The writable file systems on `disks` (whole disks), in the order in which they are to be frozen.
std::vector<FileSystemMounts> file_systems_on(const std::vector<DeviceNumber>& disks,
                                              const std::vector<MountPoint>& mounts, const BlockDevices& devices);

// The same for this machine, now.
Result<std::vector<FileSystemMounts>> file_systems_on(const std::vector<DeviceNumber>& disks);

}  // namespace understudy
