// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/reconcile/reconciler.h"

#include <algorithm>

#include "daemon/base/atomic_file.h"
#include "orchestrator/spec/group_rules.h"
#include "orchestrator/state/database.h"
#include "tests/unit/orchestrator/reconciler_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

using namespace understudy;

namespace {

std::string one_server(const std::string& more = "", const std::string& group = "") {
  return group_text(server_text("web-1", 5, more), group);
}

// A server that replicates in real time.
void bring_to_realtime(ReconcilerHarness& harness, const std::string& group = "") {
  REQUIRE(harness.start().ok());
  REQUIRE(harness.declare(one_server("", group)) == "");
  harness.seconds(40);
  REQUIRE(harness.state_of("web-1") == "realtime-replicating");
}

std::size_t count_of(const std::vector<ReconcileEvent>& events, ReconcileEvent::Kind kind) {
  return static_cast<std::size_t>(
      std::count_if(events.begin(), events.end(), [&](const ReconcileEvent& event) { return event.kind == kind; }));
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("reconciler: a declared server is added and replicated; the history says so") {
  ReconcilerHarness harness;
  bring_to_realtime(harness);
  CHECK(harness.driver.breaches.empty());
  CHECK(harness.driver.carried_out == std::vector<std::string>{"web-1 add", "web-1 start"});
  const std::vector<Task> tasks = harness.tasks();
  REQUIRE(tasks.size() == 2);
  CHECK(tasks[0].operation == Trigger::kStart);  // newest first
  CHECK(tasks[0].state == TaskState::kDone);
  CHECK(tasks[0].because == "phase 'replicating'");
  CHECK(tasks[0].ended_ns > tasks[0].begun_ns);
  CHECK(harness.reconciler->open_tasks().empty());
  CHECK(harness.reconciler->plans()[0].is_empty());
  // All of it is there after a start.
  REQUIRE(harness.start().ok());
  CHECK(harness.state_of("web-1") == "realtime-replicating");
  CHECK(harness.tasks() == tasks);
  harness.seconds(5);
  CHECK(harness.driver.carried_out.size() == 2);
}

TEST_CASE("reconciler: tasks are found by group, server, operation, state and time") {
  ReconcilerHarness harness;
  bring_to_realtime(harness);
  TaskFilter filter;
  filter.server = "web-2";
  CHECK(harness.tasks(filter).empty());
  filter.server = "web-1";
  filter.operation = Trigger::kAdd;
  CHECK(harness.tasks(filter).size() == 1);
  filter.state = TaskState::kFailed;
  CHECK(harness.tasks(filter).empty());
  TaskFilter since;
  since.since_ns = harness.tasks()[0].begun_ns;
  CHECK(harness.tasks(since).size() == 1);
  TaskFilter group;
  group.group = "other";
  CHECK(harness.tasks(group).empty());
}

TEST_CASE("reconciler: a bad declaration changes nothing, a good one is in force after a restart") {
  ReconcilerHarness harness;
  bring_to_realtime(harness);
  CHECK(has(harness.declare(one_server("phase: stoped")), "g.yaml:18:12: "));
  harness.seconds(10);
  CHECK(harness.state_of("web-1") == "realtime-replicating");
  CHECK(has(harness.declare("") , "missing required key"));
  REQUIRE(harness.declare(one_server("phase: stopped")) == "");
  REQUIRE(harness.start().ok());
  harness.seconds(20);
  CHECK(harness.state_of("web-1") == "realtime-stopped");
}

TEST_CASE("reconciler: nothing is done while what was in force cannot be read any more") {
  ReconcilerHarness harness;
  harness.declared_options.quotas["east"] = 2;
  REQUIRE(harness.start().ok());
  const std::string two = group_text(server_text("web-1", 5) + server_text("web-2", 6));
  REQUIRE(harness.declare(two) == "");
  harness.seconds(30);
  const std::size_t orders = harness.driver.orders_taken();
  harness.declared_options.quotas["east"] = 1;
  REQUIRE(harness.start().ok());
  harness.seconds(3);
  CHECK(has(harness.error, "the declaration in force is no longer valid"));
  CHECK(harness.driver.orders_taken() == orders);
  REQUIRE(harness.declare(one_server()) == "");  // now web-2 is taken out, as declared
  harness.seconds(30);
  CHECK(harness.state_of("web-2") == "absent");
  CHECK(harness.state_of("web-1") == "realtime-replicating");
}

TEST_CASE("reconciler: what failed is tried again, later each time, and never by a clock that jumps") {
  ReconcilerHarness harness;
  REQUIRE(harness.start().ok());
  harness.driver.fail_once = {Trigger::kAdd, Trigger::kRetryInstall};
  REQUIRE(harness.declare(one_server()) == "");
  harness.seconds(60);
  CHECK(harness.state_of("web-1") == "realtime-replicating");
  TaskFilter filter;
  filter.state = TaskState::kFailed;
  CHECK(harness.tasks(filter).size() == 2);
  CHECK(harness.tasks(filter)[0].error == "it did not work");

  REQUIRE(harness.declare(one_server("phase: failed-over")) == "");
  harness.driver.fail_once = {Trigger::kFailover};
  while (harness.state_of("web-1") != "failover-error") harness.second();
  // The clock is set back by a year: the wait is not a year long.
  harness.clock.now_ns -= 365 * 24 * kHourNs;
  harness.seconds(20);
  CHECK(harness.state_of("web-1") == "failed-over");
  CHECK(harness.driver.breaches.empty());
}

TEST_CASE("reconciler: waits between tries grow up to five minutes") {
  ReconcilerHarness harness;
  bring_to_realtime(harness);
  REQUIRE(harness.declare(one_server("phase: failed-over")) == "");
  for (int i = 0; i < 1500; ++i) {
    harness.driver.fail_once = {Trigger::kFailover};
    harness.second();
  }
  TaskFilter filter;
  filter.operation = Trigger::kFailover;
  std::vector<Task> tasks = harness.tasks(filter);
  std::reverse(tasks.begin(), tasks.end());
  REQUIRE(tasks.size() >= 9);
  CHECK(tasks.size() <= 16);
  for (std::size_t i = 1; i < tasks.size(); ++i) {
    CHECK(tasks[i].attempt == i + 1);
    const std::uint64_t wait_ns = std::min(kRetryFirstNs << (i - 1), kRetryLastNs);
    CHECK(tasks[i].begun_ns >= tasks[i - 1].ended_ns + wait_ns);
    CHECK(tasks[i].begun_ns <= tasks[i - 1].ended_ns + wait_ns + 2'000'000'000);
  }
}

TEST_CASE("reconciler: a driver that cannot be reached delays, and loses nothing") {
  ReconcilerHarness harness;
  REQUIRE(harness.start().ok());
  harness.driver.set_unreachable(true);
  REQUIRE(harness.declare(one_server()) == "");
  harness.seconds(10);
  CHECK(harness.state_of("web-1") == "client-installing");
  CHECK(count_of(harness.events, ReconcileEvent::Kind::kTaskDelayed) == 1);  // told once
  REQUIRE(harness.reconciler->open_tasks().size() == 1);
  CHECK(harness.reconciler->open_tasks().begin()->second.error == "not connected");
  harness.driver.set_unreachable(false);
  harness.seconds(40);
  CHECK(harness.state_of("web-1") == "realtime-replicating");
  CHECK(harness.driver.carried_out.size() == 2);
}

TEST_CASE("reconciler: nothing is destroyed before it was approved by name, and an approval is used once") {
  ReconcilerHarness harness;
  bring_to_realtime(harness);
  REQUIRE(harness.declare(one_server("phase: failed-over")) == "");
  harness.seconds(20);
  REQUIRE(harness.declare(one_server("phase: confirmed")) == "");
  harness.seconds(20);
  CHECK(harness.state_of("web-1") == "failed-over");
  CHECK(has(harness.reconciler->approve("web-1:everything", "ops").error().message(),
            "nothing waits for the approval of 'web-1:everything'; what waits: 'web-1:recovery-points'"));
  harness.driver.allowed["web-1:recovery-points"] = 1;
  harness.driver.fail_once = {Trigger::kConfirm};
  REQUIRE(harness.reconciler->approve("web-1:recovery-points", "ops").ok());
  REQUIRE(harness.start().ok());  // it is kept
  harness.seconds(20);
  CHECK(harness.state_of("web-1") == "failed-over");  // it failed, and asks again
  harness.driver.allowed["web-1:recovery-points"] = 1;
  REQUIRE(harness.reconciler->approve("web-1:recovery-points", "ops").ok());
  harness.seconds(20);
  CHECK(harness.state_of("web-1") == "failover-confirmed");
  TaskFilter filter;
  filter.operation = Trigger::kConfirm;
  REQUIRE(harness.tasks(filter).size() == 2);
  CHECK(harness.tasks(filter)[0].approved_by == "ops");
  CHECK(harness.tasks(filter)[0].destroys == "web-1:recovery-points");
  CHECK(harness.driver.breaches.empty());
}

TEST_CASE("reconciler: an approval lapses with the step it was given for") {
  ReconcilerHarness harness;
  bring_to_realtime(harness);
  REQUIRE(harness.declare(one_server("phase: failed-over")) == "");
  harness.seconds(20);
  REQUIRE(harness.declare(one_server("phase: confirmed")) == "");
  REQUIRE(harness.reconciler->approve("web-1:recovery-points", "ops").ok());
  REQUIRE(harness.declare(one_server("phase: failed-over")) == "");
  harness.seconds(20);
  REQUIRE(harness.declare(one_server("phase: confirmed")) == "");
  harness.seconds(20);
  CHECK(harness.state_of("web-1") == "failed-over");
  CHECK(harness.driver.breaches.empty());
}

TEST_CASE("reconciler: a failover does not wait for the copy that is under way") {
  ReconcilerHarness harness;
  bring_to_realtime(harness);
  harness.driver.break_replication("web-1");
  REQUIRE(harness.declare(one_server("restart_order: 1")) == "");
  while (harness.state_of("web-1") != "full-replicating" && harness.state_of("web-1") != "replication-starting") {
    harness.second();
  }
  harness.driver.lose_source("web-1", true);
  REQUIRE(harness.declare(one_server("restart_order: 1\n    phase: failed-over")) == "");
  harness.seconds(10);
  CHECK(harness.state_of("web-1") == "failed-over");
  TaskFilter filter;
  filter.operation = Trigger::kRestart;
  REQUIRE(harness.tasks(filter).size() == 1);
  CHECK((harness.tasks(filter)[0].step == "superseded by failover" || harness.tasks(filter)[0].error.empty()));
  CHECK(harness.reconciler->open_tasks().empty());
  CHECK(harness.driver.breaches.empty());
}

TEST_CASE("reconciler: lost contact destroys nothing") {
  ReconcilerHarness harness;
  bring_to_realtime(harness);
  harness.driver.lose_source("web-1", true);
  harness.driver.break_replication("web-1");
  harness.seconds(5);
  REQUIRE(harness.declare(group_text("")) == "");
  harness.seconds(60);
  CHECK(harness.state_of("web-1") == "replication-error");
  CHECK(harness.reconciler->plans()[0].entries[0].plan.waits == "the approval of 'web-1:only-copy'");
  harness.driver.allowed["web-1:only-copy"] = 1;
  REQUIRE(harness.reconciler->approve("web-1:only-copy", "ops").ok());
  harness.seconds(10);
  CHECK(harness.state_of("web-1") == "absent");
  CHECK(harness.driver.breaches.empty());
}

TEST_CASE("reconciler: a failover that nobody confirms is undone once") {
  ReconcilerHarness harness;
  const std::string rollback = "operations: {auto_rollback: 10min}\n";
  bring_to_realtime(harness, rollback);
  REQUIRE(harness.declare(one_server("phase: failed-over", rollback)) == "");
  harness.seconds(60);
  CHECK(harness.state_of("web-1") == "failed-over");
  harness.driver.allowed["web-1:recovery-host"] = 1;  // the declared timer is the order to do so
  harness.seconds(600);
  CHECK(harness.state_of("web-1") == "realtime-replicating");
  harness.seconds(600);
  CHECK(harness.state_of("web-1") == "realtime-replicating");  // not failed over again
  REQUIRE(harness.declare(one_server("", rollback)) == "");
  harness.seconds(5);
  REQUIRE(harness.declare(one_server("phase: failed-over", rollback)) == "");
  harness.seconds(30);
  CHECK(harness.state_of("web-1") == "failed-over");
  CHECK(harness.driver.breaches.empty());
}

TEST_CASE("reconciler: the whole cycle, killed at every place of it, ends the same and does everything once") {
  const std::vector<std::string> declarations{
      one_server("drill: {}"), one_server(), one_server("phase: failed-over"), one_server("phase: confirmed"),
      one_server("phase: reverse-replicating\n    reverse: {original_machine: true}"), one_server("phase: failed-back"),
      one_server(), one_server("phase: stopped"), group_text("")};
  // Goes through all of them; the process ends at crash point number `crash_at`.
  const auto run = [&](ReconcilerHarness& harness, long crash_at) {
    REQUIRE(harness.start().ok());
    harness.crash_in = crash_at;
    for (const std::string& declaration : declarations) {
      bool declared = false;
      while (!declared) {
        try {
          const std::string mistakes = harness.declare(declaration);  // outside of REQUIRE: it would catch a Crash
          REQUIRE(mistakes == "");
          declared = true;
        } catch (const Crash&) {
          harness.crash_in = -1;
          REQUIRE(harness.start().ok());
        }
      }
      for (int i = 0; i < 80; ++i) {
        harness.second();
        for (const char* object : {"web-1:recovery-points", "web-1:original-machine"}) {
          if (harness.reconciler->approve(object, "ops").ok()) harness.driver.allowed[object] = 1;
        }
        if (i > 3 && harness.reconciler->open_tasks().empty() && harness.reconciler->plans()[0].is_empty()) break;
      }
    }
    harness.seconds(3);
  };
  ReconcilerHarness undisturbed;
  run(undisturbed, -1);
  CHECK(undisturbed.state_of("web-1") == "absent");
  CHECK(undisturbed.driver.breaches.empty());
  const std::vector<std::string> expected = undisturbed.driver.carried_out;
  CHECK(expected.size() >= 13);
  const long places = undisturbed.crash_points_passed;
  CHECK(places > 100);
  for (long place = 1; place <= places; place += 3) {
    ReconcilerHarness harness;
    run(harness, place);
    CAPTURE(place);
    CHECK(harness.driver.carried_out == expected);
    CHECK(harness.driver.breaches.empty());
    CHECK(harness.error == "");
    for (const Task& task : harness.tasks()) CHECK(task.state == TaskState::kDone);
  }
}

TEST_CASE("orchestrator state: a database of a newer version, one in use, and one that is none") {
  TemporaryDirectory directory;
  const std::string path = directory.file("orchestrator.db");
  REQUIRE(OrchestratorState::open(path).ok());
  {
    auto database = Database::open(path);
    REQUIRE(database.ok());
    REQUIRE((*database)->execute("PRAGMA user_version=999").ok());
  }
  const auto newer = OrchestratorState::open(path);
  REQUIRE(!newer.ok());
  CHECK(newer.error().kind() == ErrorKind::kUnsupported);
  CHECK(has(newer.error().message(), "has version 999, written by a newer program; this one knows versions up to " +
                                         std::to_string(kStateVersion)));
  {
    const auto held = OrchestratorState::open(directory.file("held.db"));
    REQUIRE(held.ok());
    const auto second = OrchestratorState::open(directory.file("held.db"));
    REQUIRE(!second.ok());
    CHECK(second.error().kind() == ErrorKind::kBusy);
    CHECK(has(second.error().message(), "another process has it open"));
  }
  const std::string other = directory.file("other.db");
  REQUIRE(write_file_atomically(other, std::string(4096, 'x')).ok());
  CHECK(OrchestratorState::open(other).error().kind() == ErrorKind::kCorrupt);
  CHECK(OrchestratorState::open(directory.file("no/such")).error().kind() == ErrorKind::kNotFound);
}

TEST_CASE("orchestrator state: an error inside a change undoes all of it") {
  TemporaryDirectory directory;
  auto state = OrchestratorState::open(directory.file("orchestrator.db"));
  REQUIRE(state.ok());
  const Status status = (*state)->write([&]() -> Status {
    RETURN_IF_ERROR((*state)->set_approval({"web-1:recovery-points", "ops", 1}));
    Task task;
    task.server = "web-1";
    RETURN_IF_ERROR((*state)->add_task(task));
    const auto second = (*state)->add_task(task);  // two open tasks of one server
    CHECK(second.error().kind() == ErrorKind::kAlreadyExists);
    return Error(second.error());
  });
  CHECK(!status.ok());
  CHECK((*state)->approvals()->empty());
  CHECK((*state)->tasks({})->empty());
}
