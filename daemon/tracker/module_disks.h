// SPDX-License-Identifier: Apache-2.0
// Disks of a capture in the module: their slots, and their tables with and without the target `understudy`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/tracker/disk_inspect.h"
#include "daemon/tracker/dm_table.h"
#include "daemon/tracker/module_device.h"

namespace understudy {

// The lines with `understudy <server> <slot>` in front of what linear lines have, and back. `server` as pin_name()
// makes it. Lines of the target of any server and slot count as linear ones. kUnsupported for any other type, naming
// it.
Result<std::vector<DmLine>> captured_lines(const DmTable& table, const std::string& server, std::uint32_t slot);
Result<std::vector<DmLine>> linear_lines(const DmTable& table);

// Gives the disk's device a table whose writes are captured for `slot`. Nothing is done when it has it.
Status attach_disk(const std::string& path, std::uint32_t device, const std::string& server, std::uint32_t slot);
// Gives it its linear table back. A device that is gone is no error.
Status detach_disk(std::uint32_t device);

// The module's disk for what was inspected.
understudy_module_disk module_disk(const DiskInfo& info, std::uint32_t slot, std::uint32_t granule_bytes);

// Every slot that is or was in use, by slot.
Result<std::vector<understudy_module_disk>> all_disks(const ModuleDevice& module);

// Retires every disk, gives them linear tables and ends the capture.
Status end_module_capture(ModuleDevice& module);

}  // namespace understudy
