// SPDX-License-Identifier: Apache-2.0
// Observe, plan, begin, record, over and over: brings every server to the state that is declared for it.
//
// Order of effects, for every operation: the task and the state it brings are on stable storage BEFORE the driver is
// told; what the driver reports, the state that brings and the end of the task are ONE commit. So the process can be
// killed at any instruction: on start, open tasks are given to the driver again under the same id.
//
// A task that failed is tried again after 1 s, 2 s, 4 s, ... up to 5 minutes, as long as the declaration asks for it.
// Not thread-safe; no call blocks but for the database's fsync.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/result.h"
#include "orchestrator/drivers/driver.h"
#include "orchestrator/plan/group_plan.h"
#include "orchestrator/spec/declared_state.h"
#include "orchestrator/state/orchestrator_state.h"

namespace understudy {

inline constexpr std::uint64_t kRetryFirstNs = 1'000'000'000;
inline constexpr std::uint64_t kRetryLastNs = 300'000'000'000;

// What happened, for the log.
struct ReconcileEvent {
  enum class Kind : std::uint8_t {
    kTaskBegun,
    kTaskDone,
    kTaskFailed,     // `text`: why, and when it is tried again
    kTaskDelayed,    // the driver could not be reached
    kStateChanged,   // `text`: "realtime-replicating -> replication-error"
    kReportRefused,  // a client reports a state that nothing leads to
  };
  Kind kind = Kind::kTaskBegun;
  std::string group;
  std::string server;
  std::uint64_t task = 0;  // 0 = none
  std::string text;
};

struct ReconcilerOptions {
  OrchestratorState& state;
  Driver& driver;
  Clock& clock;
  DeclaredOptions declared;
  std::function<void(const ReconcileEvent&)> notify;        // may be empty
  std::function<void(const char* place)> crash_point;       // tests end the process, or throw, here
};

class Reconciler {
 public:
  // Takes up what the last process left.
  static Result<std::unique_ptr<Reconciler>> open(ReconcilerOptions options);

  // A new declaration: all of it or nothing. kInvalidConfig with every mistake; the old one stays in force then.
  // The result is whether anything is different.
  Result<bool> declare(const std::vector<DeclaredSource>& sources);
  const DeclaredState& declared() const { return declared_; }
  // The texts that it was read from.
  const std::vector<DeclaredSource>& sources() const { return sources_; }
  // What would follow for a group if `sources` were declared; nothing is changed. Errors as of declare().
  Result<GroupPlan> preview(const std::vector<DeclaredSource>& sources, const std::string& group) const;
  // Not so: what was in force cannot be read any more, and nothing is done until a right declaration replaced it.
  bool is_usable() const { return usable_.ok(); }

  // One round over all servers. Repeat it every second, and when something changed. An error is one of the database:
  // nothing was begun or lost by it.
  Status tick();

  // Allows a step that destroys `object`. kNotFound when no plan waits for that, naming what is waited for.
  Status approve(const std::string& object, const std::string& by);

  // Plans of all groups, or of one, as they are now.
  std::vector<GroupPlan> plans() const;
  Result<GroupPlan> plan(const std::string& group) const;
  const std::map<std::string, KnownServer>& servers() const { return servers_; }
  const std::map<std::string, Task>& open_tasks() const { return open_; }  // by lane
  Result<std::vector<Task>> tasks(const TaskFilter& filter) { return options_.state.tasks(filter); }

 private:
  explicit Reconciler(ReconcilerOptions options) : options_(std::move(options)) {}

  struct Change;
  Status load();
  Result<DeclaredState> check(const std::vector<DeclaredSource>& sources) const;
  GroupPlan plan_of(const GroupSpec& group) const;
  Status observe(const std::string& name);
  Status follow(const std::string& lane);
  Status begin(const std::string& group, const GroupPlanEntry& entry);
  Status give(Task& task);
  Status finish(const Task& task, bool done, const DriverProgress& progress);
  Status save(const Change& change);
  Status drop_stale_approvals(const std::vector<GroupPlan>& plans);
  const ServerSpec* spec_of(const std::string& server) const;
  LifecycleFacts facts_of_known(const std::string& name, const KnownServer& server) const;
  DriverOrder order_of(const Task& task) const;
  bool is_held_back(const KnownServer& server, Trigger operation) const;
  void end_task(Change& change, Task task, bool done, const std::string& error) const;
  void tell(ReconcileEvent::Kind kind, const Task& task, std::string text) const;
  void tell_state(const std::string& name, const KnownServer& before, const KnownServer& after) const;
  void at(const char* place) const {
    if (options_.crash_point) options_.crash_point(place);
  }

  ReconcilerOptions options_;
  DeclaredState declared_;
  std::vector<DeclaredSource> sources_;
  Status usable_;  // not ok: what was in force cannot be read any more, and nothing replaced it
  std::map<std::string, KnownServer> servers_;
  std::map<std::string, Task> open_;  // by lane: the server's name, or that and "/drill"
  std::map<std::string, Approval> approvals_;     // by object
  std::set<std::uint64_t> given_;                 // tasks that this process has handed over
  std::map<std::string, LifecycleState> refused_reports_;  // told once
};

}  // namespace understudy
