// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "daemon/base/result.h"
#include "daemon/control/json.h"

namespace understudy {

// Asks the daemon at a control socket once and returns its result. kNotFound = nobody listens there (the daemon is
// not running); kPermission = we may not ask; kTimeout = no answer within `timeout_ns`; every other error is the
// daemon's own, with its kind and message. Blocks. Thread-safe.
Result<Json> control_call(const std::string& socket_path, const Json& request,
                          std::uint64_t timeout_ns = 10'000'000'000);

}  // namespace understudy
