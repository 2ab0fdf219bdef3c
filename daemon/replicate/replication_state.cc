// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/replication_state.h"

#include <algorithm>
#include <array>
#include <optional>

#include "daemon/base/check.h"

namespace understudy {
namespace {

using Name = ReplicationStateName;

struct StateEntry {
  Name state;
  std::string_view forward;
  int forward_code;
  std::string_view reverse;
  int reverse_code;
};

constexpr std::array<StateEntry, kReplicationStates> kStates{{
    {Name::kInitialized, "initialized", 3, "reverse-initialized", 19},
    {Name::kStarting, "replication-starting", 4, "reverse-replication-starting", 20},
    {Name::kFullStarting, "replication-starting", 4, "reverse-full-starting", 24},
    {Name::kFull, "full-replicating", 5, "reverse-full-replicating", 21},
    {Name::kFullStopping, "full-stopping", 6, "reverse-full-stopping", 22},
    {Name::kFullStopped, "full-stopped", 7, "reverse-full-stopped", 23},
    {Name::kRealtimeStarting, "realtime-starting", 8, "reverse-realtime-starting", 28},
    {Name::kRealtime, "realtime-replicating", 9, "reverse-realtime-replicating", 25},
    {Name::kRealtimeStopping, "realtime-stopping", 10, "reverse-realtime-stopping", 26},
    {Name::kRealtimeStopped, "realtime-stopped", 11, "reverse-realtime-stopped", 27},
    {Name::kError, "replication-error", 12, "reverse-replication-error", 29},
    {Name::kRepairStarting, "repair-starting", 38, "reverse-repair-starting", 30},
    {Name::kRepairing, "repairing", 39, "reverse-repairing", 31},
    {Name::kRepairStopping, "repair-stopping", 40, "reverse-repair-stopping", 32},
    {Name::kRepairStopped, "repair-stopped", 41, "reverse-repair-stopped", 33},
}};

const StateEntry& entry_of(Name state) {
  const StateEntry& entry = kStates.at(static_cast<std::size_t>(state));
  CHECK(entry.state == state);
  return entry;
}

bool is_stopping(Name state) {
  return state == Name::kFullStopping || state == Name::kRealtimeStopping || state == Name::kRepairStopping;
}

// One step under way.
class Machine {
 public:
  explicit Machine(const ReplicationState& state) { step_.state = state; }
  StateStep run(const StateEvent& event);

 private:
  Name now() const { return step_.state.state; }
  void enter(Name state);
  void act(StateAction action) { step_.actions.push_back(action); }
  void refuse(std::string why) { step_.refused = std::move(why); }

  void start();
  void session(CopyScope scope);
  void gap_opened(CopyScope scope);
  void healed();
  void held();
  void link_down();
  void error_raised(ErrorReason reason);
  void errors_cleared();
  void stop();
  void restart();
  void repair();
  void full_copy_again();
  void go_on();
  void fail(ErrorReason reason);

