// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/api/requests.h"

#include <algorithm>

#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::size_t kTasksMax = 10'000;

std::string counted(std::size_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

Json step_json(const PlanStep& step) {
  Json json;
  json["operation"] = trigger_name(step.operation);
  json["from"] = lifecycle_state_name(step.from);
  json["to"] = lifecycle_state_name(step.to);
  json["because"] = step.because;
  if (!step.destroys.empty()) {
    json["destroys"] = step.destroys;
    json["approved"] = step.approved;
  }
  return json;
}

Json plan_json(const GroupPlan& plan) {
  Json json;
  json["group"] = plan.group;
  json["servers"] = Json::array();
  for (const GroupPlanEntry& entry : plan.entries) {
    Json server;
    server["server"] = entry.server;
    server["begins_now"] = entry.may_begin;
    server["steps"] = Json::array();
    for (const PlanStep& step : entry.plan.steps) server["steps"].push_back(step_json(step));
    if (!entry.plan.waits.empty()) server["waits_for"] = entry.plan.waits;
    if (!entry.held_by.empty()) server["held_by"] = entry.held_by;
    if (!entry.plan.blocked.empty()) server["blocked"] = entry.plan.blocked;
    json["servers"].push_back(std::move(server));
  }
  json["text"] = group_plan_text(plan);
  return json;
}

Json task_json(const Task& task) {
  Json json;
  json["id"] = task.id;
  json["group"] = task.group;
  json["server"] = task.server;
  json["operation"] = trigger_name(task.operation);
  json["state"] = task_state_name(task.state);
  json["because"] = task.because;
  if (!task.destroys.empty()) {
    json["destroys"] = task.destroys;
    json["approved_by"] = task.approved_by;
  }
  if (!task.step.empty()) json["step"] = task.step;
  if (!task.error.empty()) json["error"] = task.error;
  json["progress_permille"] = task.progress_permille;
  json["attempt"] = task.attempt;
  json["begun_ns"] = task.begun_ns;
  if (task.ended_ns != 0) json["ended_ns"] = task.ended_ns;
  return json;
}

Json server_json(const Reconciler& reconciler, const GroupSpec& group, const std::string& name) {
  const auto known = reconciler.servers().find(name);
  const ServerObserved observed = known == reconciler.servers().end() ? ServerObserved() : known->second.observed;
  const ServerSpec* spec = group.find_server(name);
  Json json;
  json["server"] = name;
  json["state"] = lifecycle_state_name(observed.lifecycle.state);
  json["declared"] = spec == nullptr ? "removed" : phase_name(spec->phase);
  if (observed.lifecycle.drill != DrillState::kNone) json["drill"] = drill_state_name(observed.lifecycle.drill);
  if (!observed.client_version.empty()) json["client_version"] = observed.client_version;
  const LifecycleFacts facts = facts_of(spec, group, observed);
  json["legal"] = Json::array();
  for (const Trigger operation : legal_operations(observed.lifecycle, facts)) {
    json["legal"].push_back(trigger_name(operation));
  }
  return json;
}

std::vector<std::string> servers_of(const Reconciler& reconciler, const GroupSpec& group) {
  std::vector<std::string> names;
  for (const ServerSpec& server : group.servers) names.push_back(server.name);
  for (const auto& [name, server] : reconciler.servers()) {
    if (server.group == group.id && group.find_server(name) == nullptr) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Json group_json(const Reconciler& reconciler, const GroupSpec& group, const DescribeNode& describe) {
  Json json;
  json["group"] = group.id;
  json["name"] = group.name;
  json["region"] = group.region;
  json["production_zone"] = group.production.zone;
  json["recovery_zone"] = group.recovery.zone;
  json["servers"] = Json::array();
  for (const std::string& name : servers_of(reconciler, group)) {
    Json server = server_json(reconciler, group, name);
    if (describe) server["node"] = describe(name);
    json["servers"].push_back(std::move(server));
  }
  return json;
}

}  // namespace

std::string status_line(const Reconciler& reconciler) {
  return counted(reconciler.declared().groups.size(), "group") + ", " +
         counted(reconciler.servers().size(), "server") + ", " +
         counted(reconciler.open_tasks().size(), "open task");
}

Json status_answer(const Reconciler& reconciler, const std::string& software) {
  Json json;
  json["role"] = "orchestrator";
  json["software"] = software;
  json["groups"] = std::uint64_t{reconciler.declared().groups.size()};
  json["servers"] = std::uint64_t{reconciler.servers().size()};
  json["open_tasks"] = std::uint64_t{reconciler.open_tasks().size()};
  return json;
}

Result<Json> plan_answer(const Reconciler& reconciler, const Json& request) {
  const std::string group = request.at("group").as_string("");
  const std::string server = request.at("server").as_string("");
  Json answer = Json::array();
  if (!group.empty()) {
    ASSIGN_OR_RETURN(const GroupPlan plan, reconciler.plan(group));
    answer.push_back(plan_json(plan));
    return answer;
  }
  std::vector<std::string> known;
  for (GroupPlan& plan : reconciler.plans()) {
    if (server.empty()) {
      answer.push_back(plan_json(plan));
      continue;
    }
    for (GroupPlanEntry& entry : plan.entries) {
      known.push_back(entry.server);
      if (entry.server != server) continue;
      GroupPlan one{plan.group, {entry}};
      answer.push_back(plan_json(one));
    }
  }
  if (!server.empty() && answer.items().empty()) {
    const auto near = nearest_word(server, known);
    return Error(ErrorKind::kNotFound,
                 "no group or server " + quote(server) + (near ? "; did you mean '" + *near + "'?" : ""));
  }
  return answer;
}

Result<Json> tasks_answer(Reconciler& reconciler, const Json& request) {
  TaskFilter filter;
  filter.group = request.at("group").as_string("");
  filter.server = request.at("server").as_string("");
  filter.since_ns = std::min<std::uint64_t>(request.at("since_ns").as_unsigned(0), INT64_MAX);
  filter.count_max = std::min<std::size_t>(request.at("count").as_unsigned(filter.count_max), kTasksMax);
  if (const std::string operation = request.at("operation").as_string(""); !operation.empty()) {
    ASSIGN_OR_RETURN(filter.operation, parse_trigger(operation));
  }
  if (const std::string state = request.at("state").as_string(""); !state.empty()) {
    ASSIGN_OR_RETURN(filter.state, parse_task_state(state));
  }
  ASSIGN_OR_RETURN(std::vector<Task> tasks, reconciler.tasks(filter));
  Json answer = Json::array();
  for (Task& task : tasks) {
    // Progress of what is under way is kept in memory only.
    for (const auto& [lane, open] : reconciler.open_tasks()) {
      if (open.id == task.id) task = open;
    }
    answer.push_back(task_json(task));
  }
  return answer;
}

Result<Json> approve_answer(Reconciler& reconciler, const Json& request) {
  const std::string object = request.at("object").as_string("");
  const std::string by = request.at("by").as_string("");
  if (object.empty() || by.empty()) {
    return Error(ErrorKind::kInvalidArgument,
                 "an approval needs 'object', what may be destroyed, and 'by', who says so");
  }
  RETURN_IF_ERROR(reconciler.approve(object, by));
  Json answer;
  answer["approved"] = object;
  return answer;
}

Result<Json> preview_answer(const Reconciler& reconciler, const std::string& groups_directory, const Json& request) {
  const std::string group = request.at("group").as_string("");
  const std::string only = request.at("server").as_string("");
  ASSIGN_OR_RETURN(std::vector<DeclaredSource> sources, read_declared_sources(groups_directory));
  auto found = std::find_if(sources.begin(), sources.end(),
                            [&](const DeclaredSource& source) { return source.id == group; });
  if (!request.at("text").is_string()) {
    if (found != sources.end()) sources.erase(found);
  } else {
    if (found == sources.end()) {
      DeclaredSource made{group, {{groups_directory + "/" + group + ".yaml", ""}}, ""};
      const auto behind = std::find_if(sources.begin(), sources.end(),
                                       [&](const DeclaredSource& source) { return source.id > group; });
      found = sources.insert(behind, std::move(made));
    }
    found->problem.clear();
    if (found->files.empty()) found->files.emplace_back(groups_directory + "/" + group + ".yaml", "");
    found->files[0].second = request.at("text").as_string("");
  }
  ASSIGN_OR_RETURN(GroupPlan plan, reconciler.preview(sources, group));
  if (!only.empty()) {
    std::erase_if(plan.entries, [&](const GroupPlanEntry& entry) { return entry.server != only; });
  }
  return plan_json(plan);
}

Result<Json> declaration_answer(const Reconciler& reconciler, const Json& request) {
  const std::string group = request.at("group").as_string("");
  for (const DeclaredSource& source : reconciler.sources()) {
    if (source.id != group) continue;
    Json answer = Json::array();
    for (const auto& [path, text] : source.files) {
      Json file = Json::object();
      file["path"] = path;
      file["text"] = text;
      answer.push_back(std::move(file));
    }
    return answer;
  }
  return Error(ErrorKind::kNotFound, "no group " + quote(group) + " is in force");
}

Json groups_answer(const Reconciler& reconciler, const DescribeNode& describe) {
  Json answer = Json::array();
  for (const GroupSpec& group : reconciler.declared().groups) {
    answer.push_back(group_json(reconciler, group, describe));
  }
  return answer;
}

Result<Json> group_answer(const Reconciler& reconciler, const Json& request, const DescribeNode& describe) {
  const std::string wanted = request.at("group").as_string("");
  std::vector<std::string> known;
  for (const GroupSpec& group : reconciler.declared().groups) {
    if (group.id == wanted || group.name == wanted) return group_json(reconciler, group, describe);
    known.push_back(group.id);
    known.push_back(group.name);
  }
  const auto near = nearest_word(wanted, known);
  return Error(ErrorKind::kNotFound, "no group " + quote(wanted) + (near ? "; did you mean '" + *near + "'?" : ""));
}

}  // namespace understudy
