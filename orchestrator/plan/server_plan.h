// SPDX-License-Identifier: Apache-2.0
// How one server comes from the state it is in to the one it should be in. Pure: no clock, disk or network.
//
// The plan follows the order of a server's life and never takes a way around it: what could only be had by a failover
// that nobody declared is blocked, with the phase to declare first. Steps that destroy something name it, and are not
// begun before somebody approved just that.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "orchestrator/lifecycle/lifecycle.h"
#include "orchestrator/spec/group_spec.h"

namespace understudy {

// What is known of a server besides its declaration. reconcile/ keeps it.
struct ServerObserved {
  Lifecycle lifecycle;
  bool usable_point = false;
  bool source_lost = false;      // nothing is heard of the production server: the replica may be the only copy
  bool healthy = false;          // the host that a failover or failback brought up passed its checks
  bool drill_healthy = false;    // the same of the drill's host
  std::string client_version;    // installed; empty = unknown
  std::string applied_point;     // the declared point from which the host was brought up
  std::string applied_drill;     // drill_request() of the drill that is there
  std::uint64_t repair_done = 0;   // the newest orders that were carried out
  std::uint64_t restart_done = 0;
  std::uint64_t failed_over_ns = 0;  // wall clock; 0 = it is not failed over
  bool rolled_back = false;          // the declared failover was undone by the timer
  bool operator==(const ServerObserved&) const = default;
};

struct PlanStep {
  Trigger operation = Trigger::kAdd;
  LifecycleState from = LifecycleState::kAbsent;
  LifecycleState to = LifecycleState::kAbsent;  // when all goes well
  std::string destroys;    // what must be approved: "web-1:recovery-points"; empty = nothing is destroyed
  std::string because;     // what of the declaration asks for it
  bool approved = true;    // false: waits for the approval of `destroys`
  bool operator==(const PlanStep&) const = default;
};

struct ServerPlan {
  std::vector<PlanStep> steps;  // what remains to be done, in order
  // The first step may be begun now. Otherwise `waits` says for what, or there is nothing to do.
  bool ready = false;
  std::string waits;
  // The declared state cannot be reached from here: why, and what to do. Steps may lead up to it.
  std::string blocked;
};

// `spec` = nullptr: the server is declared no more and is taken out of the group.
ServerPlan plan_server(const std::string& server, const ServerSpec* spec, const GroupSpec& group,
                       const ServerObserved& observed, const std::set<std::string>& approvals, std::uint64_t now_ns);

LifecycleFacts facts_of(const ServerSpec* spec, const GroupSpec& group, const ServerObserved& observed);

// What follows for a server from having begun an operation, besides its state.
void note_begun(Trigger operation, const ServerSpec* spec, ServerObserved& server);

// A drill's request as one text, to be compared with the one that was carried out.
std::string drill_request(const HostSpec& host);

// Whether the operation brings up a host: those wait for one another by boot order.
bool brings_up_host(Trigger operation);

}  // namespace understudy
