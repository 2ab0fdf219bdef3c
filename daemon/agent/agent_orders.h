// SPDX-License-Identifier: Apache-2.0
// What an orchestrator told the agent last (daemon/node/FORMAT.md, "desired"): `<state directory>/orders.json`, written
// when it was carried out. Level, not edge: the same orders again change nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/control/json.h"

namespace understudy {

struct AgentOrders {
  enum class Phase : std::uint8_t { kRegistered, kReplicating, kStopped, kReleased };
  struct Receiver {
    std::string name;  // empty = the agent's own configuration says
    std::string address;
    std::uint16_t port = 0;
    bool operator==(const Receiver&) const = default;
  };

  std::uint64_t order = 0;  // the newest one in this
  Phase phase = Phase::kRegistered;
  std::uint64_t epoch = 1;
  std::uint64_t restart = 0;  // numbers of the newest restart and repair; a higher one is carried out once
  std::uint64_t repair = 0;
  std::vector<std::string> disks;  // empty = the agent's own configuration says
  Receiver receiver;
  bool auto_resume = true;
  std::uint64_t throttle_bytes_per_second = 0;  // 0 = none
  std::uint64_t point_interval_ns = 0;          // 0 = none
  std::string mark_label;                       // empty = none; made once
  bool mark_application_consistent = false;
  bool operator==(const AgentOrders&) const = default;

  bool replicates() const { return phase == Phase::kReplicating || phase == Phase::kStopped; }
};

// kInvalidArgument naming the member that cannot be.
Result<AgentOrders> parse_agent_orders(const Json& desired);
Json agent_orders_json(const AgentOrders& orders);

// nullopt = there never were any. kCorrupt when they cannot be understood.
Result<std::optional<AgentOrders>> load_agent_orders(const std::string& directory);
// Atomic and durable when it returns.
Status save_agent_orders(const std::string& directory, const AgentOrders& orders);

}  // namespace understudy
