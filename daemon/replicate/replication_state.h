// SPDX-License-Identifier: Apache-2.0
// The states of a server's replication (spec.md §3.1: rows 3 to 12 and 19 to 33, and the repair states it adds), as a
// pure state machine. It knows nothing of which side is the source: the reverse direction has other names only.
//
//   initialized --start--> starting --session--> full ----------healed---------> realtime
//                             ^                  |  ^                             |  ^  | gap, session again
//                             |             stop |  | session                stop |  |  v
//                             |                  v  |                             v  | realtime-starting
//                             |    full-stopping    full-starting  realtime-stopping |  ^
//                             |          | held         ^                   | held   |  | restart
//                             |          v              |                   v        |  |
//                             |    full-stopped --restart          realtime-stopped -+--+
//                             |
//   any that runs --error, interruption without auto_resume--> error --restart--> starting
//        --repair--> repair-starting --> repairing --> realtime
//                      (stop: repair-stopping, repair-stopped, repair)
//        --condition over, auto_resume--> where it was
//
// An interruption with auto_resume changes no state: the connection comes back and the phase goes on (A4); in real time
// by way of realtime-starting. When the break-point is lost (a new generation), the way is that of a full copy again.
// A restart that comes while stopping runs when the stop has ended (Q1). Commands that ask for what already is change
// nothing and succeed (I10).
//
// stop is also accepted in the starting states: without a receiver they last for ever.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/replicate/error_reason.h"
#include "daemon/replicate/phase.h"

namespace understudy {

enum class ReplicationStateName : std::uint8_t {
  kInitialized,
  kStarting,          // from the beginning: the server is looked over, the receiver asked
  kFullStarting,      // a full copy goes on at its break-point; forward it shares the name of kStarting
  kFull,
  kFullStopping,
  kFullStopped,
  kRealtimeStarting,  // catches up by what is in the ring, or by differences
  kRealtime,
  kRealtimeStopping,
  kRealtimeStopped,
  kError,
  kRepairStarting,
  kRepairing,
  kRepairStopping,
  kRepairStopped,
};
inline constexpr std::size_t kReplicationStates = 15;

enum class Direction : std::uint8_t { kForward, kReverse };

// Names and numbers of spec.md §3.1; the repair states that it adds without a number have 38 to 41.
std::string_view state_text(ReplicationStateName state, Direction direction);
int state_code(ReplicationStateName state, Direction direction);
// kInvalidArgument for an unknown name.
Result<ReplicationStateName> parse_state(std::string_view text, Direction direction);

// What a restart, or the end of an error, goes on with.
enum class ResumePhase : std::uint8_t { kFull, kRealtime, kRepair };

struct ReplicationState {
  // These outlive the process (agent/replication_record.h).
  ReplicationStateName state = ReplicationStateName::kInitialized;
  Direction direction = Direction::kForward;
  ResumePhase resume = ResumePhase::kFull;
  bool repair_begun = false;           // the repair's GAP is in the stream
  ErrorReason reason = ErrorReason::kNone;  // of kError
  // These are facts of the moment.
  bool auto_resume = true;             // policy
  bool linked = false;
  CopyScope scope = CopyScope::kNone;
  ErrorReason condition = ErrorReason::kNone;  // holds now
  bool restart_queued = false;
};

enum class StateEventKind : std::uint8_t {
  kStart,          // the process began; `state` is what the last one left
  kSession,        // the receiver's position is known; scope of what must be copied
  kGapOpened,      // scope
  kVerifyBegun,    // the answer to kVerify
  kHealed,
  kCaughtUp,       // everything captured before the session is acknowledged, and no gap is open
  kHeld,           // the answer to kHold
  kLinkDown,
  kErrorRaised,    // reason
  kErrorsCleared,
  kStop, kRestart, kRepair,  // commands
};
struct StateEvent {
  StateEventKind kind = StateEventKind::kStart;
  CopyScope scope = CopyScope::kNone;
  ErrorReason reason = ErrorReason::kNone;
};

enum class StateAction : std::uint8_t {
  kRun,     // open the gate; with a session, say kSession
  kHold,    // send what is captured, finish, close the gate, say kHeld
  kCut,     // close the gate at once
  kVerify,  // compare all of it with the receiver, or copy all of it again; say kVerifyBegun
};
std::string_view state_action_name(StateAction action);

struct StateStep {
  ReplicationState state;
  std::vector<ReplicationStateName> passed;  // states entered, in order; empty = none
  std::vector<StateAction> actions;
  std::string refused;                       // a command that is not legal here: why; nothing changed then
};

StateStep replication_step(const ReplicationState& state, const StateEvent& event);

// Whether the gate is open in this state.
bool state_runs(ReplicationStateName state);
bool state_is_stopped(ReplicationStateName state);

}  // namespace understudy
