// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/state/orchestrator_state.h"

#include <array>

#include "daemon/base/check.h"
#include "daemon/base/text.h"
#include "orchestrator/state/database.h"
#include "orchestrator/state/migrations.h"

namespace understudy {
namespace {

constexpr std::array<std::string_view, 3> kTaskStates{"open", "done", "failed"};

constexpr std::string_view kTaskColumns =
    "id, group_id, server, operation, state, because, approved_by, destroys, step, error, progress_permille, attempt, "
    "begun_ns, ended_ns";

Result<ResumeAt> parse_resume_at(const std::string& name) {
  for (const ResumeAt resume : {ResumeAt::kFull, ResumeAt::kRealtime, ResumeAt::kRepair}) {
    if (resume_at_name(resume) == name) return resume;
  }
  return Error(ErrorKind::kCorrupt, "database: " + quote(name) + " is no phase of replication");
}

Result<KnownServer> read_server(const Statement& row) {
  KnownServer server;
  ServerObserved& observed = server.observed;
  server.group = row.text(1);
  ASSIGN_OR_RETURN(observed.lifecycle.state, parse_lifecycle_state(row.text(2)));
  ASSIGN_OR_RETURN(observed.lifecycle.drill, parse_drill_state(row.text(3)));
  ASSIGN_OR_RETURN(observed.lifecycle.before, parse_lifecycle_state(row.text(4)));
  ASSIGN_OR_RETURN(observed.lifecycle.resume, parse_resume_at(row.text(5)));
  observed.lifecycle.realtime_reached = row.number(6) != 0;
  observed.lifecycle.restart_queued = row.number(7) != 0;
  observed.lifecycle.confirm_begun = row.number(8) != 0;
  observed.lifecycle.deregister_begun = row.number(9) != 0;
  observed.usable_point = row.number(10) != 0;
  observed.source_lost = row.number(11) != 0;
  observed.healthy = row.number(12) != 0;
  observed.drill_healthy = row.number(13) != 0;
  observed.client_version = row.text(14);
  observed.applied_point = row.text(15);
  observed.applied_drill = row.text(16);
  observed.repair_done = row.number(17);
  observed.restart_done = row.number(18);
  observed.failed_over_ns = row.number(19);
  observed.rolled_back = row.number(20) != 0;
  server.failures = row.number(21);
  server.retry_at_ns = row.number(22);
  server.failed_operation = row.text(23);
  server.newest_order = row.number(24);
  return server;
}

Result<Task> read_task(const Statement& row) {
  Task task;
  task.id = row.number(0);
  task.group = row.text(1);
  task.server = row.text(2);
  ASSIGN_OR_RETURN(task.operation, parse_trigger(row.text(3)));
  ASSIGN_OR_RETURN(task.state, parse_task_state(row.text(4)));
  task.because = row.text(5);
  task.approved_by = row.text(6);
  task.destroys = row.text(7);
  task.step = row.text(8);
  task.error = row.text(9);
  task.progress_permille = row.number(10);
  task.attempt = row.number(11);
  task.begun_ns = row.number(12);
  task.ended_ns = row.number(13);
  return task;
}

}  // namespace

std::string_view task_state_name(TaskState state) { return kTaskStates.at(static_cast<std::size_t>(state)); }

Result<TaskState> parse_task_state(std::string_view name) {
  for (std::size_t i = 0; i < kTaskStates.size(); ++i) {
    if (kTaskStates[i] == name) return static_cast<TaskState>(i);
  }
  return Error(ErrorKind::kInvalidArgument, quote(name) + " is no state of a task; known: 'open', 'done' and 'failed'");
}

OrchestratorState::OrchestratorState(std::unique_ptr<Database> database) : database_(std::move(database)) {}
OrchestratorState::~OrchestratorState() = default;

Result<std::unique_ptr<OrchestratorState>> OrchestratorState::open(const std::string& path) {
  return open(path, Durability::kPowerCut);
}

Result<std::unique_ptr<OrchestratorState>> OrchestratorState::open(const std::string& path, Durability durability) {
  ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::open(path, durability));
  if (Status status = migrate_state(*database); !status.ok()) {
    return std::move(status).error().with_context("open " + quote(path));
  }
  return std::unique_ptr<OrchestratorState>(new OrchestratorState(std::move(database)));
}

Status OrchestratorState::write(const std::function<Status()>& steps) {
  CHECK(!writing_);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(*database_));
  struct Writing {
    bool& flag;
    explicit Writing(bool& writing) : flag(writing) { flag = true; }
    ~Writing() { flag = false; }
  } writing(writing_);
  RETURN_IF_ERROR(steps());
  return transaction.commit();
}

Result<std::vector<DeclaredSource>> OrchestratorState::declared() {
  ASSIGN_OR_RETURN(Statement rows, database_->prepare("SELECT id, path, text FROM declared ORDER BY id, position"));
  std::vector<DeclaredSource> sources;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, rows.step());
    if (!more) return sources;
    if (sources.empty() || sources.back().id != rows.text(0)) sources.push_back({rows.text(0), {}, ""});
    sources.back().files.emplace_back(rows.text(1), rows.text(2));
  }
}

Status OrchestratorState::set_declared(const std::vector<DeclaredSource>& sources) {
  CHECK(writing_);
  RETURN_IF_ERROR(database_->execute("DELETE FROM declared"));
  for (const DeclaredSource& source : sources) {
    for (std::size_t i = 0; i < source.files.size(); ++i) {
      ASSIGN_OR_RETURN(Statement row, database_->prepare("INSERT INTO declared VALUES (?, ?, ?, ?)"));
      row.bind(source.id).bind(std::uint64_t{i}).bind(source.files[i].first).bind(source.files[i].second);
      RETURN_IF_ERROR(row.run());
    }
  }
  return ok_status();
}

