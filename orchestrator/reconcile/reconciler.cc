// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/reconcile/reconciler.h"

#include <algorithm>

#include "daemon/base/check.h"
#include "daemon/base/text.h"
#include "orchestrator/reconcile/operation_end.h"

namespace understudy {
namespace {

using S = LifecycleState;
using T = Trigger;
using Kind = ReconcileEvent::Kind;

bool is_about_drill(T operation) { return operation == T::kDrill || operation == T::kCleanDrill; }

// A server's own operations and those on its drill run beside one another.
std::string lane_of(const std::string& server, T operation) {
  return is_about_drill(operation) ? server + "/drill" : server;
}

bool is_about_failed_over(S state) { return state == S::kFailedOver || state == S::kConfirming; }

bool can_be_given_later(ErrorKind kind) {
  return kind == ErrorKind::kTimeout || kind == ErrorKind::kBusy || kind == ErrorKind::kClosed;
}

}  // namespace

// One commit, and what it changes in memory once it is durable.
struct Reconciler::Change {
  std::string name;
  KnownServer server;
  std::vector<Task> tasks;  // id 0 = new
  std::string used_approval;
};

Result<std::unique_ptr<Reconciler>> Reconciler::open(ReconcilerOptions options) {
  std::unique_ptr<Reconciler> reconciler(new Reconciler(std::move(options)));
  if (Status status = reconciler->load(); !status.ok()) return std::move(status).error();
  return reconciler;
}

Status Reconciler::load() {
  ASSIGN_OR_RETURN(sources_, options_.state.declared());
  ASSIGN_OR_RETURN(servers_, options_.state.servers());
  ASSIGN_OR_RETURN(const std::vector<Approval> approvals, options_.state.approvals());
  for (const Approval& approval : approvals) approvals_[approval.object] = approval;
  TaskFilter filter;
  filter.state = TaskState::kOpen;
  filter.count_max = 2 * servers_.size() + 1;
  ASSIGN_OR_RETURN(const std::vector<Task> tasks, options_.state.tasks(filter));
  for (const Task& task : tasks) open_[lane_of(task.server, task.operation)] = task;
  auto declared = parse_declared_state(sources_, options_.declared);
  if (declared.ok()) {
    declared_ = std::move(declared).value();
  } else {
    // With an empty declaration in its place every server would be taken out.
    usable_ = Error(declared.error()).with_context("the declaration in force is no longer valid");
  }
  return ok_status();
}

Result<DeclaredState> Reconciler::check(const std::vector<DeclaredSource>& sources) const {
  ASSIGN_OR_RETURN(DeclaredState next, parse_declared_state(sources, options_.declared));
  KnownServers known;
  for (const auto& [name, server] : servers_) known.group_of[name] = server.group;
  RETURN_IF_ERROR(check_declared_change(declared_, known, next));
  return next;
}

Result<GroupPlan> Reconciler::preview(const std::vector<DeclaredSource>& sources, const std::string& group) const {
  ASSIGN_OR_RETURN(const DeclaredState next, check(sources));
  const GroupSpec* spec = next.find_group(group);
  if (spec == nullptr) return GroupPlan{group, {}};
  return plan_of(*spec);
}

Result<bool> Reconciler::declare(const std::vector<DeclaredSource>& sources) {
  const bool problem = std::any_of(sources.begin(), sources.end(),
                                   [](const DeclaredSource& source) { return !source.problem.empty(); });
  if (sources == sources_ && usable_.ok() && !problem) return false;
  ASSIGN_OR_RETURN(DeclaredState next, check(sources));
  at("declare: before commit");
  RETURN_IF_ERROR(options_.state.write([&] { return options_.state.set_declared(sources); }));
  at("declare: after commit");
  sources_ = sources;
  declared_ = std::move(next);
  usable_ = ok_status();
  return true;
}

const ServerSpec* Reconciler::spec_of(const std::string& server) const {
  const auto known = servers_.find(server);
  // A known one is declared in its own group or not at all (check_declared_change()).
  const GroupSpec* group =
      known == servers_.end() ? declared_.group_of(server) : declared_.find_group(known->second.group);
  return group == nullptr ? nullptr : group->find_server(server);
}

LifecycleFacts Reconciler::facts_of_known(const std::string& name, const KnownServer& server) const {
  const GroupSpec* group = declared_.find_group(server.group);
  CHECK(group != nullptr);  // check_declared_change(): a group stays as long as it has servers
  return facts_of(spec_of(name), *group, server.observed);
}

DriverOrder Reconciler::order_of(const Task& task) const {
  DriverOrder order;
  order.id = task.id;
  order.operation = task.operation;
  order.group = task.group;
  order.server = task.server;
  order.group_spec = declared_.find_group(task.group);
  order.server_spec = spec_of(task.server);
  return order;
}

void Reconciler::tell(Kind kind, const Task& task, std::string text) const {
  if (options_.notify) options_.notify({kind, task.group, task.server, task.id, std::move(text)});
}

void Reconciler::tell_state(const std::string& name, const KnownServer& before, const KnownServer& after) const {
  if (!options_.notify) return;
  const Lifecycle& from = before.observed.lifecycle;
  const Lifecycle& to = after.observed.lifecycle;
  std::string text;
  if (from.state != to.state) {
    text = std::string(lifecycle_state_name(from.state)) + " -> " + std::string(lifecycle_state_name(to.state));
  }
  if (from.drill != to.drill) {
    text += std::string(text.empty() ? "" : ", ") + "drill: " + std::string(drill_state_name(from.drill)) + " -> " +
            std::string(drill_state_name(to.drill));
  }
  if (!text.empty()) options_.notify({Kind::kStateChanged, after.group, name, 0, std::move(text)});
}

Status Reconciler::save(const Change& change) {
  const bool gone = change.server.observed.lifecycle.state == S::kAbsent;
  std::vector<Task> tasks = change.tasks;
  at("save: before commit");
  const Status written = options_.state.write([&]() -> Status {
    for (Task& task : tasks) {
      if (task.id != 0) RETURN_IF_ERROR(options_.state.set_task(task));
    }
    KnownServer server = change.server;
    for (Task& task : tasks) {
      if (task.id != 0) continue;
      ASSIGN_OR_RETURN(task.id, options_.state.add_task(task));
      if (!is_about_drill(task.operation)) server.newest_order = task.id;
    }
    at("save: inside the transaction");
    if (!change.used_approval.empty()) RETURN_IF_ERROR(options_.state.remove_approval(change.used_approval));
    return gone ? options_.state.remove_server(change.name) : options_.state.set_server(change.name, server);
  });
  if (!written.ok()) return written;
  at("save: after commit");
  const auto found = servers_.find(change.name);
  tell_state(change.name, found == servers_.end() ? KnownServer() : found->second, change.server);
  if (gone) {
    servers_.erase(change.name);
  } else {
    servers_[change.name] = change.server;
  }
  approvals_.erase(change.used_approval);
  for (const Task& task : tasks) {
    const std::string lane = lane_of(task.server, task.operation);
    if (task.state != TaskState::kOpen) {
      const auto open = open_.find(lane);
      if (open != open_.end() && open->second.id == task.id) open_.erase(open);
      continue;
    }
    open_[lane] = task;
    if (!gone && !is_about_drill(task.operation)) {
      KnownServer& server = servers_[change.name];
      server.newest_order = std::max(server.newest_order, task.id);
    }
  }
  return ok_status();
}

void Reconciler::end_task(Change& change, Task task, bool done, const std::string& error) const {
  const std::uint64_t now_ns = options_.clock.wall_ns();
  const std::string name(trigger_name(task.operation));
  task.state = done ? TaskState::kDone : TaskState::kFailed;
  task.error = done ? "" : error;
  task.ended_ns = now_ns;
  if (done) task.progress_permille = 1000;
  if (!done) {
    change.server.failures = change.server.failed_operation == name ? change.server.failures + 1 : 1;
    change.server.failed_operation = name;
    const std::uint64_t doublings = std::min<std::uint64_t>(change.server.failures - 1, 20);
    change.server.retry_at_ns = now_ns + std::min(kRetryFirstNs << doublings, kRetryLastNs);
  } else if (change.server.failed_operation == name) {
    change.server.failures = change.server.retry_at_ns = 0;
    change.server.failed_operation.clear();
  }
  change.tasks.push_back(std::move(task));
}

Status Reconciler::observe(const std::string& name) {
  const std::optional<ServerReport> report = options_.driver.report(name);
  if (!report) return ok_status();
  Change change{name, servers_.at(name), {}, ""};
  ServerObserved& observed = change.server.observed;
  if (report->usable_point) observed.usable_point = *report->usable_point;
  if (report->source_lost) observed.source_lost = *report->source_lost;
  observed.healthy = report->host_healthy;
  observed.drill_healthy = report->drill_healthy;
  if (!report->client_version.empty()) observed.client_version = report->client_version;
  const bool counts = report->replication && report->order >= change.server.newest_order &&
                      is_replication_state(observed.lifecycle.state);
  if (counts) {
    const LifecycleFacts facts = facts_of_known(name, change.server);
    const auto events = events_to_reported(observed.lifecycle, facts, *report->replication);
    for (const T event : events.value_or(std::vector<T>())) {
      observed.lifecycle = lifecycle_step(observed.lifecycle, facts, event).next;
    }
    const auto told = refused_reports_.find(name);
    if (events) {
      refused_reports_.erase(name);
    } else if (told == refused_reports_.end() || told->second != *report->replication) {
      refused_reports_[name] = *report->replication;
      Task about;
      about.group = change.server.group;
      about.server = name;
      tell(Kind::kReportRefused, about,
           "the client reports " + quote(lifecycle_state_name(*report->replication)) +
               ", to which nothing leads from " + quote(lifecycle_state_name(observed.lifecycle.state)));
    }
  }
  const auto open = open_.find(name);
  if (open != open_.end() && ends_by_report(open->second.operation) && counts) {
    if (const auto done = replication_outcome(open->second.operation, observed.lifecycle.state)) {
      end_task(change, open->second, *done, report->error);
    } else {
      open->second.progress_permille = report->progress_permille;
      open->second.step = std::string(lifecycle_state_name(observed.lifecycle.state));
    }
  }
  const ServerSpec* spec = spec_of(name);
  if (spec != nullptr && spec->phase != Phase::kFailedOver) observed.rolled_back = false;
  if (change.tasks.empty() && change.server == servers_.at(name)) return ok_status();
  RETURN_IF_ERROR(save(change));
  for (const Task& task : change.tasks) {
    tell(task.state == TaskState::kDone ? Kind::kTaskDone : Kind::kTaskFailed, task, task.error);
  }
  return ok_status();
}

Status Reconciler::give(Task& task) {
  at("give: before the driver");
  const Status status = options_.driver.give(order_of(task));
  at("give: after the driver");
  if (status.ok()) {
    given_.insert(task.id);
    task.error.clear();
    return ok_status();
  }
  if (can_be_given_later(status.error().kind())) {
    if (task.error != status.error().message()) tell(Kind::kTaskDelayed, task, status.error().message());
    task.error = status.error().message();
    return ok_status();
  }
  DriverProgress refused;
  refused.error = status.error().message();
  return finish(task, /* done= */ false, refused);
}

Status Reconciler::follow(const std::string& lane) {
  const auto found = open_.find(lane);
  if (found == open_.end()) return ok_status();
  Task& task = found->second;
  if (given_.count(task.id) == 0) return give(task);
  const DriverProgress progress = options_.driver.progress(order_of(task));
  switch (progress.state) {
    case DriverProgress::State::kUnknown: return give(task);
    case DriverProgress::State::kFailed: return finish(task, false, progress);
    case DriverProgress::State::kDone:
      if (!ends_by_report(task.operation)) return finish(task, true, progress);
      return ok_status();
    case DriverProgress::State::kRunning: break;
  }
  if (!ends_by_report(task.operation)) {
    task.step = progress.step;
    task.progress_permille = progress.progress_permille;
  }
  return ok_status();
}

Status Reconciler::finish(const Task& task, bool done, const DriverProgress& progress) {
  Change change{task.server, servers_.at(task.server), {}, ""};
  ServerObserved& observed = change.server.observed;
  const S before = observed.lifecycle.state;
  const LifecycleFacts facts = facts_of_known(task.server, change.server);
  observed.lifecycle = lifecycle_step(observed.lifecycle, facts, end_event(task.operation, done)).next;
  const S after = observed.lifecycle.state;
  if (after == S::kFailedOver && before == S::kFailingOver) observed.failed_over_ns = options_.clock.wall_ns();
  if (!is_about_failed_over(after)) observed.failed_over_ns = 0;
  if (observed.lifecycle.drill == DrillState::kNone) observed.applied_drill.clear();
  const ServerSpec* spec = spec_of(task.server);
  if (task.operation == T::kUpgrade && done && spec != nullptr && !spec->client_version.empty()) {
    observed.client_version = spec->client_version;
  }
  Task ended = task;
  ended.step = progress.step;
  ended.progress_permille = std::max(task.progress_permille, progress.progress_permille);
  end_task(change, ended, done, progress.error);
  RETURN_IF_ERROR(save(change));
  const Task& told = change.tasks.back();
  tell(done ? Kind::kTaskDone : Kind::kTaskFailed, told, told.error);
  return ok_status();
}

// Whether the same operation failed a moment ago. A clock that was set back does not make the wait longer.
bool Reconciler::is_held_back(const KnownServer& server, T operation) const {
  const std::uint64_t now_ns = options_.clock.wall_ns();
  return server.failed_operation == trigger_name(operation) && now_ns < server.retry_at_ns &&
         server.retry_at_ns - now_ns <= kRetryLastNs;
}

Status Reconciler::begin(const std::string& group, const GroupPlanEntry& entry) {
  const PlanStep& step = entry.plan.steps.front();
  Change change;
  change.name = entry.server;
  const auto known = servers_.find(entry.server);
  if (known != servers_.end()) change.server = known->second;
  change.server.group = group;
  if (is_held_back(change.server, step.operation)) return ok_status();
  const auto open = open_.find(lane_of(entry.server, step.operation));
  if (open != open_.end()) {
    // What replication was told last counts; anything else that is under way is waited for.
    if (!ends_by_report(open->second.operation)) return ok_status();
    Task ended = open->second;
    ended.state = TaskState::kDone;
    ended.step = "superseded by " + std::string(trigger_name(step.operation));
    ended.ended_ns = options_.clock.wall_ns();
    change.tasks.push_back(std::move(ended));
  }
  const LifecycleFacts facts = facts_of_known(entry.server, change.server);
  const LifecycleStep moved = lifecycle_step(change.server.observed.lifecycle, facts, step.operation);
  CHECK(moved.refused.empty());
  change.server.observed.lifecycle = moved.next;
  note_begun(step.operation, spec_of(entry.server), change.server.observed);
  Task task;
  task.group = group;
  task.server = entry.server;
  task.operation = step.operation;
  task.because = step.because;
  task.destroys = step.destroys;
  task.begun_ns = options_.clock.wall_ns();
  const bool again = change.server.failed_operation == trigger_name(step.operation);
  task.attempt = again ? change.server.failures + 1 : 1;
  if (!step.destroys.empty()) {
    const auto approval = approvals_.find(step.destroys);
    CHECK(approval != approvals_.end());
    task.approved_by = approval->second.by;
    change.used_approval = step.destroys;
  }
  change.tasks.push_back(std::move(task));
  RETURN_IF_ERROR(save(change));
  Task& begun = open_.at(lane_of(entry.server, step.operation));
  tell(Kind::kTaskBegun, begun, begun.because);
  return give(begun);
}

Status Reconciler::tick() {
  if (!usable_.ok()) return usable_;
  std::vector<std::string> names;
  for (const auto& [name, server] : servers_) names.push_back(name);
  for (const std::string& name : names) RETURN_IF_ERROR(observe(name));
  std::vector<std::string> lanes;
  for (const auto& [lane, task] : open_) lanes.push_back(lane);
  for (const std::string& lane : lanes) RETURN_IF_ERROR(follow(lane));
  const std::vector<GroupPlan> current = plans();
  RETURN_IF_ERROR(drop_stale_approvals(current));
  for (const GroupPlan& group : current) {
    for (const GroupPlanEntry& entry : group.entries) {
      if (entry.may_begin) RETURN_IF_ERROR(begin(group.group, entry));
    }
  }
  return ok_status();
}

std::vector<GroupPlan> Reconciler::plans() const {
  std::vector<GroupPlan> plans;
  for (const GroupSpec& group : declared_.groups) plans.push_back(plan_of(group));
  return plans;
}

GroupPlan Reconciler::plan_of(const GroupSpec& group) const {
  std::set<std::string> approved;
  for (const auto& [object, approval] : approvals_) approved.insert(object);
  std::map<std::string, ServerObserved> observed;
  for (const auto& [name, server] : servers_) {
    if (server.group == group.id) observed[name] = server.observed;
  }
  return plan_group(group, observed, {}, approved, options_.clock.wall_ns());
}

Result<GroupPlan> Reconciler::plan(const std::string& group) const {
  std::vector<std::string> known;
  for (GroupPlan& plan : plans()) {
    if (plan.group == group) return std::move(plan);
    known.push_back(plan.group);
  }
  const auto near = nearest_word(group, known);
  return Error(ErrorKind::kNotFound, "no group " + quote(group) + (near ? "; did you mean '" + *near + "'?" : ""));
}

Status Reconciler::approve(const std::string& object, const std::string& by) {
  std::vector<std::string> waiting;
  for (const GroupPlan& group : plans()) {
    for (const GroupPlanEntry& entry : group.entries) {
      for (const PlanStep& step : entry.plan.steps) {
        if (!step.approved) waiting.push_back(step.destroys);
      }
    }
  }
  if (std::find(waiting.begin(), waiting.end(), object) == waiting.end()) {
    return Error(ErrorKind::kNotFound,
                 "nothing waits for the approval of " + quote(object) +
                     (waiting.empty() ? "" : "; what waits: " + quoted_list(waiting)));
  }
  const Approval approval{object, by, options_.clock.wall_ns()};
  RETURN_IF_ERROR(options_.state.write([&] { return options_.state.set_approval(approval); }));
  approvals_[object] = approval;
  return ok_status();
}

// An approval holds for the step it was given for. When no plan has that step any more, it must be given anew.
Status Reconciler::drop_stale_approvals(const std::vector<GroupPlan>& plans) {
  std::set<std::string> wanted;
  for (const GroupPlan& group : plans) {
    for (const GroupPlanEntry& entry : group.entries) {
      for (const PlanStep& step : entry.plan.steps) wanted.insert(step.destroys);
    }
  }
  std::vector<std::string> stale;
  for (const auto& [object, approval] : approvals_) {
    if (wanted.count(object) == 0) stale.push_back(object);
  }
  if (stale.empty()) return ok_status();
  const Status written = options_.state.write([&]() -> Status {
    for (const std::string& object : stale) RETURN_IF_ERROR(options_.state.remove_approval(object));
    return ok_status();
  });
  if (!written.ok()) return written;
  for (const std::string& object : stale) approvals_.erase(object);
  return ok_status();
}

}  // namespace understudy
