// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/plan/group_plan.h"

#include <algorithm>

#include "daemon/base/text.h"

namespace understudy {
namespace {

using S = LifecycleState;
using T = Trigger;

// Which way a host is brought up; servers wait only for those that go the same way.
enum class Way : std::uint8_t { kNone, kDrill, kFailover, kFailback };

Way way_of(T operation) {
  if (operation == T::kDrill) return Way::kDrill;
  if (operation == T::kFailback) return Way::kFailback;
  return operation == T::kFailover || operation == T::kChangePoint ? Way::kFailover : Way::kNone;
}

bool is_bringing_up(const ServerObserved& server) {
  return server.lifecycle.state == S::kFailingOver || server.lifecycle.state == S::kFailingBack ||
         server.lifecycle.drill == DrillState::kStarting;
}

bool has_failed(const ServerObserved& server, Way way) {
  switch (way) {
    case Way::kDrill: return server.lifecycle.drill == DrillState::kFailed;
    case Way::kFailover: return server.lifecycle.state == S::kFailoverError;
    case Way::kFailback: return server.lifecycle.state == S::kFailbackError;
    case Way::kNone: return false;
  }
  return false;
}

class GroupPlanner {
 public:
  GroupPlanner(const GroupSpec& group, const std::map<std::string, ServerObserved>& observed,
               const std::set<std::string>& busy)
      : group_(group), observed_(observed), busy_(busy) {
    for (const auto& [name, server] : observed_) {
      if (is_bringing_up(server)) ++in_flight_;
    }
  }

  void hold(GroupPlanEntry& entry) {
    if (!entry.plan.ready) return;
    if (busy_.count(entry.server) != 0) {
      entry.held_by = "the operation that is under way";
      return;
    }
    const T operation = entry.plan.steps.front().operation;
    if (brings_up_host(operation)) entry.held_by = obstacle(entry.server, way_of(operation));
    entry.may_begin = entry.held_by.empty();
    if (entry.may_begin && brings_up_host(operation)) ++in_flight_;
  }

 private:
  const ServerObserved& known(const std::string& server) const {
    static const ServerObserved kNothing;
    const auto found = observed_.find(server);
    return found == observed_.end() ? kNothing : found->second;
  }

  // Whether the server is declared to go that way, too.
  static bool goes(const ServerSpec& server, Way way) {
    switch (way) {
      case Way::kDrill: return server.drill.has_value();
      case Way::kFailover: return server.phase == Phase::kFailedOver || server.phase == Phase::kConfirmed;
      case Way::kFailback: return server.phase == Phase::kFailedBack;
      case Way::kNone: return false;
    }
    return false;
  }

  bool is_up(const ServerSpec& server, Way way) const {
    const ServerObserved& now = known(server.name);
    const bool healthy = server.health.empty() || (way == Way::kDrill ? now.drill_healthy : now.healthy);
    switch (way) {
      case Way::kDrill: return now.lifecycle.drill == DrillState::kReady && healthy;
      case Way::kFailover:
        return (now.lifecycle.state == S::kFailedOver || now.lifecycle.state == S::kConfirming ||
                now.lifecycle.state == S::kFailoverConfirmed) &&
               healthy;
      case Way::kFailback: return now.lifecycle.state == S::kFailedBack && healthy;
      case Way::kNone: return true;
    }
    return true;
  }

  std::string obstacle(const std::string& server, Way way) const {
    const ServerSpec* spec = group_.find_server(server);
    for (const std::string& other : spec == nullptr ? std::vector<std::string>() : spec->boot_after) {
      const ServerSpec* before = group_.find_server(other);
      if (before != nullptr && goes(*before, way) && !is_up(*before, way)) {
        return quote(other) + " to be up" + (before->health.empty() ? "" : " and healthy");
      }
    }
    if (group_.operations.on_failure == OperationSpec::OnFailure::kStop) {
      for (const auto& [name, now] : observed_) {
        if (name != server && has_failed(now, way)) return quote(name) + ", which failed, to be up";
      }
    }
    if (in_flight_ >= group_.operations.parallel_max) {
      return "one of the " + std::to_string(in_flight_) + " operations under way to end (operations.parallel)";
    }
    return "";
  }

  const GroupSpec& group_;
  const std::map<std::string, ServerObserved>& observed_;
  const std::set<std::string>& busy_;
  std::size_t in_flight_ = 0;
};

std::string step_text(const PlanStep& step, char mark) {
  std::string text = std::string("    ") + mark + " " + std::string(trigger_name(step.operation));
  if (step.from != step.to) {
    text += ": " + std::string(lifecycle_state_name(step.from)) + " -> " + std::string(lifecycle_state_name(step.to));
  }
  text += "  (" + step.because + ")\n";
  if (!step.destroys.empty()) {
    text += "        destroys " + step.destroys +
            (step.approved ? ", approved\n" : "; waits for: understudyctl approve " + step.destroys + "\n");
  }
  return text;
}

}  // namespace

bool GroupPlan::is_empty() const {
  return std::all_of(entries.begin(), entries.end(), [](const GroupPlanEntry& entry) {
    return entry.plan.steps.empty() && entry.plan.waits.empty() && entry.plan.blocked.empty();
  });
}

GroupPlan plan_group(const GroupSpec& group, const std::map<std::string, ServerObserved>& observed,
                     const std::set<std::string>& busy, const std::set<std::string>& approvals, std::uint64_t now_ns) {
  GroupPlan plan;
  plan.group = group.id;
  std::map<std::string, const ServerSpec*> servers;
  for (const auto& [name, server] : observed) servers[name] = nullptr;
  for (const ServerSpec& server : group.servers) servers[server.name] = &server;
  GroupPlanner planner(group, observed, busy);
  static const ServerObserved kNothing;
  for (const auto& [name, spec] : servers) {
    const auto found = observed.find(name);
    const ServerObserved& now = found == observed.end() ? kNothing : found->second;
    plan.entries.push_back({name, plan_server(name, spec, group, now, approvals, now_ns), false, ""});
    planner.hold(plan.entries.back());
  }
  return plan;
}

std::string group_plan_text(const GroupPlan& plan) {
  std::string text = "group " + plan.group + "\n";
  if (plan.is_empty()) return text + "  nothing to do\n";
  for (const GroupPlanEntry& entry : plan.entries) {
    const ServerPlan& server = entry.plan;
    if (server.steps.empty() && server.waits.empty() && server.blocked.empty()) continue;
    text += "  server " + entry.server + "\n";
    if (!server.waits.empty()) text += "    # waits for " + server.waits + "\n";
    if (!entry.held_by.empty()) text += "    # waits for " + entry.held_by + "\n";
    for (std::size_t i = 0; i < server.steps.size(); ++i) {
      const char mark = !server.steps[i].approved ? '!' : (i == 0 && entry.may_begin ? '+' : '~');
      text += step_text(server.steps[i], mark);
    }
    if (!server.blocked.empty()) text += "    # " + server.blocked + "\n";
  }
  return text;
}

}  // namespace understudy
