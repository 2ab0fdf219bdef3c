// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/plan/server_plan.h"

#include <algorithm>

#include "daemon/base/check.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

using S = LifecycleState;
using T = Trigger;

// No way through the lifecycle has more operations.
constexpr std::size_t kStepsMax = 24;

// Where in a server's life a state or a phase stands. Within a number there is only running, stopped or in error.
enum Stage { kOutside, kReady, kForward, kFailedOverStage, kConfirmedStage, kReverseReady, kReverse, kFailedBackStage };

Stage stage_of(S state) {
  switch (state) {
    case S::kAbsent:
    case S::kClientInstalling:
    case S::kClientInstallFailed:
    case S::kDeregistering: return kOutside;
    case S::kInitialized:
    case S::kClientUpgrading: return kReady;
    case S::kFailingOver:
    case S::kFailedOver:
    case S::kFailoverError:
    case S::kConfirming:
    case S::kCancellingFailover: return kFailedOverStage;
    case S::kFailoverConfirmed:
    case S::kReverseRegistering:
    case S::kReverseRegisterFailed: return kConfirmedStage;
    case S::kReverseInitialized: return kReverseReady;
    case S::kFailingBack:
    case S::kFailbackError:
    case S::kFailedBack:
    case S::kRegistering:
    case S::kRegisterFailed: return kFailedBackStage;
    default: break;
  }
  const auto number = static_cast<int>(state);
  const bool reverse = number >= static_cast<int>(S::kReverseReplicationStarting) &&
                       number <= static_cast<int>(S::kReverseRepairStopped);
  return reverse ? kReverse : kForward;
}

Stage stage_of(Phase phase) {
  switch (phase) {
    case Phase::kInitialized: return kReady;
    case Phase::kReplicating:
    case Phase::kStopped: return kForward;
    case Phase::kFailedOver: return kFailedOverStage;
    case Phase::kConfirmed: return kConfirmedStage;
    case Phase::kReverseInitialized: return kReverseReady;
    case Phase::kReverseReplicating:
    case Phase::kReverseStopped: return kReverse;
    case Phase::kFailedBack: return kFailedBackStage;
  }
  return kReady;
}

// The event by which a state ends well; nullopt = it stays by itself.
std::optional<T> good_end(S state) {
  switch (state) {
    case S::kReplicationStarting:
    case S::kRepairStarting:
    case S::kReverseReplicationStarting:
    case S::kReverseFullStarting:
    case S::kReverseRepairStarting: return T::kScanned;
    case S::kFullReplicating:
    case S::kRepairing:
    case S::kRealtimeStarting:
    case S::kReverseFullReplicating:
    case S::kReverseRepairing:
    case S::kReverseRealtimeStarting: return T::kCaughtUp;
    case S::kFullStopping:
    case S::kRealtimeStopping:
    case S::kRepairStopping:
    case S::kReverseFullStopping:
    case S::kReverseRealtimeStopping:
    case S::kReverseRepairStopping: return T::kHeld;
    default: break;
  }
  return lifecycle_state_kind(state) == StateKind::kTransient ? std::optional(T::kDone) : std::nullopt;
}

std::string quoted(S state) { return quote(lifecycle_state_name(state)); }

// What is to be done next: an operation, or why nothing.
struct Decision {
  std::optional<T> operation;
  std::string destroys;
  std::string because;
  std::string waits;
  std::string blocked;
  bool goes_on = false;  // waiting for something that ends by itself
};

Decision operate(T operation, std::string because, std::string destroys = "") {
  Decision decision;
  decision.operation = operation;
  decision.because = std::move(because);
  decision.destroys = std::move(destroys);
  return decision;
}
Decision wait_for_end(S state) {
  Decision decision;
  decision.waits = quoted(state) + " to end";
  decision.goes_on = true;
  return decision;
}
Decision blocked(std::string why) {
  Decision decision;
  decision.blocked = std::move(why);
  return decision;
}

