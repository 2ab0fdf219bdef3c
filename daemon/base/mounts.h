// SPDX-License-Identifier: Apache-2.0
// What is mounted in this mount namespace. Source: proc(5), /proc/self/mountinfo. Thread-safe: no state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

struct MountPoint {
  std::uint32_t device = 0;  // kernel dev_t (major << 20 | minor) of the file system; major 0 = not a block device's
  std::string root;          // what of the file system is mounted: "/" unless it is a part
  std::string directory;
  std::string type;
  std::string source;
  bool read_only = false;        // this mount
  bool super_read_only = false;  // the file system itself

  bool writable() const { return !read_only && !super_read_only; }
};

// "253:1" as a kernel dev_t; 0 when it is none.
std::uint32_t parse_device_number(std::string_view text);

// In the order of mounting. Lines that cannot be understood are passed over: a newer kernel may say more.
std::vector<MountPoint> parse_mounts(std::string_view text);
Result<std::vector<MountPoint>> read_mounts(const std::string& path = "/proc/self/mountinfo");

}  // namespace understudy
