// SPDX-License-Identifier: Apache-2.0
// What is mounted in this mount namespace. Source: proc(5), /proc/self/mountinfo.
// A mount elsewhere is not seen; its file system then looks dirty, which is data. Thread-safe: no state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace understudy {

struct MountPoint {
  std::uint32_t device = 0;  // kernel dev_t: major << 20 | minor
  std::string root;          // "/" unless a part of the file system is mounted
  std::string directory;
  std::string type;
  bool writable = true;  // file system and mount
};

// Lines that cannot be understood are passed over.
std::vector<MountPoint> parse_mount_points(std::string_view text);
std::vector<MountPoint> read_mounts(const std::string& path = "/proc/self/mountinfo");

}  // namespace understudy