class Planner {
 public:
  Planner(std::string name, const ServerSpec* spec, const GroupSpec& group, const ServerObserved& observed,
          std::uint64_t now_ns)
      : name_(std::move(name)), spec_(spec), group_(group), now_(observed), now_ns_(now_ns) {
    facts_ = facts_of(spec, group, observed);
  }

  ServerPlan run(const std::set<std::string>& approvals) {
    ServerPlan plan;
    bool future = false;  // something that is under way stands before the next step
    for (std::size_t i = 0; i < kStepsMax; ++i) {
      Decision decision = checked(next());
      if (decision.operation) {
        if (plan.steps.empty() && !future) plan.ready = decision.destroys.empty() || approvals.count(decision.destroys);
        if (plan.steps.empty() && !future && !plan.ready) plan.waits = "the approval of " + quote(decision.destroys);
        take(plan, decision, approvals);
        continue;
      }
      if (plan.steps.empty() && !future) plan.waits = decision.waits;
      plan.blocked = decision.blocked;
      if (!decision.goes_on) break;
      future = true;
      end_well();
    }
    return plan;
  }

 private:
  Lifecycle& lifecycle() { return now_.lifecycle; }
  S state() const { return now_.lifecycle.state; }
  std::string object(const char* what) const { return name_ + ":" + what; }
  bool legal(T operation) const { return is_legal(now_.lifecycle, facts_, operation); }

  // An operation that the lifecycle refuses is not planned: its reason is what blocks.
  Decision checked(Decision decision) const {
    if (!decision.operation) return decision;
    if (legal(*decision.operation)) return decision;
    return blocked(lifecycle_step(now_.lifecycle, facts_, *decision.operation).refused);
  }

  void take(ServerPlan& plan, const Decision& decision, const std::set<std::string>& approvals) {
    PlanStep step;
    step.operation = *decision.operation;
    step.from = state();
    step.destroys = decision.destroys;
    step.because = decision.because;
    step.approved = decision.destroys.empty() || approvals.count(decision.destroys) != 0;
    lifecycle() = lifecycle_step(lifecycle(), facts_, step.operation).next;
    note_begun(step.operation, spec_, now_);
    if (step.operation == T::kUpgrade) facts_.client_outdated = false;
    end_well();
    step.to = state();
    plan.steps.push_back(std::move(step));
  }

  void end_well() {
    if (lifecycle().drill == DrillState::kStarting) lifecycle().drill = DrillState::kReady;
    if (lifecycle().drill == DrillState::kCleaning) lifecycle().drill = DrillState::kNone;
    // A restart that waits for its stop begins anew after it: bounded by the number of states.
    for (std::size_t i = 0; i < kLifecycleStates; ++i) {
      const auto event = good_end(state());
      if (!event) return;
      lifecycle() = lifecycle_step(lifecycle(), facts_, *event).next;
      if (lifecycle().realtime_reached) facts_.usable_point = true;
    }
  }

  Decision next() const {
    if (spec_ == nullptr) return next_of_removed();
    Decision decision = next_of_phase();
    if (decision.operation) return decision;
    Decision beside = next_beside();
    if (beside.operation || (beside.goes_on && !decision.goes_on)) return beside;
    return decision;
  }

  bool transient() const { return lifecycle_state_kind(state()) == StateKind::kTransient; }
  bool active() const { return lifecycle_state_kind(state()) == StateKind::kActive; }

  Decision clean_drill(std::string because) const {
    const DrillState drill = now_.lifecycle.drill;
    if (drill == DrillState::kReady || drill == DrillState::kFailed) return operate(T::kCleanDrill, std::move(because));
    Decision decision;
    decision.waits = quote(drill_state_name(drill)) + " to end";
    decision.goes_on = true;
    return decision;
  }

