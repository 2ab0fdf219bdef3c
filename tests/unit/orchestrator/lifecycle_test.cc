// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/lifecycle/lifecycle.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "orchestrator/lifecycle/transitions.h"
#include "tests/unit/orchestrator/specification.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

using namespace understudy;

namespace {

Lifecycle in_state(LifecycleState state, bool reached = true) {
  Lifecycle server;
  server.state = state;
  server.realtime_reached = reached;
  server.before = LifecycleState::kRealtimeStopped;
  return server;
}

std::set<std::string> names(const std::vector<Trigger>& triggers) {
  std::set<std::string> found;
  for (const Trigger trigger : triggers) found.emplace(trigger_name(trigger));
  return found;
}

constexpr LifecycleFacts kAllFacts{.usable_point = true, .client_outdated = true, .strict = false};

}  // namespace

TEST_CASE("lifecycle: what is legal in each state is what the specification lists") {
  for (const LifecycleState state : all_lifecycle_states()) {
    for (const bool strict : {false, true}) {
      for (const bool point : {false, true}) {
        const LifecycleFacts facts{.usable_point = point, .client_outdated = true, .strict = strict};
        const std::string name(lifecycle_state_name(state));
        INFO(name << " strict " << strict << " point " << point);
        CHECK(names(legal_operations(in_state(state), facts)) == specified_operations(name, strict, point));
      }
    }
  }
}

TEST_CASE("lifecycle: an illegal operation is refused with the reason and the legal ones, and changes nothing") {
  for (const LifecycleState state : all_lifecycle_states()) {
    for (const DrillState drill : {DrillState::kNone, DrillState::kStarting, DrillState::kReady}) {
      for (const bool strict : {false, true}) {
        LifecycleFacts facts = kAllFacts;
        facts.strict = strict;
        Lifecycle server = in_state(state);
        server.drill = drill;
        const std::vector<Trigger> legal = legal_operations(server, facts);
        for (const Trigger trigger : all_triggers()) {
          const LifecycleStep step = lifecycle_step(server, facts, trigger);
          const bool is_legal = std::find(legal.begin(), legal.end(), trigger) != legal.end();
          CAPTURE(lifecycle_state_name(state));
          CAPTURE(trigger_name(trigger));
          CHECK(step.refused.empty() == (is_legal || !is_operation(trigger)));
          if (step.refused.empty()) continue;
          CHECK(step.next == server);
          const std::string start = "'" + std::string(trigger_name(trigger)) + "' is refused in '" +
                                    std::string(lifecycle_state_name(state)) + "': ";
          CHECK(step.refused.starts_with(start));
          CHECK(step.refused.find(start + ";") == std::string::npos);  // a reason stands there
          CHECK(step.refused.find(legal.empty() ? "; nothing is legal now" : "; legal now: '") != std::string::npos);
          for (const Trigger other : legal) CHECK(step.refused.find(trigger_name(other)) != std::string::npos);
        }
      }
    }
  }
}

TEST_CASE("lifecycle: every state has a way out, and every one leads to the end") {
  for (const bool strict : {false, true}) {
    for (const LifecycleState state : all_lifecycle_states()) {
      LifecycleFacts facts = kAllFacts;
      facts.strict = strict;
      Lifecycle first = in_state(state);
      std::vector<Lifecycle> seen{first};
      bool left = state == LifecycleState::kAbsent;
      for (std::size_t i = 0; i < seen.size() && !left; ++i) {
        for (const Trigger trigger : all_triggers()) {
          const LifecycleStep step = lifecycle_step(seen[i], facts, trigger);
          if (step.next.state == LifecycleState::kAbsent) left = true;
          if (std::find(seen.begin(), seen.end(), step.next) == seen.end()) seen.push_back(step.next);
        }
      }
      CAPTURE(lifecycle_state_name(state));
      CAPTURE(strict);
      CHECK(left);
    }
  }
}

