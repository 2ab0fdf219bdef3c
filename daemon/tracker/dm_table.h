// SPDX-License-Identifier: Apache-2.0
// Tables of device-mapper devices: reading them, and replacing them while the device is in use.
//
// Source: <linux/dm-ioctl.h>, drivers/md/dm-ioctl.c. Thread-safe: no state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// One line of a table: `<first> <sectors> <type> <arguments>`.
struct DmLine {
  std::uint64_t first_sector = 0;
  std::uint64_t sectors = 0;
  std::string type;       // "linear", "striped", ...
  std::string arguments;  // as the target prints them

  bool operator==(const DmLine&) const = default;
};

struct DmTable {
  std::string name;  // of the device, as below /dev/mapper
  std::vector<DmLine> lines;
  bool suspended = false;
  bool has_inactive = false;  // another table is loaded and waits for a resume
  bool read_only = false;
};

// The table in use of the device `device` (kernel dev_t: major << 20 | minor). kNotFound when it is no device-mapper
// device, kUnsupported when the kernel has no device-mapper.
Result<DmTable> read_dm_table(std::uint32_t device);

// Puts `lines` in place of the device's table, at once for the device's users: what is under way completes, what comes
// meanwhile waits, file systems are not frozen. The kernel does the exchange in one call: a process that is killed
// leaves the one table or the other in use, never a device that is suspended. Refused (kBusy) for a device that
// somebody has suspended or loaded another table for. When the kernel refuses the lines its reason is in its log.
Status replace_dm_table(std::uint32_t device, const DmTable& before, const std::vector<DmLine>& lines);

// Major and minor as in tables: "253:1".
std::string dm_device_text(std::uint32_t device);

}  // namespace understudy
