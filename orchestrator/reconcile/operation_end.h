// SPDX-License-Identifier: Apache-2.0
// When a task has ended: some operations end when their driver says so, some by what the client reports.
#pragma once

#include <optional>

#include "orchestrator/lifecycle/lifecycle.h"

namespace understudy {

// Replication itself: carried out by the client, ended by the state it reports.
bool ends_by_report(Trigger operation);

// The event by which the driver's "done" or "failed" moves the server.
Trigger end_event(Trigger operation, bool done);

// What the state the client is in means for an open task about replication: nullopt = it goes on.
std::optional<bool> replication_outcome(Trigger operation, LifecycleState state);

}  // namespace understudy
