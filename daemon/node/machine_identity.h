// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace understudy {

// What tells this machine from another one with the same disks: the DMI's UUID of it ("dmi:4c4c4544-..."), else the
// hypervisor's, else the machine id of its system ("machine-id:..."), which a copy of the disks has, too. "unknown"
// when there is none. `root` is the directory that stands for "/". Thread-safe.
std::string machine_identity(const std::string& root = "");

}  // namespace understudy