  StateStep step_;
};

void Machine::enter(Name state) {
  if (state == now()) return;
  step_.state.state = state;
  step_.passed.push_back(state);
  if (state != Name::kError) step_.state.reason = ErrorReason::kNone;
}

StateStep Machine::run(const StateEvent& event) {
  switch (event.kind) {
    case StateEventKind::kStart: start(); break;
    case StateEventKind::kSession: session(event.scope); break;
    case StateEventKind::kGapOpened: gap_opened(event.scope); break;
    case StateEventKind::kVerifyBegun:
      step_.state.repair_begun = true;
      if (now() == Name::kRepairStarting) enter(Name::kRepairing);
      break;
    case StateEventKind::kHealed: healed(); break;
    case StateEventKind::kCaughtUp:
      if (now() == Name::kRealtimeStarting && step_.state.scope == CopyScope::kNone) enter(Name::kRealtime);
      break;
    case StateEventKind::kHeld: held(); break;
    case StateEventKind::kLinkDown: link_down(); break;
    case StateEventKind::kErrorRaised: error_raised(event.reason); break;
    case StateEventKind::kErrorsCleared: errors_cleared(); break;
    case StateEventKind::kStop: stop(); break;
    case StateEventKind::kRestart: restart(); break;
    case StateEventKind::kRepair: repair(); break;
  }
  return std::move(step_);
}

// What the last process left, as a new one can take it up: what was under way begins anew or has ended with it.
void Machine::start() {
  step_.state.linked = false;
  step_.state.scope = CopyScope::kNone;
  step_.state.condition = ErrorReason::kNone;
  step_.state.restart_queued = false;
  switch (now()) {
    case Name::kInitialized: enter(Name::kStarting); break;
    case Name::kFull: enter(Name::kFullStarting); break;
    case Name::kRealtime: enter(Name::kRealtimeStarting); break;
    case Name::kRepairing: enter(step_.state.repair_begun ? Name::kRepairing : Name::kRepairStarting); break;
    case Name::kFullStopping: enter(Name::kFullStopped); break;
    case Name::kRealtimeStopping: enter(Name::kRealtimeStopped); break;
    case Name::kRepairStopping: enter(Name::kRepairStopped); break;
    case Name::kError:
      if (step_.state.auto_resume && error_reason_entry(step_.state.reason).clears_itself) go_on();
      break;
    default: break;
  }
  act(state_runs(now()) ? StateAction::kRun : StateAction::kCut);
}

void Machine::session(CopyScope scope) {
  step_.state.linked = true;
  step_.state.scope = scope;
  switch (now()) {
    case Name::kStarting:
    case Name::kFullStarting:
      enter(Name::kFull);
      if (scope == CopyScope::kNone) healed();
      break;
    case Name::kFull:
    case Name::kRepairing:
      if (scope == CopyScope::kNone) healed();
      break;
    case Name::kRealtime:
    case Name::kRealtimeStarting:
      scope == CopyScope::kAll ? full_copy_again() : enter(Name::kRealtimeStarting);
      break;
    case Name::kRepairStarting:
      step_.state.repair_begun ? enter(Name::kRepairing) : act(StateAction::kVerify);
      break;
    default: break;
  }
}

void Machine::gap_opened(CopyScope scope) {
  step_.state.scope = std::max(step_.state.scope, scope);
  if (now() != Name::kRealtime && now() != Name::kRealtimeStarting) return;
  scope == CopyScope::kAll ? full_copy_again() : enter(Name::kRealtimeStarting);
}

// The break-point is lost.
void Machine::full_copy_again() {
  step_.state.resume = ResumePhase::kFull;
  enter(Name::kStarting);
  enter(Name::kFull);
}

void Machine::healed() {
  step_.state.scope = CopyScope::kNone;
  step_.state.resume = ResumePhase::kRealtime;
  step_.state.repair_begun = false;
  switch (now()) {
    case Name::kFull:
    case Name::kRealtimeStarting:
    case Name::kRepairing: enter(Name::kRealtime); break;
    case Name::kFullStopping:
    case Name::kRepairStopping: enter(Name::kRealtimeStopping); break;
    default: break;
  }
}

void Machine::held() {
  switch (now()) {
    case Name::kFullStopping: enter(Name::kFullStopped); break;
    case Name::kRealtimeStopping: enter(Name::kRealtimeStopped); break;
    case Name::kRepairStopping: enter(Name::kRepairStopped); break;
    default: return;
  }
  if (!step_.state.restart_queued) return;
  step_.state.restart_queued = false;
  now() == Name::kRepairStopped ? repair() : restart();
}

void Machine::link_down() {
  const bool was_linked = step_.state.linked;
  step_.state.linked = false;
  if (is_stopping(now())) {  // nothing more can be sent: what is left waits in the ring
    act(StateAction::kCut);
    held();
  } else if (state_runs(now()) && was_linked && !step_.state.auto_resume) {
    fail(ErrorReason::kInterrupted);
  }
}

void Machine::fail(ErrorReason reason) {
  enter(Name::kError);
  step_.state.reason = reason;
  step_.state.restart_queued = false;
  act(StateAction::kCut);
}

void Machine::error_raised(ErrorReason reason) {
  step_.state.condition = reason;
  if (state_runs(now()) || is_stopping(now())) fail(reason);
  if (now() == Name::kError) step_.state.reason = reason;
}

void Machine::errors_cleared() {
  step_.state.condition = ErrorReason::kNone;
  if (now() != Name::kError || !step_.state.auto_resume) return;
  if (!error_reason_entry(step_.state.reason).clears_itself) return;
  go_on();
  act(StateAction::kRun);
}

// From an error to where it was.
void Machine::go_on() {
  switch (step_.state.resume) {
    case ResumePhase::kFull: enter(Name::kFullStarting); break;
    case ResumePhase::kRealtime: enter(Name::kRealtimeStarting); break;
    case ResumePhase::kRepair: enter(step_.state.repair_begun ? Name::kRepairing : Name::kRepairStarting); break;
  }
}

void Machine::stop() {
  switch (now()) {
    case Name::kStarting:
    case Name::kFullStarting:
    case Name::kFull: enter(Name::kFullStopping); break;
    case Name::kRealtimeStarting:
    case Name::kRealtime: enter(Name::kRealtimeStopping); break;
    case Name::kRepairStarting:
    case Name::kRepairing: enter(Name::kRepairStopping); break;
    case Name::kInitialized: return refuse("replication has not been started");
    case Name::kError: return refuse("replication is in error and does not run; use repair or restart");
    default: step_.state.restart_queued = false; return;  // stopping or stopped
  }
  if (step_.state.linked) return act(StateAction::kHold);
  act(StateAction::kCut);
  held();
}

void Machine::restart() {
  switch (now()) {
    case Name::kFullStopped: enter(Name::kFullStarting); break;
    case Name::kRealtimeStopped: enter(Name::kRealtimeStarting); break;
    case Name::kError:
      step_.state.resume = ResumePhase::kFull;
      step_.state.repair_begun = false;
      enter(Name::kStarting);
      break;
    case Name::kFullStopping:
    case Name::kRealtimeStopping:
    case Name::kRepairStopping: step_.state.restart_queued = true; return;
    case Name::kInitialized: return refuse("replication has not been started");
    case Name::kRepairStopped: return refuse("a repair was stopped; use repair to go on with it");
    default: return;  // it runs
  }
  if (step_.state.condition != ErrorReason::kNone) return fail(step_.state.condition);
  act(StateAction::kRun);
}

void Machine::repair() {
  if (now() == Name::kRepairStarting || now() == Name::kRepairing) return;
  if (now() != Name::kError && now() != Name::kRepairStopped) {
    return refuse("repair is for replication in error, or for a repair that was stopped; it is " +
                  std::string(state_text(now(), step_.state.direction)));
  }
  if (step_.state.resume != ResumePhase::kRepair) step_.state.repair_begun = false;
  step_.state.resume = ResumePhase::kRepair;
  enter(Name::kRepairStarting);
  if (step_.state.condition != ErrorReason::kNone) return fail(step_.state.condition);
  act(StateAction::kRun);
}

}  // namespace

std::string_view state_text(Name state, Direction direction) {
  return direction == Direction::kForward ? entry_of(state).forward : entry_of(state).reverse;
}

int state_code(Name state, Direction direction) {
  return direction == Direction::kForward ? entry_of(state).forward_code : entry_of(state).reverse_code;
}

Result<Name> parse_state(std::string_view text, Direction direction) {
  for (const StateEntry& entry : kStates) {
    if (state_text(entry.state, direction) == text) return entry.state;
  }
  return Error(ErrorKind::kInvalidArgument, "'" + std::string(text) + "' is no state of replication");
}

std::string_view state_action_name(StateAction action) {
  switch (action) {
    case StateAction::kRun: return "run";
    case StateAction::kHold: return "hold";
    case StateAction::kCut: return "cut";
    case StateAction::kVerify: return "verify";
  }
  return "unknown";
}

bool state_runs(Name state) {
  switch (state) {
    case Name::kStarting:
    case Name::kFullStarting:
    case Name::kFull:
    case Name::kRealtimeStarting:
    case Name::kRealtime:
    case Name::kRepairStarting:
    case Name::kRepairing: return true;
    default: return false;
  }
}

bool state_is_stopped(Name state) {
  return state == Name::kFullStopped || state == Name::kRealtimeStopped || state == Name::kRepairStopped;
}

StateStep replication_step(const ReplicationState& state, const StateEvent& event) { return Machine(state).run(event); }

}  // namespace understudy
