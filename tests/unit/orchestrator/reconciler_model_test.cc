// SPDX-License-Identifier: Apache-2.0
// The reconciler against the world of recording_driver.h, whose model of the specification is its own: random
// declarations, failures, silence, late reports and crashes. Then the faults stop, and everything must come to rest
// where it was declared.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "orchestrator/reconcile/reconciler.h"
#include "tests/unit/orchestrator/reconciler_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

using namespace understudy;

namespace {

constexpr int kServers = 4;
constexpr int kFaultySeconds = 250;
// The longest wait between two tries is five minutes; a server's life has fewer than 20 operations.
constexpr int kSettleSecondsMax = 6000;

struct Wanted {
  bool declared = true;
  Phase phase = Phase::kReplicating;
  bool drill = false;
  int repair_order = 0;
  int restart_order = 0;
};

class Model {
 public:
  explicit Model(std::uint64_t seed) : harness(seed), random_(seed * 7919 + 1) {}

  void run() {
    REQUIRE(harness.start().ok());
    harness.driver.faults = true;
    for (int second = 0; second < kFaultySeconds; ++second) {
      if (random_() % 8 == 0) change_declaration();
      if (random_() % 4 == 0) approve_what_waits(/* all= */ false);
      if (random_() % 10 == 0) harness.crash_in = static_cast<long>(random_() % 12 + 1);
      if (random_() % 60 == 0) harness.clock.now_ns -= random_() % 7'200'000'000'000;  // clocks jump
      harness.second();
    }
    harness.driver.faults = false;
    harness.crash_in = -1;
    settle();
    check_history();
  }

  ReconcilerHarness harness;

 private:
  std::string name(int i) const { return "web-" + std::to_string(i); }

  std::string declaration() const {
    std::string servers;
    for (int i = 0; i < kServers; ++i) {
      const Wanted& wanted = wanted_[i];
      if (!wanted.declared) continue;
      std::string more = "phase: " + std::string(phase_name(wanted.phase));
      if (wanted.drill) more += "\n    drill: {}";
      more += "\n    repair_order: " + std::to_string(wanted.repair_order);
      more += "\n    restart_order: " + std::to_string(wanted.restart_order);
      if (i == 1) more += "\n    reverse: {original_machine: true}";
      if (i == 2 && wanted_[1].declared) more += "\n    boot_after: [web-1]";
      servers += server_text(name(i), i + 1, more);
    }
    return group_text(servers, "operations: {parallel: 2, on_failure: continue}\n");
  }

  void declare() {
    for (int tries = 0; tries < 3; ++tries) {
      try {
        const std::string mistakes = harness.declare(declaration());  // outside of CHECK: it would catch a Crash
        CHECK(mistakes == "");
        return;
      } catch (const Crash&) {
        harness.crash_in = -1;
        REQUIRE(harness.start().ok());
      }
    }
  }

  void change_declaration() {
    Wanted& wanted = wanted_[random_() % kServers];
    switch (random_() % 8) {
      case 0: wanted.declared = !wanted.declared; break;
      case 1: wanted.drill = !wanted.drill; break;
      case 2: ++wanted.repair_order; break;
      case 3: ++wanted.restart_order; break;
      default: wanted.phase = static_cast<Phase>(random_() % kPhases); break;
    }
    if (wanted.phase != Phase::kReplicating && wanted.phase != Phase::kStopped) wanted.drill = false;
    declare();
  }

  void approve_what_waits(bool all) {
    for (const GroupPlan& plan : harness.reconciler->plans()) {
      for (const GroupPlanEntry& entry : plan.entries) {
        for (const PlanStep& step : entry.plan.steps) {
          if (step.approved || (!all && random_() % 3 != 0)) continue;
          if (!harness.reconciler->approve(step.destroys, "model").ok()) continue;
          // One approval may be used once.
          harness.driver.allowed[step.destroys] = 1;
        }
      }
    }
  }

