// SPDX-License-Identifier: Apache-2.0
// The lifecycle of a protected server as a pure function: same state and same trigger, same result. It knows no clock,
// no disk, no network. All transitions stand in transitions.cc, one row each; LIFECYCLE.md is made from it.
//
//   absent --add--> client-installing --> initialized <-----------------------------------------------+
//                     | failed                | start                                                 |
//              client-install-failed          v                                                       |
//                           replication-starting --> full-replicating --> realtime-replicating        |
//                                 ^   ^              stop | ^               stop | ^  ^               |
//                                 |   |                   v |                    v |  realtime-starting
//                                 |   +----restart-- full-stopped    realtime-stopped --restart--^    |
//                                 |                                                                   |
//             any of these --failed--> replication-error --restart--> replication-starting            |
//                                       --repair--> repair-starting --> repairing --> realtime        |
//                                                     stop: repair-stopping --> repair-stopped        |
//   initialized, realtime-* --upgrade--> client-upgrading --> where it was | upgrade-failed           |
//                                                                                                     |
//   any with a usable point --failover--> failing-over --> failed-over <--> (change-point)            |
//        ^                                    | failed         | confirm                              |
//        |                              failover-error         v                                      |
//        +------cancelling-failover <----------+------  confirming --> failover-confirmed             |
//                                                                          | reverse-register         |
//   reverse-registering | reverse-register-failed  <-----------------------+                          |
//        |                                                                                            |
//        v                                                                                            |
//   reverse-initialized --> (the replication above once more, with reverse- before its names)         |
//        reverse-realtime-replicating --failback--> failing-back --> failed-back --> registering -----+
//                                                       | failed          (register)   | failed
//                                                  failback-error                register-failed
//
//   any stable or failed state --deregister--> deregistering --> absent
//
// The drill runs beside all this: none --drill--> starting --> ready | failed --clean-drill--> cleaning --> none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "orchestrator/lifecycle/lifecycle_state.h"

namespace understudy {

// With what an error that ends by itself goes on.
enum class ResumeAt : std::uint8_t { kFull, kRealtime, kRepair };
std::string_view resume_at_name(ResumeAt resume);

// What is known of one server. A plain value; reconcile/ keeps it in the database.
struct Lifecycle {
  LifecycleState state = LifecycleState::kAbsent;
  DrillState drill = DrillState::kNone;
  // Where an upgrade or a failed de-registration goes back to.
  LifecycleState before = LifecycleState::kAbsent;
  ResumeAt resume = ResumeAt::kFull;
  // Real time was reached since the relation began: together with a usable point, the server can be brought up.
  bool realtime_reached = false;
  // A restart came while replication was stopping; it runs when the stop has ended.
  bool restart_queued = false;
  // Points were being deleted, or the server taken out, when it failed: there is no way back from that, only on.
  bool confirm_begun = false;
  bool deregister_begun = false;

  bool operator==(const Lifecycle&) const = default;
};

// What a transition depends on besides the state: observed, and policy.
struct LifecycleFacts {
  bool usable_point = false;     // the other site has a point that can be brought up
  bool client_outdated = false;  // there is a newer client than the installed one
  bool strict = false;           // the literal guide: only what it lists
};

struct LifecycleStep {
  Lifecycle next;       // the old one when refused, or when an event means nothing here
  bool changed = false;
  std::string refused;  // an operation that is not legal: the reason and the legal ones; empty = taken
};

// Operations are taken or refused. Events that mean nothing in a state change nothing (they may come late or twice).
LifecycleStep lifecycle_step(const Lifecycle& now, const LifecycleFacts& facts, Trigger trigger);

// Whether lifecycle_step() would take the operation now; cheaper than asking it for its reasons.
bool is_legal(const Lifecycle& now, const LifecycleFacts& facts, Trigger operation);

// Operations that lifecycle_step() would take now, in the order of Trigger.
std::vector<Trigger> legal_operations(const Lifecycle& now, const LifecycleFacts& facts);

// The events by which a server that is known as `now` came to the state that its client reports; empty = it is there,
// nullopt = no way leads there without an operation.
std::optional<std::vector<Trigger>> events_to_reported(const Lifecycle& now, const LifecycleFacts& facts,
                                                       LifecycleState reported);

// States of replication: those a client reports of itself.
bool is_replication_state(LifecycleState state);

}  // namespace understudy
