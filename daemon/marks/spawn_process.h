// SPDX-License-Identifier: Apache-2.0
// Starting another program out of a process that has threads, locked memory and reads from disks under way.
//
// Never fork(): the copy-on-write that it begins would tear the pages of reads that are under way from our buffers,
// and the child would hold the capture's memory. posix_spawn(3) of glibc shares the memory until the exec instead.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

struct SpawnRequest {
  std::string program;                           // absolute path
  std::vector<std::string> arguments;            // the first one is the name shown
  std::vector<std::string> environment;          // "NAME=value"; nothing is inherited
  std::vector<std::pair<int, int>> descriptors;  // {ours, its number in the child}; all others are closed there
};

// Starts it in a session (and process group) of its own, in "/", with default signals and nothing blocked; 0, 1 and 2
// are /dev/null unless given. Everything we hold must be close-on-exec. The caller waits for the process.
Result<pid_t> spawn(const SpawnRequest& request);

}  // namespace understudy
