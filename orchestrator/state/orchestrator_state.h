// SPDX-License-Identifier: Apache-2.0
// What the orchestrator must not forget: the declaration in force, what is known of every server, tasks, approvals. One
// SQLite file; FORMAT.md has its tables.
//
// Every change is one transaction: write() runs the caller's steps and commits them all or none, and when it returned
// ok they survive a crash. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "orchestrator/plan/server_plan.h"
#include "orchestrator/spec/declared_state.h"
#include "orchestrator/state/node_records.h"
#include "orchestrator/state/task.h"

namespace understudy {

class Database;
enum class Durability : std::uint8_t;  // database.h

inline constexpr std::uint64_t kStateVersion = 2;

// A server as it is kept.
struct KnownServer {
  std::string group;
  ServerObserved observed;
  std::uint64_t failures = 0;     // how often `failed_operation` failed in a row
  std::uint64_t retry_at_ns = 0;  // wall clock: it is not tried again before
  std::string failed_operation;   // empty = none
  // Id of the newest order about the server itself (not its drill). Reports from before it say nothing.
  std::uint64_t newest_order = 0;
  bool operator==(const KnownServer&) const = default;
};

struct Approval {
  std::string object;
  std::string by;
  std::uint64_t given_ns = 0;
};

class OrchestratorState {
 public:
  // Makes or migrates the file. kUnsupported when a newer version of the program wrote it.
  static Result<std::unique_ptr<OrchestratorState>> open(const std::string& path);
  // With less than the usual durability, for tests.
  static Result<std::unique_ptr<OrchestratorState>> open(const std::string& path, Durability durability);
  ~OrchestratorState();

  // `steps` may call the setters below; an error of one of them, or of its own, undoes them all.
  Status write(const std::function<Status()>& steps);

  Result<std::vector<DeclaredSource>> declared();
  Result<std::map<std::string, KnownServer>> servers();
  Result<std::vector<Approval>> approvals();
  // Newest first.
  Result<std::vector<Task>> tasks(const TaskFilter& filter);
  Result<std::vector<KnownNode>> nodes();
  Result<std::optional<Enrolment>> enrolment(const std::string& secret_sha256);
  Result<std::map<std::string, ServerOrders>> orders();  // by server

  // Only within write().
  Status set_declared(const std::vector<DeclaredSource>& sources);
  Status set_server(const std::string& name, const KnownServer& server);
  Status remove_server(const std::string& name);
  Status set_approval(const Approval& approval);
  Status remove_approval(const std::string& object);
  Result<std::uint64_t> add_task(const Task& task);  // its id
  Status set_task(const Task& task);
  Status set_node(const KnownNode& node);
  Status remove_node(const std::string& role, const std::string& name);
  // Forgets those that expired before `now_ns` as well.
  Status set_enrolment(const Enrolment& enrolment, std::uint64_t now_ns);
  Status set_orders(const std::string& server, const ServerOrders& orders);

 private:
  explicit OrchestratorState(std::unique_ptr<Database> database);
  std::unique_ptr<Database> database_;
  bool writing_ = false;
};

}  // namespace understudy
