// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace understudy {

// The block devices a path lies on, as whole disks, in the kernel's dev_t (major << 20 | minor), sorted: the device of
// its file system, the disk of which that is a partition, what a device-mapper or md device is made of, and what lies
// under the file behind a loop device. A path that does not exist yet counts as its nearest existing parent. Best
// effort: what sysfs does not tell (tmpfs, network file systems, device sets of a file system) is not in the list.
// Sources: sysfs(5), Documentation/ABI/stable/sysfs-block; Thread-safe; reads a few small files.
std::vector<std::uint64_t> whole_disks_under(const std::string& path);

}  // namespace understudy