  Decision next_of_removed() const {
    const std::string because = "the server is declared no more";
    if (state() == S::kAbsent) return {};
    if (now_.lifecycle.drill != DrillState::kNone) return clean_drill(because);
    if (transient()) return wait_for_end(state());
    if (active()) return operate(stage_of(state()) == kReverse ? T::kReverseStop : T::kStop, because);
    // The hosts that a failover or failback brought up stay; only a replica whose source is gone cannot be had again.
    const bool only_copy = now_.source_lost && stage_of(state()) == kForward && now_.lifecycle.realtime_reached;
    return operate(T::kDeregister, because, only_copy ? object("only-copy") : "");
  }

  Decision next_of_phase() const {
    const std::string because = "phase " + quote(phase_name(spec_->phase));
    if (state() == S::kAbsent) return operate(T::kAdd, "the server is declared");
    if (now_.lifecycle.deregister_begun && !transient()) {
      return operate(T::kDeregister, "its de-registration has begun and can only be finished");
    }
    if (state() == S::kClientInstallFailed) return operate(T::kRetryInstall, "the client is needed");
    const Stage goal = stage_of(spec_->phase);
    if (goal > kFailedOverStage && stage_of(state()) <= kForward) {
      return blocked(because + " comes after a failover; declare phase 'failed-over' first");
    }
    if (goal == kFailedOverStage && stage_of(state()) <= kForward) return next_to_failover(because);
    if (transient()) return wait_for_end(state());
    if (state() == S::kUpgradeFailed) {
      return blocked("after a failed upgrade only a failover or the removal of the server is possible");
    }
    if (stage_of(state()) < goal) return next_forward(because);
    if (stage_of(state()) > goal) return next_backward(because, goal);
    return next_within(because);
  }

  Decision next_to_failover(const std::string& because) const {
    if (now_.rolled_back) {
      return blocked("the failover was undone because nobody confirmed it in time; declare phase 'replicating' first");
    }
    if (now_.lifecycle.drill != DrillState::kNone) return clean_drill("a failover needs the drill gone");
    // A planned one loses nothing: it waits for real time, as long as there is a source to wait for.
    const bool patient = spec_->failover.planned && !now_.source_lost && state() != S::kRealtimeReplicating &&
                         state() != S::kUpgradeFailed && stage_of(state()) == kForward;
    if (legal(T::kFailover) && !patient) return operate(T::kFailover, because);
    if (transient()) return wait_for_end(state());
    if (state() == S::kInitialized) return operate(T::kStart, because);
    if (state() == S::kUpgradeFailed || state() == S::kRealtimeReplicating) {
      return blocked(lifecycle_step(now_.lifecycle, facts_, T::kFailover).refused);
    }
    return next_of_replication(/* wants_stop= */ false, because);
  }

  // Towards a later part of the server's life.
  Decision next_forward(const std::string& because) const {
    switch (state()) {
      case S::kInitialized:
        if (spec_->phase == Phase::kStopped) {
          return blocked("replication was never started; declare phase 'initialized' or 'replicating'");
        }
        return operate(T::kStart, because);
      case S::kFailoverError: return operate(T::kFailover, because);
      case S::kFailedOver: return operate(T::kConfirm, because, object("recovery-points"));
      case S::kFailoverConfirmed:
      case S::kReverseRegisterFailed: return operate(T::kReverseRegister, because);
      case S::kReverseInitialized:
        if (spec_->phase == Phase::kReverseStopped) {
          return blocked("reverse replication was never started; declare phase 'reverse-initialized' or "
                         "'reverse-replicating'");
        }
        return operate(T::kReverseStart, because, spec_->reverse.original_machine ? object("original-machine") : "");
      case S::kReverseRealtimeReplicating: return operate(T::kFailback, because);
      default: break;
    }
    if (stage_of(state()) == kReverse) return next_of_reverse(/* wants_stop= */ false, because);
    return next_of_replication(/* wants_stop= */ false, because);
  }

