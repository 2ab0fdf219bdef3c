// SPDX-License-Identifier: Apache-2.0
// What the control socket answers: requests as JSON, answered from a reconciler. README.md lists them. Not thread-safe:
// the caller holds the lock under which the reconciler works.
#pragma once

#include "daemon/base/result.h"
#include "daemon/control/json.h"
#include "orchestrator/reconcile/reconciler.h"

namespace understudy {

Json status_answer(const Reconciler& reconciler, const std::string& software);
// "group" or "server": only that one; neither: all.
Result<Json> plan_answer(const Reconciler& reconciler, const Json& request);
// Filters "group", "server", "operation", "state", "since_ns", "count".
Result<Json> tasks_answer(Reconciler& reconciler, const Json& request);
// "object", "by".
Result<Json> approve_answer(Reconciler& reconciler, const Json& request);
Json groups_answer(const Reconciler& reconciler);
// "group".
Result<Json> group_answer(const Reconciler& reconciler, const Json& request);

// "3 groups, 12 servers, 2 tasks" for the service manager.
std::string status_line(const Reconciler& reconciler);

}  // namespace understudy
