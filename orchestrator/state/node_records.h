// SPDX-License-Identifier: Apache-2.0
// What is kept of nodes (agents and receivers) and of what they were told. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace understudy {

struct KnownNode {
  std::string role;     // "agent", "receiver"
  std::string name;
  std::string machine;  // empty = not heard of yet
  std::uint64_t enrolled_ns = 0;  // wall clock; 0 = its certificate was made by hand
  bool operator==(const KnownNode&) const = default;
};

// A token that is good once. The secret itself is kept nowhere.
struct Enrolment {
  std::string secret_sha256;
  std::string role;
  std::string name;
  std::string made_by;
  std::uint64_t made_ns = 0;  // wall clock, as all of these
  std::uint64_t expires_ns = 0;
  std::uint64_t used_ns = 0;  // 0 = not yet
};

// What the agent of a server should be doing.
enum class AgentPhase : std::uint8_t {
  kRegistered,   // nothing yet
  kReplicating,
  kStopped,
  kReleased,     // the server left its group: capture ends, the store goes
};
std::string_view agent_phase_name(AgentPhase phase);
Result<AgentPhase> parse_agent_phase(std::string_view name);

struct ServerOrders {
  std::uint64_t task = 0;  // the newest order that is in this
  AgentPhase phase = AgentPhase::kRegistered;
  std::uint64_t epoch = 1;    // granted to this source; an agent of an older one is fenced
  std::uint64_t restart = 0;  // tasks of the newest restart and repair
  std::uint64_t repair = 0;
  std::string receiver;  // the node that has its store; empty = the agent's own configuration says
  std::string receiver_address;
  std::uint64_t receiver_port = 0;
  bool operator==(const ServerOrders&) const = default;
};

}  // namespace understudy
