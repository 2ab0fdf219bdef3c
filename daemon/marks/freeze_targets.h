// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "daemon/marks/file_systems.h"
#include "daemon/marks/freezer.h"

namespace understudy {

// Opens each file system at the first of its mount points that really shows it (another mount may hide one). An error
// names the file system that cannot be reached.
Result<std::vector<FreezeTarget>> open_freeze_targets(const std::vector<FileSystemMounts>& file_systems);

}  // namespace understudy
