// SPDX-License-Identifier: Apache-2.0
// What may be begun now on the servers of one group: the plans of all its servers, held together by the boot order, the
// number of operations at a time, and what was declared for failures. Pure.
//
// Boot order: a host is brought up when every server of its boot_after that goes the same way has been, and passed its
// health checks. Servers that stay where they are do not hold anybody up. on_failure: stop - while one host of the
// group could not be brought up, no further one is begun (the failed one is tried again); continue - only those wait
// that need it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "orchestrator/plan/server_plan.h"

namespace understudy {

struct GroupPlanEntry {
  std::string server;
  ServerPlan plan;
  bool may_begin = false;  // the first step, now
  std::string held_by;     // what the group holds it for: "'erp-db' to be up and healthy"; empty = nothing
};

struct GroupPlan {
  std::string group;
  std::vector<GroupPlanEntry> entries;  // servers by name, those that are to leave included
  bool is_empty() const;                // nothing to do, to wait for or to be said
};

// `observed` has every server that is known in this group. `busy` are those an operation is being carried out for.
GroupPlan plan_group(const GroupSpec& group, const std::map<std::string, ServerObserved>& observed,
                     const std::set<std::string>& busy, const std::set<std::string>& approvals, std::uint64_t now_ns);

// As a diff for people: "+ start" lines are begun now, "~" wait, "!" need an approval, "#" say why nothing is done.
std::string group_plan_text(const GroupPlan& plan);

}  // namespace understudy
