// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "daemon/base/text.h"
#include "orchestrator/drivers/driver.h"

namespace understudy {

// Nobody is connected: orders wait, and nothing is known of any server. What an orchestrator without any way to its
// servers does, and what each of them looks like while it is out of contact.
class UnconnectedDriver final : public Driver {
 public:
  Status give(const DriverOrder& order) override {
    return Error(ErrorKind::kClosed, quote(order.server) + " is not connected; the order waits for it");
  }
  DriverProgress progress(const DriverOrder&) override { return {}; }
  std::optional<ServerReport> report(const std::string&) override { return std::nullopt; }
};

}  // namespace understudy
