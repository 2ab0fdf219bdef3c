// SPDX-License-Identifier: Apache-2.0
// What the control socket answers: requests as JSON, answered from a reconciler. README.md lists them. Not thread-safe:
// the caller holds the lock under which the reconciler works.
#pragma once

#include <functional>
#include <string>

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
// "group": its id; "text": of its file instead of what stands there, null = the file is taken away; "server": only its
// part of the plan. What would follow; kInvalidConfig with every mistake.
Result<Json> preview_answer(const Reconciler& reconciler, const std::string& groups_directory, const Json& request);
// "group": its id. The files it was read from, as they are in force: [{"path","text"}].
Result<Json> declaration_answer(const Reconciler& reconciler, const Json& request);

// How the nodes of a server stand, as "node" of each server; may be empty.
using DescribeNode = std::function<Json(const std::string& server)>;
Json groups_answer(const Reconciler& reconciler, const DescribeNode& describe);
// "group".
Result<Json> group_answer(const Reconciler& reconciler, const Json& request, const DescribeNode& describe);

// "3 groups, 12 servers, 2 tasks" for the service manager.
std::string status_line(const Reconciler& reconciler);

}  // namespace understudy
