// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/plan/group_plan.h"

#include "orchestrator/spec/group_rules.h"
#include "tests/unit/orchestrator/group_text.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

using namespace understudy;

namespace {

using S = LifecycleState;

DeclaredState declared(const std::string& servers, const std::string& more = "") {
  DeclaredState state;
  REQUIRE(mistakes_in({source_of("g", group_text(servers, more))}, &state) == "");
  return state;
}

ServerObserved in(S state) {
  ServerObserved observed;
  observed.lifecycle.state = state;
  observed.lifecycle.realtime_reached = observed.usable_point = true;
  observed.applied_point = "latest";
  return observed;
}

// "start; failover!; | waits for ... | blocked"; '!' = is not approved.
std::string brief(const ServerPlan& plan) {
  std::string text;
  for (const PlanStep& step : plan.steps) {
    text += (text.empty() ? "" : " ") + std::string(trigger_name(step.operation)) + (step.approved ? "" : "!");
  }
  if (!plan.waits.empty()) text += " | waits for " + plan.waits;
  if (!plan.blocked.empty()) text += " | " + plan.blocked;
  return text;
}

// The plan of one server with `more` in its declaration; "removed" = it is declared no more.
std::string plan_of(const ServerObserved& observed, const std::string& more, const std::string& group = "",
                    const std::set<std::string>& approvals = {}, std::uint64_t now_ns = 1) {
  const DeclaredState state = declared(more == "removed" ? "" : server_text("web-1", 5, more), group);
  const GroupSpec& spec = state.groups[0];
  return brief(plan_server("web-1", spec.find_server("web-1"), spec, observed, approvals, now_ns));
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("plan: a new server is added and replicated") {
  CHECK(plan_of({}, "") == "add start");
  CHECK(plan_of({}, "phase: initialized") == "add");
  CHECK(plan_of(in(S::kClientInstallFailed), "") == "retry-install start");
  CHECK(plan_of(in(S::kRealtimeReplicating), "") == "");
  CHECK(plan_of(in(S::kFullReplicating), "") == " | waits for 'full-replicating' to end");
  CHECK(has(plan_of(in(S::kInitialized), "phase: stopped"), "replication was never started"));
}

TEST_CASE("plan: stopped and going on") {
  CHECK(plan_of(in(S::kRealtimeReplicating), "phase: stopped") == "stop");
  CHECK(plan_of(in(S::kRealtimeStopping), "phase: stopped") == " | waits for 'realtime-stopping' to end");
  CHECK(plan_of(in(S::kRealtimeStopped), "") == "restart");
  CHECK(plan_of(in(S::kFullStopped), "") == "restart");
  CHECK(plan_of(in(S::kRepairStopped), "") == "repair");
  // Not in strict mode, which restarts only what is stopping.
  CHECK(has(plan_of(in(S::kRealtimeStopped), "", "policy: {strict: true}\n"), "strict mode does not allow it"));
}

TEST_CASE("plan: an error waits for an order, and each order is carried out once") {
  ServerObserved server = in(S::kReplicationError);
  CHECK(has(plan_of(server, ""), "waits for replication is in error: raise repair_order"));
  CHECK(plan_of(server, "repair_order: 1") == "repair");
  CHECK(plan_of(server, "restart_order: 1") == "restart");
  server.repair_done = 1;
  CHECK(has(plan_of(server, "repair_order: 1"), "waits for replication is in error"));
  CHECK(plan_of(server, "repair_order: 2") == "repair");
  CHECK(plan_of(server, "phase: stopped") == "");
  // A restart of what runs is a stop and a start.
  CHECK(plan_of(in(S::kRealtimeReplicating), "restart_order: 1") == "stop restart");
}

TEST_CASE("plan: failover, and only as far as it was declared") {
  CHECK(plan_of(in(S::kRealtimeReplicating), "phase: failed-over") == "failover");
  CHECK(plan_of(in(S::kReplicationError), "phase: failed-over") == "failover");
  CHECK(plan_of(in(S::kFullReplicating), "phase: failed-over") == "failover");
  ServerObserved fresh = in(S::kFullReplicating);
  fresh.lifecycle.realtime_reached = fresh.usable_point = false;
  CHECK(plan_of(fresh, "phase: failed-over") == "failover | waits for 'full-replicating' to end");
  CHECK(plan_of({}, "phase: failed-over") == "add start failover");
  CHECK(plan_of(in(S::kFailedOver), "phase: failed-over") == "");
  CHECK(plan_of(in(S::kFailoverError), "phase: failed-over") == "failover");
  const std::string strict = "policy: {strict: true}\n";
  CHECK(has(plan_of(in(S::kReplicationError), "phase: failed-over", strict), "raise repair_order"));
  CHECK(plan_of(in(S::kUpgradeFailed), "phase: failed-over") == "failover");
  CHECK(has(plan_of(in(S::kUpgradeFailed), ""), "only a failover or the removal"));
}

TEST_CASE("plan: a planned failover waits for real time as long as there is a source") {
  const std::string planned = "phase: failed-over\n    failover: {planned: true}";
  CHECK(plan_of(in(S::kRealtimeReplicating), planned) == "failover");
  CHECK(plan_of(in(S::kRealtimeStopped), planned) == "restart failover");
  CHECK(plan_of(in(S::kRealtimeStarting), planned) == "failover | waits for 'realtime-starting' to end");
  CHECK(has(plan_of(in(S::kReplicationError), planned), "raise repair_order"));
  ServerObserved lost = in(S::kReplicationError);
  lost.source_lost = true;
  CHECK(plan_of(lost, planned) == "failover");
}

TEST_CASE("plan: a drill is cleaned before a failover") {
  ServerObserved server = in(S::kRealtimeReplicating);
  server.lifecycle.drill = DrillState::kReady;
  CHECK(plan_of(server, "phase: failed-over") == "clean-drill failover");
  server.lifecycle.drill = DrillState::kStarting;
  CHECK(plan_of(server, "phase: failed-over") == "clean-drill failover | waits for 'drill-starting' to end");
}

TEST_CASE("plan: what destroys waits for the approval that names it") {
  CHECK(plan_of(in(S::kFailedOver), "phase: confirmed") ==
        "confirm! | waits for the approval of 'web-1:recovery-points'");
  CHECK(plan_of(in(S::kFailedOver), "phase: confirmed", "", {"web-2:recovery-points"}) ==
        "confirm! | waits for the approval of 'web-1:recovery-points'");
  CHECK(plan_of(in(S::kFailedOver), "phase: confirmed", "", {"web-1:recovery-points"}) == "confirm");
  const std::string original = "phase: reverse-replicating\n    reverse: {original_machine: true}";
  CHECK(plan_of(in(S::kReverseInitialized), original) ==
        "reverse-start! | waits for the approval of 'web-1:original-machine'");
  CHECK(plan_of(in(S::kReverseInitialized), "phase: reverse-replicating") == "reverse-start");
  // The whole way back, with what stands in it.
  CHECK(plan_of(in(S::kFailedOver), original).starts_with("confirm! reverse-register reverse-start! | waits for"));
  CHECK(plan_of(in(S::kFailedOver), "phase: failed-over\n    failover: {point: backup-1}") ==
        "change-point! | waits for the approval of 'web-1:recovery-host'");
  CHECK(plan_of(in(S::kFailedOver), "") == "cancel-failover! | waits for the approval of 'web-1:recovery-host'");
}

TEST_CASE("plan: the way back ends where it began") {
  CHECK(plan_of(in(S::kReverseRealtimeReplicating), "phase: failed-back") == "failback");
  CHECK(plan_of(in(S::kReverseRealtimeStopped), "phase: failed-back") == "reverse-restart failback");
  CHECK(plan_of(in(S::kFailbackError), "phase: failed-back") == "failback");
  CHECK(plan_of(in(S::kFailedBack), "") == "register start");
  CHECK(plan_of(in(S::kRegisterFailed), "phase: initialized") == "register");
  CHECK(plan_of(in(S::kReverseRealtimeReplicating), "phase: reverse-stopped") == "reverse-stop");
  const std::string repair = "phase: reverse-replicating\n    repair_order: 1";
  CHECK(plan_of(in(S::kReverseReplicationError), repair) == "reverse-repair");
}

TEST_CASE("plan: ways that nobody declared are blocked, and say what to declare") {
  CHECK(has(plan_of(in(S::kReverseRealtimeReplicating), ""), "declare phase 'failed-back' first"));
  CHECK(has(plan_of(in(S::kFailoverConfirmed), "phase: initialized"), "declare phase 'failed-back' first"));
  CHECK(has(plan_of(in(S::kRealtimeReplicating), "phase: initialized"), "cannot be undone to 'initialized'"));
  for (const char* phase : {"confirmed", "reverse-initialized", "reverse-replicating", "failed-back"}) {
    const std::string later = "phase: " + std::string(phase);
    CHECK(has(plan_of(in(S::kRealtimeReplicating), later), "declare phase 'failed-over' first"));
    CHECK(has(plan_of(in(S::kInitialized), later), "declare phase 'failed-over' first"));
  }
  CHECK(has(plan_of(in(S::kRegisterFailed), "phase: failed-back"), "declare phase 'initialized' or 'replicating'"));
  CHECK(has(plan_of(in(S::kFailoverConfirmed), "phase: failed-over"), "there is no way back"));
  CHECK(has(plan_of(in(S::kFailedOver), "", "policy: {strict: true}\n"), "strict mode does not allow it"));
}

TEST_CASE("plan: a failover that nobody confirms is undone when that was declared, and not done again") {
  const std::string rollback = "operations: {auto_rollback: 2h}\n";
  ServerObserved server = in(S::kFailedOver);
  server.failed_over_ns = 1000 * kHourNs;
  const auto after = [&](std::uint64_t ns) {
    return plan_of(server, "phase: failed-over", rollback, {}, server.failed_over_ns + ns);
  };
  CHECK(after(2 * kHourNs - 1) == "");
  CHECK(after(2 * kHourNs).starts_with("cancel-failover | the failover was undone because nobody confirmed it in"));
  // A clock that was set back does nothing.
  CHECK(plan_of(server, "phase: failed-over", rollback, {}, 1) == "");
  server = in(S::kRealtimeReplicating);
  server.rolled_back = true;
  CHECK(has(plan_of(server, "phase: failed-over"), "declare phase 'replicating' first"));
}

TEST_CASE("plan: a server that is declared no more is taken out") {
  CHECK(plan_of(in(S::kRealtimeReplicating), "removed") == "stop deregister");
  CHECK(plan_of(in(S::kReverseFullReplicating), "removed") == "reverse-stop deregister");
  CHECK(plan_of(in(S::kInitialized), "removed") == "deregister");
  ServerObserved server = in(S::kRealtimeStopped);
  server.lifecycle.drill = DrillState::kReady;
  CHECK(plan_of(server, "removed") == "clean-drill deregister");
  server = in(S::kReplicationError);
  server.source_lost = true;
  CHECK(plan_of(server, "removed") == "deregister! | waits for the approval of 'web-1:only-copy'");
  CHECK(plan_of({}, "removed") == "");
}

TEST_CASE("plan: drills and upgrades beside the phase") {
  CHECK(plan_of(in(S::kRealtimeReplicating), "drill: {}") == "drill");
  ServerObserved server = in(S::kRealtimeReplicating);
  server.lifecycle.drill = DrillState::kReady;
  CHECK(plan_of(server, "") == "clean-drill");
  CHECK(plan_of(server, "drill: {}") == "clean-drill drill");  // another one than the one that is there
  const DeclaredState state = declared(server_text("web-1", 5, "drill: {}"));
  server.applied_drill = drill_request(*state.groups[0].servers[0].drill);
  CHECK(plan_of(server, "drill: {}") == "");
  // A drill is cleaned also while replication is busy.
  server.lifecycle.state = S::kFullReplicating;
  CHECK(plan_of(server, "") == "clean-drill");
  server = in(S::kRealtimeReplicating);
  server.client_version = "0.1.0";
  CHECK(plan_of(server, "client_version: 0.2.0") == "upgrade");
  CHECK(plan_of(server, "client_version: 0.1.0") == "");
  server.lifecycle.state = S::kFullReplicating;
  CHECK(plan_of(server, "client_version: 0.2.0") == "upgrade | waits for 'full-replicating' to end");
}

TEST_CASE("plan: from every state every phase ends: no plan goes in circles, and no step is illegal") {
  for (const S state : all_lifecycle_states()) {
    for (std::size_t i = 0; i < kPhases; ++i) {
      for (const char* group : {"", "policy: {strict: true}\n"}) {
        const std::string phase(phase_name(static_cast<Phase>(i)));
        const DeclaredState declaration =
            declared(server_text("web-1", 5, "phase: " + phase + "\n    repair_order: 1"), group);
        const GroupSpec& spec = declaration.groups[0];
        ServerObserved server = in(state);
        server.lifecycle.before = S::kRealtimeStopped;
        const ServerPlan plan = plan_server("web-1", &spec.servers[0], spec, server, {}, 1);
        CAPTURE(lifecycle_state_name(state));
        CAPTURE(phase);
        CAPTURE(brief(plan));
        CHECK(plan.steps.size() < 12);
        if (!plan.ready) continue;
        const LifecycleFacts facts = facts_of(&spec.servers[0], spec, server);
        CHECK(lifecycle_step(server.lifecycle, facts, plan.steps[0].operation).refused.empty());
      }
    }
  }
}

TEST_CASE("plan of a group: hosts come up in boot order, behind health checks") {
  const std::string up = "phase: failed-over";
  const DeclaredState state = declared(server_text("db", 1, up + "\n    health: [{port: 5432}]") +
                                       server_text("app", 2, up + "\n    boot_after: [db]") +
                                       server_text("web", 3, up + "\n    boot_after: [app]") + server_text("log", 4));
  std::map<std::string, ServerObserved> servers;
  for (const char* name : {"db", "app", "web", "log"}) servers[name] = in(S::kRealtimeReplicating);
  const auto beginning = [&] {
    std::string names;
    for (const GroupPlanEntry& entry : plan_group(state.groups[0], servers, {}, {}, 1).entries) {
      if (entry.may_begin) names += entry.server + " ";
    }
    return names;
  };
  CHECK(beginning() == "db ");
  servers["db"].lifecycle.state = S::kFailingOver;
  CHECK(beginning() == "");
  servers["db"].lifecycle.state = S::kFailedOver;
  CHECK(beginning() == "");  // up, but not healthy
  CHECK(group_plan_text(plan_group(state.groups[0], servers, {}, {}, 1)) ==
        "group g\n"
        "  server app\n"
        "    # waits for 'db' to be up and healthy\n"
        "    ~ failover: realtime-replicating -> failed-over  (phase 'failed-over')\n"
        "  server web\n"
        "    # waits for 'app' to be up\n"
        "    ~ failover: realtime-replicating -> failed-over  (phase 'failed-over')\n");
  servers["db"].healthy = true;
  CHECK(beginning() == "app ");
  servers["app"].lifecycle.state = S::kFailedOver;
  CHECK(beginning() == "web ");
}

TEST_CASE("plan of a group: as many at a time as declared; stop or go on after a failure") {
  for (const char* on_failure : {"stop", "continue"}) {
    std::string text;
    std::map<std::string, ServerObserved> servers;
    for (int i = 1; i <= 6; ++i) {
      const std::string name = "web-" + std::to_string(i);
      text += server_text(name, i, i == 6 ? "phase: failed-over\n    boot_after: [web-1]" : "phase: failed-over");
      servers[name] = in(S::kRealtimeReplicating);
    }
    const DeclaredState state =
        declared(text, "operations: {parallel: 2, on_failure: " + std::string(on_failure) + "}\n");
    const auto beginning = [&](const std::set<std::string>& busy = {}) {
      std::string names;
      for (const GroupPlanEntry& entry : plan_group(state.groups[0], servers, busy, {}, 1).entries) {
        if (entry.may_begin) names += entry.server + " ";
      }
      return names;
    };
    CHECK(beginning() == "web-1 web-2 ");
    CHECK(beginning({"web-1"}) == "web-2 web-3 ");
    servers["web-2"].lifecycle.state = S::kFailingOver;
    CHECK(beginning() == "web-1 ");
    servers["web-1"].lifecycle.state = S::kFailoverError;
    servers["web-2"].lifecycle.state = S::kFailedOver;
    // The failed one is tried again in both cases; the sixth needs it.
    CHECK(beginning() == (std::string(on_failure) == "stop" ? "web-1 " : "web-1 web-3 "));
    servers["web-1"].lifecycle.state = S::kFailedOver;
    for (const char* name : {"web-3", "web-4", "web-5"}) servers[name].lifecycle.state = S::kFailedOver;
    CHECK(beginning() == "web-6 ");
  }
}
