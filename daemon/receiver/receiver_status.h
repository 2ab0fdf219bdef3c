// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "daemon/control/json.h"
#include "daemon/receiver/receiver_server.h"

namespace understudy {

// The answer to the control command "status". Times are nanoseconds since 1970, 0 = never; README.md lists the fields.
Json receiver_status_json(const std::string& name, const std::string& software, std::uint16_t port,
                          const std::vector<StoreReport>& reports);

}  // namespace understudy