Result<std::map<std::string, KnownServer>> OrchestratorState::servers() {
  ASSIGN_OR_RETURN(Statement rows, database_->prepare("SELECT * FROM server ORDER BY name"));
  std::map<std::string, KnownServer> servers;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, rows.step());
    if (!more) return servers;
    ASSIGN_OR_RETURN(servers[rows.text(0)], read_server(rows));
  }
}

Status OrchestratorState::set_server(const std::string& name, const KnownServer& server) {
  CHECK(writing_);
  const ServerObserved& observed = server.observed;
  const Lifecycle& lifecycle = observed.lifecycle;
  ASSIGN_OR_RETURN(Statement row,
                   database_->prepare("INSERT OR REPLACE INTO server VALUES "
                                      "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  row.bind(name).bind(server.group).bind(lifecycle_state_name(lifecycle.state)).bind(drill_state_name(lifecycle.drill));
  row.bind(lifecycle_state_name(lifecycle.before)).bind(resume_at_name(lifecycle.resume));
  for (const bool flag : {lifecycle.realtime_reached, lifecycle.restart_queued, lifecycle.confirm_begun,
                          lifecycle.deregister_begun, observed.usable_point, observed.source_lost, observed.healthy,
                          observed.drill_healthy}) {
    row.bind(std::uint64_t{flag});
  }
  row.bind(observed.client_version).bind(observed.applied_point).bind(observed.applied_drill);
  row.bind(observed.repair_done).bind(observed.restart_done).bind(observed.failed_over_ns);
  row.bind(std::uint64_t{observed.rolled_back}).bind(server.failures).bind(server.retry_at_ns);
  row.bind(server.failed_operation).bind(server.newest_order);
  return row.run();
}

Status OrchestratorState::remove_server(const std::string& name) {
  CHECK(writing_);
  ASSIGN_OR_RETURN(Statement row, database_->prepare("DELETE FROM server WHERE name = ?"));
  return row.bind(name).run();
}

Result<std::vector<Approval>> OrchestratorState::approvals() {
  ASSIGN_OR_RETURN(Statement rows, database_->prepare("SELECT object, approved_by, given_ns FROM approval"));
  std::vector<Approval> approvals;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, rows.step());
    if (!more) return approvals;
    approvals.push_back({rows.text(0), rows.text(1), rows.number(2)});
  }
}

Status OrchestratorState::set_approval(const Approval& approval) {
  CHECK(writing_);
  ASSIGN_OR_RETURN(Statement row, database_->prepare("INSERT OR REPLACE INTO approval VALUES (?, ?, ?)"));
  return row.bind(approval.object).bind(approval.by).bind(approval.given_ns).run();
}

Status OrchestratorState::remove_approval(const std::string& object) {
  CHECK(writing_);
  ASSIGN_OR_RETURN(Statement row, database_->prepare("DELETE FROM approval WHERE object = ?"));
  return row.bind(object).run();
}

Result<std::vector<Task>> OrchestratorState::tasks(const TaskFilter& filter) {
  std::string sql = "SELECT " + std::string(kTaskColumns) + " FROM task WHERE begun_ns >= ?";
  if (!filter.group.empty()) sql += " AND group_id = ?";
  if (!filter.server.empty()) sql += " AND server = ?";
  if (filter.operation) sql += " AND operation = ?";
  if (filter.state) sql += " AND state = ?";
  ASSIGN_OR_RETURN(Statement rows, database_->prepare(sql + " ORDER BY id DESC LIMIT ?"));
  rows.bind(filter.since_ns);
  if (!filter.group.empty()) rows.bind(filter.group);
  if (!filter.server.empty()) rows.bind(filter.server);
  if (filter.operation) rows.bind(trigger_name(*filter.operation));
  if (filter.state) rows.bind(task_state_name(*filter.state));
  rows.bind(std::uint64_t{filter.count_max});
  std::vector<Task> tasks;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, rows.step());
    if (!more) return tasks;
    ASSIGN_OR_RETURN(Task task, read_task(rows));
    tasks.push_back(std::move(task));
  }
}

namespace {

void bind_task(Statement& row, const Task& task) {
  row.bind(task.group).bind(task.server).bind(trigger_name(task.operation)).bind(task_state_name(task.state));
  row.bind(task.because).bind(task.approved_by).bind(task.destroys).bind(task.step).bind(task.error);
  row.bind(task.progress_permille).bind(task.attempt).bind(task.begun_ns).bind(task.ended_ns);
}

}  // namespace

Result<std::uint64_t> OrchestratorState::add_task(const Task& task) {
  CHECK(writing_);
  ASSIGN_OR_RETURN(Statement row,
                   database_->prepare("INSERT INTO task (group_id, server, operation, state, because, approved_by, "
                                      "destroys, step, error, progress_permille, attempt, begun_ns, ended_ns) "
                                      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  bind_task(row, task);
  RETURN_IF_ERROR(row.run());
  return database_->last_id();
}

Status OrchestratorState::set_task(const Task& task) {
  CHECK(writing_);
  CHECK(task.id != 0);
  ASSIGN_OR_RETURN(Statement row,
                   database_->prepare("UPDATE task SET group_id = ?, server = ?, operation = ?, state = ?, "
                                      "because = ?, approved_by = ?, destroys = ?, step = ?, error = ?, "
                                      "progress_permille = ?, attempt = ?, begun_ns = ?, ended_ns = ? WHERE id = ?"));
  bind_task(row, task);
  return row.bind(task.id).run();
}

}  // namespace understudy