  Decision next_backward(const std::string& because, Stage goal) const {
    if (stage_of(state()) == kFailedBackStage && goal <= kForward) {
      return operate(state() == S::kFailbackError ? T::kFailback : T::kRegister, because);
    }
    if (stage_of(state()) == kFailedOverStage && goal == kForward) {
      return operate(T::kCancelFailover, because, object("recovery-host"));
    }
    if (stage_of(state()) == kForward) {
      return blocked("replication was started and cannot be undone to 'initialized'; declare 'stopped', or remove the "
                     "server and add it again");
    }
    if (state() == S::kFailbackError) return operate(T::kFailback, "a failback that has begun is finished");
    if (stage_of(state()) >= kConfirmedStage && goal <= kForward) {
      return blocked("the way from " + quoted(state()) + " to " + because +
                     " leads over the production site; declare phase 'failed-back' first");
    }
    return blocked("there is no way back from " + quoted(state()) + " to " + because);
  }

  Decision next_within(const std::string& because) const {
    switch (stage_of(state())) {
      case kForward: return next_of_replication(spec_->phase == Phase::kStopped, because);
      case kReverse: return next_of_reverse(spec_->phase == Phase::kReverseStopped, because);
      case kFailedOverStage: return next_of_failed_over(because);
      case kConfirmedStage:
        if (state() != S::kReverseRegisterFailed) return {};
        return blocked("reverse registration has begun; declare phase 'reverse-initialized' or a later one");
      case kFailedBackStage:
        if (state() == S::kFailbackError) return operate(T::kFailback, because);
        if (state() == S::kRegisterFailed) {
          return blocked("registration has begun; declare phase 'initialized' or 'replicating'");
        }
        return {};
      default: return {};
    }
  }

  Decision next_of_failed_over(const std::string& because) const {
    if (state() == S::kFailoverError) return operate(T::kFailover, because);
    const std::uint64_t patience_ns = group_.operations.auto_rollback_ns;
    if (patience_ns != 0 && now_.failed_over_ns != 0 && now_ns_ >= now_.failed_over_ns &&
        now_ns_ - now_.failed_over_ns >= patience_ns) {
      return operate(T::kCancelFailover, "nobody confirmed it within " + format_duration_exact_ns(patience_ns));
    }
    if (now_.applied_point != spec_->failover.host.point && !now_.lifecycle.confirm_begun) {
      return operate(T::kChangePoint, "point " + quote(spec_->failover.host.point), object("recovery-host"));
    }
    return {};
  }

  Decision needs_order(const char* what) const {
    Decision decision;
    decision.waits = std::string(what) + ": raise repair_order (goes on at the break-point)" +
                     (stage_of(state()) == kForward ? " or restart_order (begins anew)" : "");
    return decision;
  }

  Decision next_of_replication(bool wants_stop, const std::string& because) const {
    const bool restart_wanted = spec_->restart_order > now_.restart_done;
    const bool repair_wanted = spec_->repair_order > now_.repair_done;
    switch (state()) {
      case S::kFullReplicating:
      case S::kRepairing:
        if (wants_stop) return operate(T::kStop, because);
        return wait_for_end(state());
      case S::kRealtimeReplicating:
        if (wants_stop) return operate(T::kStop, because);
        if (restart_wanted) return operate(T::kStop, "restart_order " + std::to_string(spec_->restart_order));
        return {};
      case S::kFullStopped:
      case S::kRealtimeStopped: return wants_stop ? Decision{} : operate(T::kRestart, because);
      case S::kRepairStopped: return wants_stop ? Decision{} : operate(T::kRepair, because);
      case S::kReplicationError:
        if (wants_stop) return {};  // nothing runs
        if (restart_wanted) return operate(T::kRestart, "restart_order " + std::to_string(spec_->restart_order));
        if (repair_wanted) return operate(T::kRepair, "repair_order " + std::to_string(spec_->repair_order));
        return needs_order("replication is in error");
      default: return wait_for_end(state());
    }
  }

