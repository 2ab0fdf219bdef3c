// SPDX-License-Identifier: Apache-2.0
// The tables of nodes, enrolments and orders.
#include <array>

#include "daemon/base/check.h"
#include "daemon/base/text.h"
#include "orchestrator/state/database.h"
#include "orchestrator/state/orchestrator_state.h"

namespace understudy {

namespace {

constexpr std::array<std::string_view, 4> kAgentPhases{"registered", "replicating", "stopped", "released"};
// So long a token can still be told from one that never was.
constexpr std::uint64_t kExpiredKeptNs = 86'400'000'000'000;

}  // namespace

std::string_view agent_phase_name(AgentPhase phase) { return kAgentPhases.at(static_cast<std::size_t>(phase)); }

Result<AgentPhase> parse_agent_phase(std::string_view name) {
  for (std::size_t i = 0; i < kAgentPhases.size(); ++i) {
    if (kAgentPhases[i] == name) return static_cast<AgentPhase>(i);
  }
  return Error(ErrorKind::kCorrupt, quote(name) + " is no phase of an agent");
}

Result<std::vector<KnownNode>> OrchestratorState::nodes() {
  ASSIGN_OR_RETURN(Statement rows, database_->prepare("SELECT role, name, machine, enrolled_ns FROM node"));
  std::vector<KnownNode> nodes;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, rows.step());
    if (!more) return nodes;
    nodes.push_back({rows.text(0), rows.text(1), rows.text(2), rows.number(3)});
  }
}

Status OrchestratorState::set_node(const KnownNode& node) {
  CHECK(writing_);
  ASSIGN_OR_RETURN(Statement row, database_->prepare("INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?)"));
  return row.bind(node.role).bind(node.name).bind(node.machine).bind(node.enrolled_ns).run();
}

Status OrchestratorState::remove_node(const std::string& role, const std::string& name) {
  CHECK(writing_);
  ASSIGN_OR_RETURN(Statement row, database_->prepare("DELETE FROM node WHERE role = ? AND name = ?"));
  return row.bind(role).bind(name).run();
}

Result<std::optional<Enrolment>> OrchestratorState::enrolment(const std::string& secret_sha256) {
  ASSIGN_OR_RETURN(Statement row, database_->prepare("SELECT secret_sha256, role, name, made_by, made_ns, expires_ns, "
                                                     "used_ns FROM enrolment WHERE secret_sha256 = ?"));
  row.bind(secret_sha256);
  ASSIGN_OR_RETURN(const bool found, row.step());
  if (!found) return std::optional<Enrolment>();
  return std::optional<Enrolment>(Enrolment{row.text(0), row.text(1), row.text(2), row.text(3), row.number(4),
                                            row.number(5), row.number(6)});
}

Status OrchestratorState::set_enrolment(const Enrolment& made, std::uint64_t now_ns) {
  CHECK(writing_);
  ASSIGN_OR_RETURN(Statement old, database_->prepare("DELETE FROM enrolment WHERE expires_ns < ?"));
  RETURN_IF_ERROR(old.bind(now_ns > kExpiredKeptNs ? now_ns - kExpiredKeptNs : 0).run());
  ASSIGN_OR_RETURN(Statement row, database_->prepare("INSERT OR REPLACE INTO enrolment VALUES (?, ?, ?, ?, ?, ?, ?)"));
  row.bind(made.secret_sha256).bind(made.role).bind(made.name).bind(made.made_by);
  return row.bind(made.made_ns).bind(made.expires_ns).bind(made.used_ns).run();
}

Result<std::map<std::string, ServerOrders>> OrchestratorState::orders() {
  ASSIGN_OR_RETURN(Statement rows, database_->prepare("SELECT server, task, phase, epoch, restart, repair, receiver, "
                                                      "receiver_address, receiver_port FROM orders"));
  std::map<std::string, ServerOrders> all;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, rows.step());
    if (!more) return all;
    ServerOrders orders;
    orders.task = rows.number(1);
    ASSIGN_OR_RETURN(orders.phase, parse_agent_phase(rows.text(2)));
    orders.epoch = rows.number(3);
    orders.restart = rows.number(4);
    orders.repair = rows.number(5);
    orders.receiver = rows.text(6);
    orders.receiver_address = rows.text(7);
    orders.receiver_port = rows.number(8);
    all.emplace(rows.text(0), std::move(orders));
  }
}

Status OrchestratorState::set_orders(const std::string& server, const ServerOrders& orders) {
  CHECK(writing_);
  ASSIGN_OR_RETURN(Statement row,
                   database_->prepare("INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  row.bind(server).bind(orders.task).bind(agent_phase_name(orders.phase)).bind(orders.epoch);
  row.bind(orders.restart).bind(orders.repair).bind(orders.receiver).bind(orders.receiver_address);
  return row.bind(orders.receiver_port).run();
}

}  // namespace understudy