  // Declares, as an operator would, what can be reached from where each server is.
  bool declare_what_can_be_reached() {
    bool changed = false;
    for (int i = 0; i < kServers; ++i) {
      Wanted& wanted = wanted_[i];
      const Wanted before = wanted;
      for (const GroupPlan& plan : harness.reconciler->plans()) {
        for (const GroupPlanEntry& entry : plan.entries) {
          if (entry.server != name(i)) continue;
          if (entry.plan.waits.find("raise repair_order") != std::string::npos) ++wanted.repair_order;
          if (entry.plan.blocked.empty()) continue;
          const std::string state = harness.state_of(name(i));
          const bool on_the_way_back = state.starts_with("reverse") || state == "failover-confirmed";
          wanted.declared = state != "upgrade-failed";
          wanted.phase = on_the_way_back ? Phase::kFailedBack : Phase::kReplicating;
          // Points that are being deleted: there is only one way on.
          if (entry.plan.blocked.find("recovery points has begun") != std::string::npos) {
            wanted.phase = Phase::kConfirmed;
          }
        }
      }
      if (wanted.phase != Phase::kReplicating && wanted.phase != Phase::kStopped) wanted.drill = false;
      changed |= before.phase != wanted.phase || before.repair_order != wanted.repair_order ||
                 before.declared != wanted.declared;
    }
    if (changed) declare();
    return changed;
  }

  bool at_rest() const {
    if (!harness.reconciler->open_tasks().empty()) return false;
    for (const GroupPlan& plan : harness.reconciler->plans()) {
      if (!plan.is_empty()) return false;
    }
    return true;
  }

  void settle() {
    declare();
    int quiet = 0;
    for (int second = 0; second < kSettleSecondsMax && quiet < 20; ++second) {
      harness.second();
      quiet = at_rest() ? quiet + 1 : 0;
      approve_what_waits(/* all= */ true);
      if (second % 10 == 0 && declare_what_can_be_reached()) quiet = 0;
    }
    CHECK(at_rest());
    if (!at_rest()) MESSAGE(group_plan_text(harness.reconciler->plans()[0]));
    for (int i = 0; i < kServers; ++i) check_server(i);
    CHECK(harness.error == "");
  }

  // Where the server must be, from the declaration alone, and that the world thinks so, too.
  void check_server(int i) const {
    static const std::map<Phase, std::set<std::string>> kResting{
        {Phase::kInitialized, {"initialized"}},
        {Phase::kReplicating, {"realtime-replicating"}},
        {Phase::kStopped, {"full-stopped", "realtime-stopped", "repair-stopped", "replication-error"}},
        {Phase::kFailedOver, {"failed-over"}},
        {Phase::kConfirmed, {"failover-confirmed"}},
        {Phase::kReverseInitialized, {"reverse-initialized"}},
        {Phase::kReverseReplicating, {"reverse-realtime-replicating"}},
        {Phase::kReverseStopped,
         {"reverse-full-stopped", "reverse-realtime-stopped", "reverse-repair-stopped", "reverse-replication-error"}},
        {Phase::kFailedBack, {"failed-back"}}};
    const std::string state = harness.state_of(name(i));
    INFO(name(i) << " is " << state << ", declared " << phase_name(wanted_[i].phase));
    CHECK(state == harness.driver.state_of(name(i)));
    if (!wanted_[i].declared) {
      CHECK(state == "absent");
      return;
    }
    CHECK(kResting.at(wanted_[i].phase).count(state) == 1);
  }

  // No order that the world took is missing in the history, and none ended twice or never.
  void check_history() {
    std::set<std::uint64_t> tasks;
    for (const Task& task : harness.tasks()) {
      CHECK(tasks.insert(task.id).second);
      CHECK(task.state != TaskState::kOpen);
    }
    for (const std::uint64_t id : harness.driver.order_ids()) CHECK(tasks.count(id) == 1);
    for (const std::string& breach : harness.driver.breaches) {
      INFO(breach);
      CHECK(breach.empty());
    }
  }