  Decision next_of_reverse(bool wants_stop, const std::string& because) const {
    switch (state()) {
      case S::kReverseFullReplicating:
      case S::kReverseRepairing:
        if (wants_stop) return operate(T::kReverseStop, because);
        return wait_for_end(state());
      case S::kReverseRealtimeReplicating: return wants_stop ? operate(T::kReverseStop, because) : Decision{};
      case S::kReverseFullStopped:
      case S::kReverseRealtimeStopped: return wants_stop ? Decision{} : operate(T::kReverseRestart, because);
      case S::kReverseRepairStopped: return wants_stop ? Decision{} : operate(T::kReverseRepair, because);
      case S::kReverseReplicationError:
        if (wants_stop) return {};
        if (spec_->repair_order > now_.repair_done) {
          return operate(T::kReverseRepair, "repair_order " + std::to_string(spec_->repair_order));
        }
        return needs_order("reverse replication is in error");
      default: return wait_for_end(state());
    }
  }

  // The drill and the client, when the phase wants nothing now.
  Decision next_beside() const {
    const DrillState drill = now_.lifecycle.drill;
    if (!spec_->drill && drill != DrillState::kNone) return clean_drill("no drill is declared");
    if (spec_->drill && drill == DrillState::kNone) {
      if (legal(T::kDrill)) return operate(T::kDrill, "a drill is declared");
      return {};
    }
    if (spec_->drill && (drill == DrillState::kFailed || now_.applied_drill != drill_request(*spec_->drill))) {
      return clean_drill(drill == DrillState::kFailed ? "it failed and is tried again" : "the declared drill changed");
    }
    if (facts_.client_outdated && legal(T::kUpgrade)) {
      return operate(T::kUpgrade, "client_version " + quote(spec_->client_version));
    }
    return {};
  }

  const std::string name_;
  const ServerSpec* spec_;
  const GroupSpec& group_;
  ServerObserved now_;
  const std::uint64_t now_ns_;
  LifecycleFacts facts_;
};

}  // namespace

LifecycleFacts facts_of(const ServerSpec* spec, const GroupSpec& group, const ServerObserved& observed) {
  LifecycleFacts facts;
  facts.usable_point = observed.usable_point;
  facts.client_outdated = spec != nullptr && !spec->client_version.empty() && !observed.client_version.empty() &&
                          spec->client_version != observed.client_version;
  facts.strict = group.policy.strict;
  return facts;
}

std::string drill_request(const HostSpec& host) {
  return host.name + " " + std::to_string(host.flavor.vcpus) + " " + std::to_string(host.flavor.memory_bytes) + " " +
         host.address + " " + host.disk_type + " " + host.elastic_address + " " + host.point;
}

void note_begun(Trigger operation, const ServerSpec* spec, ServerObserved& server) {
  if (operation == T::kDrill || operation == T::kCleanDrill) {
    server.drill_healthy = false;
  } else if (brings_up_host(operation)) {
    server.healthy = false;
  }
  if (spec == nullptr) return;
  switch (operation) {
    case T::kRepair:
    case T::kReverseRepair: server.repair_done = spec->repair_order; break;
    case T::kRestart:
    case T::kStop: server.restart_done = spec->restart_order; break;
    case T::kFailover:
    case T::kChangePoint: server.applied_point = spec->failover.host.point; break;
    case T::kDrill:
      if (spec->drill) server.applied_drill = drill_request(*spec->drill);
      break;
    case T::kCancelFailover: server.rolled_back = spec->phase == Phase::kFailedOver; break;
    default: break;
  }
}

bool brings_up_host(Trigger operation) {
  return operation == T::kFailover || operation == T::kDrill || operation == T::kFailback ||
         operation == T::kChangePoint;
}

ServerPlan plan_server(const std::string& server, const ServerSpec* spec, const GroupSpec& group,
                       const ServerObserved& observed, const std::set<std::string>& approvals, std::uint64_t now_ns) {
  return Planner(server, spec, group, observed, now_ns).run(approvals);
}

}  // namespace understudy
