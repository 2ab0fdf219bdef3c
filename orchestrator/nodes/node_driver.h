// SPDX-License-Identifier: Apache-2.0
// Orders carried out by nodes. Each order changes what the server's agent (and its receiver) should be doing, that is
// kept in the database, and told whenever the node is there: repeating or losing any message is harmless (I10).
//
// The epoch of a source is granted here, one higher for each new relation: an agent of an older one (a copy of its
// disks that comes back, a host restored from a backup) is told so, does nothing, and is shown as fenced; its receiver
// refuses it.
//
// Hosts are not brought up here: drills, failovers and failbacks are refused. Not thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "daemon/base/clock.h"
#include "orchestrator/drivers/driver.h"
#include "orchestrator/nodes/node_links.h"
#include "orchestrator/spec/declared_state.h"
#include "orchestrator/state/orchestrator_state.h"

namespace understudy {

// A source that was not heard for so long, and that its receiver does not hear either, counts as lost.
inline constexpr std::uint64_t kSourceLostNs = 30'000'000'000;

class NodeDriver final : public Driver {
 public:
  static Result<std::unique_ptr<NodeDriver>> open(OrchestratorState& state, NodeLinks& links, const Clock& clock);

  Status give(const DriverOrder& order) override;
  DriverProgress progress(const DriverOrder& order) override;
  std::optional<ServerReport> report(const std::string& server) override;

  // The declaration that is in force: what nodes are told besides orders (disks, policy, addresses) follows from it.
  void declare(const DeclaredState& declared);

  // How a server's nodes stand, for people: {"agent","receiver","epoch","fenced","rpo_ns","backlog_bytes",...}.
  Json describe(const std::string& server) const;

 private:
  NodeDriver(OrchestratorState& state, NodeLinks& links, const Clock& clock)
      : state_(state), links_(links), clock_(clock) {}

  Status change(const std::string& server, const ServerOrders& orders);
  DriverProgress deregistering(const DriverOrder& order);
  DriverProgress upgrading(const DriverOrder& order) const;
  std::optional<NodeView> agent(const std::string& server) const;
  std::optional<NodeView> receiver(const std::string& name) const;
  bool has_taken(const std::string& server, std::uint64_t order) const;
  // The source is out of contact: with whom, since the start of this process or its last words, long enough.
  bool is_lost(const std::string& server, const std::string& receiver) const;
  void tell_agent(const std::string& server);
  void tell_receiver(const std::string& name);

  OrchestratorState& state_;
  NodeLinks& links_;
  const Clock& clock_;
  std::map<std::string, ServerOrders> orders_;
  // Of the declaration in force: what an agent is told besides its orders.
  std::map<std::string, Json> declared_agents_;
  struct ReceiverAddress {
    std::string name;
    std::string address;
    std::uint16_t port = 0;
  };
  std::map<std::string, ReceiverAddress> declared_receivers_;  // by server
};

}  // namespace understudy
