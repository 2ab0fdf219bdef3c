// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/lifecycle/lifecycle.h"

#include <algorithm>
#include <deque>

#include "daemon/base/text.h"
#include "orchestrator/lifecycle/transitions.h"

namespace understudy {
namespace {

using S = LifecycleState;
using T = Trigger;
using G = TransitionGuard;

// States a search for reported states may visit; the way of a client's report is never longer than this.
constexpr std::size_t kReportedPathMax = 6;

std::string quoted(S state) { return quote(lifecycle_state_name(state)); }
std::string quoted(T trigger) { return quote(trigger_name(trigger)); }

bool guard_holds(G guard, const Lifecycle& now, const LifecycleFacts& facts) {
  const bool point = facts.usable_point && now.realtime_reached;
  const bool no_drill = now.drill == DrillState::kNone;
  switch (guard) {
    case G::kNone: return true;
    case G::kClientOutdated: return facts.client_outdated;
    case G::kNoDrill: return no_drill;
    case G::kUsablePoint: return point;
    case G::kUsablePointNoDrill: return point && no_drill;
    case G::kPointsKept: return !now.confirm_begun;
    case G::kResumesFull: return now.resume == ResumeAt::kFull;
    case G::kResumesRealtime: return now.resume == ResumeAt::kRealtime;
    case G::kResumesRepair: return now.resume == ResumeAt::kRepair;
    case G::kRestartQueued: return now.restart_queued;
  }
  return false;
}

// What follows from having entered a state.
void enter(Lifecycle& server, S state) {
  server.state = state;
  switch (state) {
    case S::kAbsent: server = Lifecycle{}; break;
    case S::kInitialized:
    case S::kReverseInitialized:  // a new relation: nothing of it has been copied yet
      server.realtime_reached = false;
      server.resume = ResumeAt::kFull;
      break;
    case S::kReplicationStarting:
    case S::kReverseReplicationStarting: server.resume = ResumeAt::kFull; break;
    case S::kRealtimeReplicating:
    case S::kReverseRealtimeReplicating: server.realtime_reached = true; [[fallthrough]];
    case S::kRealtimeStarting:
    case S::kReverseRealtimeStarting: server.resume = ResumeAt::kRealtime; break;
    case S::kRepairStarting:
    case S::kReverseRepairStarting: server.resume = ResumeAt::kRepair; break;
    case S::kConfirming: server.confirm_begun = true; break;
    case S::kFailoverConfirmed: server.confirm_begun = false; break;
    case S::kDeregistering: server.deregister_begun = true; break;
    default: break;
  }
  if (state != S::kFullStopping && state != S::kRealtimeStopping) server.restart_queued = false;
}

Lifecycle apply(const Lifecycle& now, const Transition& row) {
  Lifecycle next = now;
  if (row.effect == TransitionEffect::kQueueRestart) {
    next.restart_queued = true;
    return next;
  }
  if (row.effect == TransitionEffect::kRememberState) next.before = now.state;
  enter(next, row.effect == TransitionEffect::kReturn ? now.before : row.to);
  return next;
}

bool is_drill_trigger(T trigger) {
  return trigger == T::kDrill || trigger == T::kCleanDrill || trigger == T::kDrillReady || trigger == T::kDrillFailed ||
         trigger == T::kDrillCleaned;
}

// Why a drill may not begin here; empty = it may.
std::string drill_obstacle(const Lifecycle& now, const LifecycleFacts& facts) {
  for (const DrillStart& start : drill_starts()) {
    if (start.from != now.state || (facts.strict && !start.strict)) continue;
    if (guard_holds(start.guard, now, facts)) return "";
    return "there is no usable recovery point";
  }
  if (facts.strict) return "in strict mode a drill needs a state of real-time replication";
  return "there is nothing to bring up: a drill needs replication that has reached real time";
}

std::string drill_step(Lifecycle& server, const LifecycleFacts& facts, T trigger) {
  for (const DrillTransition& row : drill_transitions()) {
    if (row.from != server.drill || row.trigger != trigger) continue;
    if (trigger == T::kDrill) {
      if (std::string obstacle = drill_obstacle(server, facts); !obstacle.empty()) return obstacle;
    }
    server.drill = row.to;
    return "";
  }
  if (trigger == T::kDrill) return "a drill exists already (" + std::string(drill_state_name(server.drill)) + ")";
  if (trigger == T::kCleanDrill) {
    return server.drill == DrillState::kNone
               ? "there is no drill"
               : "wait until " + quote(drill_state_name(server.drill)) + " has ended";
  }
  return "";
}

// Why the row's guard does not hold, for people.
std::string guard_obstacle(const Transition& row, const Lifecycle& now) {
  switch (row.guard) {
    case G::kClientOutdated: return "the client is the newest already";
    case G::kNoDrill:
    case G::kUsablePointNoDrill:
      if (now.drill != DrillState::kNone) return "a drill exists; clean it first";
      [[fallthrough]];
    case G::kUsablePoint: return "there is no usable recovery point";
    case G::kPointsKept: return "the deletion of the recovery points has begun";
    default: return std::string(guard_text(row.guard));
  }
}

std::string states_that_take(T trigger, bool strict) {
  std::vector<std::string> states;
  for (const Transition& row : transitions()) {
    if (row.trigger == trigger && (row.strict || !strict)) states.emplace_back(lifecycle_state_name(row.from));
  }
  std::sort(states.begin(), states.end());
  states.erase(std::unique(states.begin(), states.end()), states.end());
  return quoted_list(states);
}

// Why nothing in the table takes the operation here.
std::string state_obstacle(const Lifecycle& now, const LifecycleFacts& facts, T trigger) {
  const StateKind kind = lifecycle_state_kind(now.state);
  for (const Transition& row : transitions()) {
    if (row.from == now.state && row.trigger == trigger && facts.strict) return "strict mode does not allow it";
  }
  if (now.state == S::kAbsent) return "the server is in no group; add it first";
  if (trigger == T::kAdd) return "the server is in the group already";
  if (kind == StateKind::kTransient) return "wait until " + quoted(now.state) + " has ended";
  if (trigger == T::kDeregister && kind == StateKind::kActive) return "stop replication first";
  const std::string states = states_that_take(trigger, facts.strict);
  return states.empty() ? "strict mode does not allow it" : "it is for " + states;
}

LifecycleStep step_without_advice(const Lifecycle& now, const LifecycleFacts& facts, T trigger) {
  LifecycleStep step{now, false, ""};
  if (is_operation(trigger) && now.deregister_begun && trigger != T::kDeregister && trigger != T::kCleanDrill &&
      lifecycle_state_kind(now.state) != StateKind::kTransient) {
    step.refused = "its de-registration has begun and can only be finished";
    return step;
  }
  if (is_drill_trigger(trigger)) {
    step.refused = drill_step(step.next, facts, trigger);
    step.changed = !(step.next == now);
    return step;
  }
  const Transition* blocked = nullptr;
  for (const Transition& row : transitions()) {
    if (row.from != now.state || row.trigger != trigger || (facts.strict && !row.strict)) continue;
    if (guard_holds(row.guard, now, facts)) {
      step.next = apply(now, row);
      step.changed = !(step.next == now);
      return step;
    }
    blocked = &row;
  }
  if (!is_operation(trigger)) return step;
  step.refused = blocked != nullptr ? guard_obstacle(*blocked, now) : state_obstacle(now, facts, trigger);
  return step;
}

}  // namespace

std::string_view resume_at_name(ResumeAt resume) {
  switch (resume) {
    case ResumeAt::kFull: return "full";
    case ResumeAt::kRealtime: return "realtime";
    case ResumeAt::kRepair: return "repair";
  }
  return "unknown";
}

LifecycleStep lifecycle_step(const Lifecycle& now, const LifecycleFacts& facts, Trigger trigger) {
  LifecycleStep step = step_without_advice(now, facts, trigger);
  if (step.refused.empty()) return step;
  std::vector<std::string> legal;
  for (const T operation : legal_operations(now, facts)) legal.emplace_back(trigger_name(operation));
  step.refused = quoted(trigger) + " is refused in " + quoted(now.state) + ": " + step.refused + "; " +
                 (legal.empty() ? "nothing is legal now" : "legal now: " + quoted_list(legal));
  return step;
}

bool is_legal(const Lifecycle& now, const LifecycleFacts& facts, Trigger operation) {
  return is_operation(operation) && step_without_advice(now, facts, operation).refused.empty();
}

std::vector<Trigger> legal_operations(const Lifecycle& now, const LifecycleFacts& facts) {
  std::vector<Trigger> legal;
  for (const T trigger : all_triggers()) {
    if (is_legal(now, facts, trigger)) legal.push_back(trigger);
  }
  return legal;
}

std::optional<std::vector<Trigger>> events_to_reported(const Lifecycle& now, const LifecycleFacts& facts,
                                                       LifecycleState reported) {
  // The likelier explanation of equal length first: an error that passed unseen comes last.
  static constexpr T kReportable[] = {T::kScanned,        T::kCaughtUp, T::kHeld,   T::kInterrupted,
                                      T::kBreakPointLost, T::kFailed,   T::kResumed};
  struct Found {
    Lifecycle server;
    std::vector<T> path;
  };
  if (!is_replication_state(reported)) return std::nullopt;
  std::deque<Found> queue{{now, {}}};
  std::vector<Lifecycle> seen{now};
  while (!queue.empty()) {
    Found found = std::move(queue.front());
    queue.pop_front();
    if (found.server.state == reported) return found.path;
    if (found.path.size() == kReportedPathMax || !is_replication_state(found.server.state)) continue;
    for (const T event : kReportable) {
      LifecycleStep step = step_without_advice(found.server, facts, event);
      if (!step.changed || std::find(seen.begin(), seen.end(), step.next) != seen.end()) continue;
      seen.push_back(step.next);
      std::vector<T> path = found.path;
      path.push_back(event);
      queue.push_back({std::move(step.next), std::move(path)});
    }
  }
  return std::nullopt;
}

bool is_replication_state(LifecycleState state) {
  switch (state) {
    case S::kInitialized:
    case S::kReverseInitialized: return true;
    default: break;
  }
  const auto number = static_cast<int>(state);
  return (number >= static_cast<int>(S::kReplicationStarting) && number <= static_cast<int>(S::kReplicationError)) ||
         (number >= static_cast<int>(S::kReverseReplicationStarting) &&
          number <= static_cast<int>(S::kReverseRepairStopped)) ||
         (number >= static_cast<int>(S::kRepairStarting) && number <= static_cast<int>(S::kRepairStopped));
}

}  // namespace understudy
