// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "daemon/base/result.h"
#include "daemon/base/uuid.h"

namespace understudy {

// The kernel's random identity of this boot: equal on two processes = same machine, not rebooted in between.
// Source: random(4), /proc/sys/kernel/random/boot_id.
Result<Uuid> read_boot_id(const std::string& path = "/proc/sys/kernel/random/boot_id");

}  // namespace understudy
