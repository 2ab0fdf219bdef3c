// SPDX-License-Identifier: Apache-2.0
// The outside world as the reconciler sees it: whoever carries out what was ordered (clients, hypervisors, clouds), and
// what is known of the servers. The only code that touches other hosts implements this.
//
// Every call returns at once. Orders are told by their id: an order that comes again, also after a crash of either
// side, is the same order and must not be done twice. No call may throw.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/base/result.h"
#include "orchestrator/lifecycle/lifecycle_state.h"
#include "orchestrator/spec/group_spec.h"

namespace understudy {

struct DriverOrder {
  std::uint64_t id = 0;  // of the task
  Trigger operation = Trigger::kAdd;
  std::string group;
  std::string server;
  // As declared when the order is (again) given; nullptr: the server is declared no more. Valid during the call.
  const GroupSpec* group_spec = nullptr;
  const ServerSpec* server_spec = nullptr;
};

struct DriverProgress {
  enum class State : std::uint8_t { kUnknown, kRunning, kDone, kFailed };
  State state = State::kUnknown;  // unknown: no such order was given here
  std::string step;               // "stop the source", "boot the host"
  std::uint64_t progress_permille = 0;
  std::string error;              // of kFailed
};

// What is known of a server now.
struct ServerReport {
  // The newest order about the server (not its drill) that is in this report. An older report than the newest order
  // says nothing about replication: it has yet to be taken over.
  std::uint64_t order = 0;
  // The state of replication that its client is in; nullopt: there is no client, or none can be in such a state now.
  std::optional<LifecycleState> replication;
  std::uint64_t progress_permille = 0;  // of the copy
  std::string error;                    // of a state of error
  std::optional<bool> usable_point;  // nullopt = not known now; it stays what it was. So does the next.
  std::optional<bool> source_lost;
  bool host_healthy = false;
  bool drill_healthy = false;
  std::string client_version;
};

class Driver {
 public:
  virtual ~Driver() = default;
  // Takes the order over. kTimeout, kBusy and kClosed mean that it could not be handed over and is given again later;
  // any other error that it is refused: the operation has failed.
  virtual Status give(const DriverOrder& order) = 0;
  // What has become of an order. Orders about replication itself (start, stop, restart, repair and their reverses) end
  // by the state the client reports; the others by kDone or kFailed.
  virtual DriverProgress progress(const DriverOrder& order) = 0;
  // nullopt = nothing is known of it now; it stays what it was.
  virtual std::optional<ServerReport> report(const std::string& server) = 0;
};

}  // namespace understudy
