// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "daemon/control/json.h"

namespace understudy {

// A daemon's status for people: what the control command "status" of agent or receiver answered, as lines of at most
// 100 columns. What the answer lacks is left out. Pure.
std::string status_text(const Json& status);

// "[##########..........]  50.0 %".
std::string progress_bar(std::uint64_t done, std::uint64_t total);

}  // namespace understudy
