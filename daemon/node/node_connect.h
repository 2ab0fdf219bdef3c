// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

// A non-blocking TCP connection with the first address of `host` that takes it, until `deadline_ns` (boot clock).
// kClosed when `wake_fd` (>= 0) became readable meanwhile. Blocks. Thread-safe.
Result<UniqueFd> connect_node(const std::string& host, std::uint16_t port, std::uint64_t deadline_ns, int wake_fd);

// Waits for `events` of poll(2) on `fd`, or for `wake_fd`. True = `fd` is ready; kTimeout at the deadline, kClosed when
// woken.
Status wait_for_socket(int fd, short events, std::uint64_t deadline_ns, int wake_fd);

}  // namespace understudy