TEST_CASE("lifecycle: a transient state ends by an event, well and badly") {
  for (const LifecycleState state : all_lifecycle_states()) {
    if (lifecycle_state_kind(state) != StateKind::kTransient) continue;
    std::set<LifecycleState> reached;
    for (const Trigger trigger : all_triggers()) {
      if (!is_operation(trigger)) reached.insert(lifecycle_step(in_state(state), kAllFacts, trigger).next.state);
    }
    reached.erase(state);
    CAPTURE(lifecycle_state_name(state));
    CHECK(reached.size() >= 2);
    if (state == LifecycleState::kConfirming || state == LifecycleState::kDeregistering) continue;  // back
    CHECK(std::any_of(reached.begin(), reached.end(),
                      [](LifecycleState to) { return lifecycle_state_kind(to) == StateKind::kError; }));
  }
}

TEST_CASE("lifecycle: no two rows of the table say different things") {
  std::set<std::tuple<LifecycleState, Trigger, TransitionGuard>> seen;
  for (const Transition& row : transitions()) {
    CAPTURE(lifecycle_state_name(row.from));
    CAPTURE(trigger_name(row.trigger));
    CHECK(seen.insert({row.from, row.trigger, row.guard}).second);
    // A row without a guard takes all: what stands behind it would never count.
    CHECK((row.guard == TransitionGuard::kNone || seen.count({row.from, row.trigger, TransitionGuard::kNone}) == 0));
  }
}

TEST_CASE("lifecycle: a drill changes nothing but itself") {
  for (const LifecycleState state : all_lifecycle_states()) {
    for (const Trigger trigger : {Trigger::kDrill, Trigger::kCleanDrill, Trigger::kDrillReady, Trigger::kDrillFailed,
                                  Trigger::kDrillCleaned}) {
      for (const DrillState drill : {DrillState::kNone, DrillState::kStarting, DrillState::kReady, DrillState::kFailed,
                                     DrillState::kCleaning}) {
        Lifecycle server = in_state(state);
        server.drill = drill;
        Lifecycle next = lifecycle_step(server, kAllFacts, trigger).next;
        next.drill = drill;
        CHECK(next == server);
      }
    }
  }
}

TEST_CASE("lifecycle: what a client reports becomes events, also when reports were lost") {
  const auto path = [](LifecycleState from, LifecycleState to) {
    std::string text;
    const auto events = events_to_reported(in_state(from), kAllFacts, to);
    if (!events) return std::string("no way");
    for (const Trigger event : *events) text += std::string(text.empty() ? "" : " ") + std::string(trigger_name(event));
    return text;
  };
  using S = LifecycleState;
  CHECK(path(S::kReplicationStarting, S::kRealtimeReplicating) == "scanned caught-up");
  CHECK(path(S::kRealtimeReplicating, S::kRealtimeReplicating) == "");
  CHECK(path(S::kFullReplicating, S::kReplicationError) == "failed");
  CHECK(path(S::kRealtimeStopping, S::kRealtimeStopped) == "held");
  CHECK(path(S::kRealtimeReplicating, S::kFullReplicating) == "break-point-lost scanned");
  CHECK(path(S::kReverseRepairStarting, S::kReverseRealtimeReplicating) == "scanned caught-up");
  // Nobody asked for these.
  CHECK(path(S::kInitialized, S::kFullReplicating) == "no way");
  CHECK(path(S::kRealtimeReplicating, S::kRealtimeStopped) == "no way");
  CHECK(path(S::kRealtimeReplicating, S::kReverseFullReplicating) == "no way");
  CHECK(path(S::kFailedOver, S::kRealtimeReplicating) == "no way");
  CHECK(path(S::kFailedOver, S::kFailedOver) == "no way");
  CHECK(path(S::kRegistering, S::kInitialized) == "no way");
}

TEST_CASE("lifecycle: names are unique and read back") {
  for (const LifecycleState state : all_lifecycle_states()) {
    CHECK(*parse_lifecycle_state(lifecycle_state_name(state)) == state);
  }
  for (const Trigger trigger : all_triggers()) CHECK(*parse_trigger(trigger_name(trigger)) == trigger);
  CHECK(parse_lifecycle_state("realtime-replicatin").error().message() ==
        "'realtime-replicatin' is no state; did you mean 'realtime-replicating'?");
}
