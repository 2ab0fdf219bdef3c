// SPDX-License-Identifier: Apache-2.0
// The words of a protected server's lifecycle: states, the drill beside them, and what moves them. Names and numbers of
// the states are those users see, in status, journal and API; they never change.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// 1 to 37 are named by the product's guide, 38 to 46 are added where the guide needs a state and names none, 47 belongs
// to the undoing of a failover. kAbsent: the server is in no group.
enum class LifecycleState : std::uint8_t {
  kAbsent = 0,
  kClientInstalling = 1,
  kClientInstallFailed = 2,
  kInitialized = 3,
  kReplicationStarting = 4,
  kFullReplicating = 5,
  kFullStopping = 6,
  kFullStopped = 7,
  kRealtimeStarting = 8,
  kRealtimeReplicating = 9,
  kRealtimeStopping = 10,
  kRealtimeStopped = 11,
  kReplicationError = 12,
  kClientUpgrading = 13,
  kUpgradeFailed = 14,
  kFailingOver = 15,
  kFailedOver = 16,
  kFailoverConfirmed = 17,
  kReverseRegistering = 18,
  kReverseInitialized = 19,
  kReverseReplicationStarting = 20,
  kReverseFullReplicating = 21,
  kReverseFullStopping = 22,
  kReverseFullStopped = 23,
  kReverseFullStarting = 24,
  kReverseRealtimeReplicating = 25,
  kReverseRealtimeStopping = 26,
  kReverseRealtimeStopped = 27,
  kReverseRealtimeStarting = 28,
  kReverseReplicationError = 29,
  kReverseRepairStarting = 30,
  kReverseRepairing = 31,
  kReverseRepairStopping = 32,
  kReverseRepairStopped = 33,
  kFailingBack = 34,
  kFailbackError = 35,
  kFailedBack = 36,
  kRegistering = 37,
  kRepairStarting = 38,
  kRepairing = 39,
  kRepairStopping = 40,
  kRepairStopped = 41,
  kFailoverError = 42,
  kConfirming = 43,
  kReverseRegisterFailed = 44,
  kRegisterFailed = 45,
  kDeregistering = 46,
  kCancellingFailover = 47,
};
inline constexpr std::size_t kLifecycleStates = 48;

// Stable states wait for somebody; active ones copy and go on by themselves; transient ones end by themselves and
// accept (almost) nothing meanwhile; errors wait for a repair, a retry or the end.
enum class StateKind : std::uint8_t { kStable, kActive, kTransient, kError };

std::string_view lifecycle_state_name(LifecycleState state);  // "realtime-replicating"
StateKind lifecycle_state_kind(LifecycleState state);
std::string_view state_kind_name(StateKind kind);
Result<LifecycleState> parse_lifecycle_state(std::string_view name);
const std::vector<LifecycleState>& all_lifecycle_states();

// The drill of a server, beside its state: a rehearsal disturbs nothing.
enum class DrillState : std::uint8_t { kNone, kStarting, kReady, kFailed, kCleaning };
std::string_view drill_state_name(DrillState drill);  // "drill-ready"
Result<DrillState> parse_drill_state(std::string_view name);

// What moves a server: operations that somebody asks for, and events that happened.
enum class Trigger : std::uint8_t {
  // operations
  kAdd,
  kRetryInstall,
  kStart,
  kStop,
  kRestart,
  kRepair,
  kUpgrade,
  kDrill,
  kCleanDrill,
  kFailover,
  kChangePoint,
  kConfirm,
  kCancelFailover,
  kReverseRegister,
  kReverseStart,
  kReverseStop,
  kReverseRestart,
  kReverseRepair,
  kFailback,
  kRegister,
  kDeregister,
  // events
  kDone,            // what the transient state is about has ended well
  kFailed,          // it has not; or replication broke
  kScanned,         // the server was looked over: it is known what must be copied
  kCaughtUp,        // everything that was to be copied is at the other site
  kHeld,            // replication has come to its stop
  kInterrupted,     // contact was lost, or the client began anew: it goes on at the break-point
  kResumed,         // the cause of an error is gone and replication goes on by itself
  kBreakPointLost,  // nothing can be proved of what was copied: it begins again
  kDrillReady,
  kDrillFailed,
  kDrillCleaned,
};
inline constexpr std::size_t kTriggers = 32;
inline constexpr std::size_t kOperations = 21;

inline bool is_operation(Trigger trigger) { return static_cast<std::size_t>(trigger) < kOperations; }
std::string_view trigger_name(Trigger trigger);  // "change-point", "caught-up"
Result<Trigger> parse_trigger(std::string_view name);
const std::vector<Trigger>& all_triggers();

}  // namespace understudy