  std::mt19937_64 random_;
  Wanted wanted_[kServers];
};

std::uint64_t number_from_environment(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

// A driver whose effects are lines of a file: what a killed process did is there for the next one.
class FileDriver final : public Driver {
 public:
  explicit FileDriver(std::string path) : path_(std::move(path)) {
    std::ifstream lines(path_);
    std::uint64_t id = 0;
    std::string operation;
    while (lines >> id >> operation) take(id, operation);
  }
  Status give(const DriverOrder& order) override {
    const std::string operation(trigger_name(order.operation));
    if (orders.count(order.id) != 0) return ok_status();
    std::ofstream file(path_, std::ios::app);
    file << (std::to_string(order.id) + " " + operation + "\n") << std::flush;
    take(order.id, operation);
    return ok_status();
  }
  DriverProgress progress(const DriverOrder& order) override {
    DriverProgress progress;
    if (orders.count(order.id) != 0) progress.state = DriverProgress::State::kDone;
    return progress;
  }
  std::optional<ServerReport> report(const std::string&) override {
    ServerReport report;
    report.order = newest_;
    if (!state_.empty()) report.replication = *parse_lifecycle_state(state_);
    report.usable_point = true;
    return report;
  }
  std::map<std::uint64_t, std::string> orders;

 private:
  void take(std::uint64_t id, const std::string& operation) {
    orders[id] = operation;
    newest_ = id;
    if (operation == "start" || operation == "restart") state_ = "realtime-replicating";
    if (operation == "stop") state_ = "realtime-stopped";
  }
  std::string path_;
  std::uint64_t newest_ = 0;
  std::string state_;
};

// Declares stop and go in turns until it is killed. Runs in a child process: no doctest in here.
[[noreturn]] void flip_until_killed(const std::string& directory) {
  auto state = OrchestratorState::open(directory + "/orchestrator.db");
  if (!state.ok()) ::_exit(3);
  FileDriver driver(directory + "/orders");
  auto reconciler = Reconciler::open({**state, driver, system_clock(), {}, {}, {}});
  if (!reconciler.ok()) ::_exit(4);
  for (int i = 0;; ++i) {
    const std::string phase = i / 4 % 2 == 0 ? "replicating" : "stopped";
    const DeclaredSource source = source_of("g", group_text(server_text("web-1", 5, "phase: " + phase)));
    if (!(*reconciler)->declare({source}).ok()) ::_exit(5);
    if (!(*reconciler)->tick().ok()) ::_exit(6);
  }
}

}  // namespace

TEST_CASE("model: whatever happens, nothing illegal is done and everything comes to rest as declared") {
  const std::uint64_t first = number_from_environment("UNDERSTUDY_MODEL_SEED", 1);
  const std::uint64_t count = number_from_environment("UNDERSTUDY_MODEL_SEEDS", 40);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    INFO("replay with UNDERSTUDY_MODEL_SEED=" << seed << " UNDERSTUDY_MODEL_SEEDS=1");
    Model model(seed);
    model.run();
  }
}

TEST_CASE("model: killed with SIGKILL anywhere, it goes on with the same orders") {
  TemporaryDirectory directory;
  std::mt19937_64 random(5);
  for (int round = 0; round < 25; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) flip_until_killed(directory.path());
    ::usleep(static_cast<useconds_t>(2000 + random() % 30000));
    REQUIRE(::kill(child, SIGKILL) == 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));  // it never ended by itself
  }
  // What is left open is finished under the same id, and the history and the driver agree.
  auto state = OrchestratorState::open(directory.file("orchestrator.db"));
  REQUIRE(state.ok());
  FileDriver driver(directory.file("orders"));
  auto reconciler = Reconciler::open({**state, driver, system_clock(), {}, {}, {}});
  REQUIRE(reconciler.ok());
  REQUIRE((*reconciler)->declare({source_of("g", group_text(server_text("web-1", 5)))}).ok());
  for (int i = 0; i < 8; ++i) REQUIRE((*reconciler)->tick().ok());
  CHECK((*reconciler)->servers().at("web-1").observed.lifecycle.state == LifecycleState::kRealtimeReplicating);
  CHECK((*reconciler)->open_tasks().empty());
  TaskFilter filter;
  filter.count_max = 1'000'000;
  const auto tasks = (*reconciler)->tasks(filter);
  REQUIRE(tasks.ok());
  CHECK(tasks->size() == driver.orders.size());
  CHECK(tasks->size() > 2);
  for (const Task& task : *tasks) {
    REQUIRE(driver.orders.count(task.id) == 1);
    CHECK(driver.orders.at(task.id) == trigger_name(task.operation));
  }
  // Each order was written once, by whichever process.
  std::ifstream lines(directory.file("orders"));
  std::set<std::string> seen;
  for (std::string line; std::getline(lines, line);) CHECK(seen.insert(line).second);
}
