// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/lifecycle/transitions.h"

namespace understudy {
namespace {

using S = LifecycleState;
using T = Trigger;
using G = TransitionGuard;
using E = TransitionEffect;

constexpr bool kPlus = false;  // Transition::strict: recommended, not in the literal guide

constexpr Transition kTransitions[] = {
    // --- into the group ---
    {"T1", S::kAbsent, T::kAdd, S::kClientInstalling},
    {"T1", S::kClientInstalling, T::kDone, S::kInitialized},
    {"T1", S::kClientInstalling, T::kFailed, S::kClientInstallFailed},
    {"T1", S::kClientInstallFailed, T::kRetryInstall, S::kClientInstalling, G::kNone, kPlus},

    // --- replication ---
    {"T2", S::kInitialized, T::kStart, S::kReplicationStarting},
    {"A1", S::kReplicationStarting, T::kScanned, S::kFullReplicating},
    {"A3", S::kReplicationStarting, T::kFailed, S::kReplicationError},
    {"A2", S::kFullReplicating, T::kCaughtUp, S::kRealtimeReplicating},
    {"A3", S::kFullReplicating, T::kFailed, S::kReplicationError},
    {"A4", S::kFullReplicating, T::kInterrupted, S::kReplicationStarting},
    {"T3a", S::kFullReplicating, T::kStop, S::kFullStopping},
    {"T3a", S::kFullStopping, T::kHeld, S::kReplicationStarting, G::kRestartQueued},
    {"T3a", S::kFullStopping, T::kHeld, S::kFullStopped},
    {"T3a", S::kFullStopping, T::kFailed, S::kReplicationError},
    {"T3a", S::kFullStopping, T::kCaughtUp, S::kRealtimeStopping},
    {"T4a", S::kFullStopping, T::kRestart, S::kFullStopping, G::kNone, true, E::kQueueRestart},
    {"T4a", S::kFullStopped, T::kRestart, S::kReplicationStarting, G::kNone, kPlus},
    {"A2", S::kRealtimeStarting, T::kCaughtUp, S::kRealtimeReplicating},
    {"A3", S::kRealtimeStarting, T::kFailed, S::kReplicationError},
    {"A4", S::kRealtimeStarting, T::kBreakPointLost, S::kReplicationStarting},
    {"A3", S::kRealtimeReplicating, T::kFailed, S::kReplicationError},
    {"A4", S::kRealtimeReplicating, T::kInterrupted, S::kRealtimeStarting},
    {"A4", S::kRealtimeReplicating, T::kBreakPointLost, S::kReplicationStarting},
    {"T3b", S::kRealtimeReplicating, T::kStop, S::kRealtimeStopping},
    {"T3b", S::kRealtimeStopping, T::kHeld, S::kRealtimeStarting, G::kRestartQueued},
    {"T3b", S::kRealtimeStopping, T::kHeld, S::kRealtimeStopped},
    {"T3b", S::kRealtimeStopping, T::kFailed, S::kReplicationError},
    {"T4b", S::kRealtimeStopping, T::kRestart, S::kRealtimeStopping, G::kNone, true, E::kQueueRestart},
    {"T4b", S::kRealtimeStopped, T::kRestart, S::kRealtimeStarting, G::kNone, kPlus},

    // --- errors of replication ---
    {"T4c", S::kReplicationError, T::kRestart, S::kReplicationStarting},
    {"A4", S::kReplicationError, T::kResumed, S::kFullReplicating, G::kResumesFull},
    {"A4", S::kReplicationError, T::kResumed, S::kRealtimeStarting, G::kResumesRealtime},
    {"A4", S::kReplicationError, T::kResumed, S::kRepairing, G::kResumesRepair},
    {"T5", S::kReplicationError, T::kRepair, S::kRepairStarting},
    {"T5", S::kRepairStarting, T::kScanned, S::kRepairing},
    {"T5", S::kRepairStarting, T::kFailed, S::kReplicationError},
    {"T5", S::kRepairing, T::kCaughtUp, S::kRealtimeReplicating},
    {"T5", S::kRepairing, T::kFailed, S::kReplicationError},
    {"A4", S::kRepairing, T::kInterrupted, S::kRepairStarting},
    {"T5", S::kRepairing, T::kStop, S::kRepairStopping},
    {"T5", S::kRepairStopping, T::kHeld, S::kRepairStopped},
    {"T5", S::kRepairStopping, T::kCaughtUp, S::kRealtimeStopping},
    {"T5", S::kRepairStopping, T::kFailed, S::kReplicationError},
    {"T5", S::kRepairStopped, T::kRepair, S::kRepairStarting},

    // --- the client ---
    {"T6", S::kInitialized, T::kUpgrade, S::kClientUpgrading, G::kClientOutdated, true, E::kRememberState},
    {"T6", S::kRealtimeReplicating, T::kUpgrade, S::kClientUpgrading, G::kClientOutdated, true, E::kRememberState},
    {"T6", S::kRealtimeStopped, T::kUpgrade, S::kClientUpgrading, G::kClientOutdated, true, E::kRememberState},
    {"T6", S::kClientUpgrading, T::kDone, S::kInitialized, G::kNone, true, E::kReturn},
    {"T6", S::kClientUpgrading, T::kFailed, S::kUpgradeFailed},

    // --- failover ---
    {"T9", S::kRealtimeStarting, T::kFailover, S::kFailingOver, G::kNoDrill},
    {"T9", S::kRealtimeReplicating, T::kFailover, S::kFailingOver, G::kNoDrill},
    {"T9", S::kRealtimeStopping, T::kFailover, S::kFailingOver, G::kNoDrill},
    {"T9", S::kRealtimeStopped, T::kFailover, S::kFailingOver, G::kNoDrill},
    {"T9", S::kReplicationError, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kUpgradeFailed, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kReplicationStarting, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kFullReplicating, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kFullStopping, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kFullStopped, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kRepairStarting, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kRepairing, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kRepairStopping, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kRepairStopped, T::kFailover, S::kFailingOver, G::kUsablePointNoDrill, kPlus},
    {"T9", S::kFailingOver, T::kDone, S::kFailedOver},
    {"T9", S::kFailingOver, T::kFailed, S::kFailoverError},
    {"T9", S::kFailoverError, T::kFailover, S::kFailingOver, G::kNoDrill},
    {"T10", S::kFailedOver, T::kChangePoint, S::kFailingOver, G::kPointsKept},
    {"T11", S::kFailedOver, T::kConfirm, S::kConfirming},
    {"T11", S::kConfirming, T::kDone, S::kFailoverConfirmed},
    {"T11", S::kConfirming, T::kFailed, S::kFailedOver},
    {"own", S::kFailedOver, T::kCancelFailover, S::kCancellingFailover, G::kPointsKept, kPlus},
    {"own", S::kFailoverError, T::kCancelFailover, S::kCancellingFailover, G::kPointsKept, kPlus},
    {"own", S::kCancellingFailover, T::kDone, S::kRealtimeStarting},
    {"own", S::kCancellingFailover, T::kFailed, S::kFailoverError},

    // --- the way back ---
    {"T12", S::kFailoverConfirmed, T::kReverseRegister, S::kReverseRegistering},
    {"T12", S::kReverseRegistering, T::kDone, S::kReverseInitialized},
    {"T12", S::kReverseRegistering, T::kFailed, S::kReverseRegisterFailed},
    {"T12", S::kReverseRegisterFailed, T::kReverseRegister, S::kReverseRegistering},
    {"T13", S::kReverseInitialized, T::kReverseStart, S::kReverseReplicationStarting},
    {"A5", S::kReverseReplicationStarting, T::kScanned, S::kReverseFullReplicating},
    {"A6", S::kReverseReplicationStarting, T::kFailed, S::kReverseReplicationError},
    {"A5", S::kReverseFullReplicating, T::kCaughtUp, S::kReverseRealtimeReplicating},
    {"A6", S::kReverseFullReplicating, T::kFailed, S::kReverseReplicationError},
    {"A5", S::kReverseFullReplicating, T::kInterrupted, S::kReverseFullStarting},
    {"A5", S::kReverseRealtimeReplicating, T::kInterrupted, S::kReverseRealtimeStarting},
    {"A5", S::kReverseRealtimeReplicating, T::kBreakPointLost, S::kReverseReplicationStarting},
    {"A6", S::kReverseRealtimeReplicating, T::kFailed, S::kReverseReplicationError},
    {"T14a", S::kReverseFullReplicating, T::kReverseStop, S::kReverseFullStopping},
    {"T14a", S::kReverseFullStopping, T::kHeld, S::kReverseFullStopped},
    {"T14a", S::kReverseFullStopping, T::kCaughtUp, S::kReverseRealtimeStopping},
    {"T14a", S::kReverseFullStopping, T::kFailed, S::kReverseReplicationError},
    {"T14b", S::kReverseRealtimeReplicating, T::kReverseStop, S::kReverseRealtimeStopping},
    {"T14b", S::kReverseRealtimeStopping, T::kHeld, S::kReverseRealtimeStopped},
    {"T14b", S::kReverseRealtimeStopping, T::kFailed, S::kReverseReplicationError},
    {"T14c", S::kReverseRepairing, T::kReverseStop, S::kReverseRepairStopping},
    {"T14c", S::kReverseRepairStopping, T::kHeld, S::kReverseRepairStopped},
    {"T14c", S::kReverseRepairStopping, T::kCaughtUp, S::kReverseRealtimeStopping},
    {"T14c", S::kReverseRepairStopping, T::kFailed, S::kReverseReplicationError},
    {"T15a", S::kReverseFullStopped, T::kReverseRestart, S::kReverseFullStarting},
    {"T15a", S::kReverseFullStarting, T::kScanned, S::kReverseFullReplicating},
    {"T15a", S::kReverseFullStarting, T::kFailed, S::kReverseReplicationError},
    {"T15b", S::kReverseRealtimeStopped, T::kReverseRestart, S::kReverseRealtimeStarting},
    {"T15b", S::kReverseRealtimeStarting, T::kCaughtUp, S::kReverseRealtimeReplicating},
    {"T15b", S::kReverseRealtimeStarting, T::kBreakPointLost, S::kReverseReplicationStarting},
    {"T15b", S::kReverseRealtimeStarting, T::kFailed, S::kReverseReplicationError},
    {"T16", S::kReverseReplicationError, T::kReverseRepair, S::kReverseRepairStarting},
    {"T16", S::kReverseRepairStopped, T::kReverseRepair, S::kReverseRepairStarting},
    {"T16", S::kReverseRepairStarting, T::kScanned, S::kReverseRepairing},
    {"T16", S::kReverseRepairStarting, T::kFailed, S::kReverseReplicationError},
    {"T16", S::kReverseRepairing, T::kCaughtUp, S::kReverseRealtimeReplicating},
    {"T16", S::kReverseRepairing, T::kInterrupted, S::kReverseRepairStarting},
    {"T16", S::kReverseRepairing, T::kFailed, S::kReverseReplicationError},
    {"T17", S::kReverseRealtimeReplicating, T::kFailback, S::kFailingBack},
    {"T17", S::kFailingBack, T::kDone, S::kFailedBack},
    {"T17", S::kFailingBack, T::kFailed, S::kFailbackError},
    {"T17r", S::kFailbackError, T::kFailback, S::kFailingBack},
    {"T18", S::kFailedBack, T::kRegister, S::kRegistering},
    {"T18", S::kRegistering, T::kDone, S::kInitialized},
    {"T18", S::kRegistering, T::kFailed, S::kRegisterFailed},
    {"T18", S::kRegisterFailed, T::kRegister, S::kRegistering},

    // --- out of the group ---
    {"T19", S::kFullStopped, T::kDeregister, S::kDeregistering, G::kNoDrill, true, E::kRememberState},
    {"T19", S::kRealtimeStopped, T::kDeregister, S::kDeregistering, G::kNoDrill, true, E::kRememberState},
    {"T19", S::kFailedOver, T::kDeregister, S::kDeregistering, G::kNoDrill, true, E::kRememberState},
    {"T19", S::kFailoverConfirmed, T::kDeregister, S::kDeregistering, G::kNoDrill, true, E::kRememberState},
    {"T19", S::kClientInstallFailed, T::kDeregister, S::kDeregistering, G::kNoDrill, true, E::kRememberState},
    {"T19", S::kReplicationError, T::kDeregister, S::kDeregistering, G::kNoDrill, true, E::kRememberState},
    {"T19", S::kUpgradeFailed, T::kDeregister, S::kDeregistering, G::kNoDrill, true, E::kRememberState},
    {"T19", S::kInitialized, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kRepairStopped, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kFailoverError, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kReverseRegisterFailed, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kReverseInitialized, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kReverseFullStopped, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kReverseRealtimeStopped, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kReverseReplicationError, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kReverseRepairStopped, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kFailbackError, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kFailedBack, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kRegisterFailed, T::kDeregister, S::kDeregistering, G::kNoDrill, kPlus, E::kRememberState},
    {"T19", S::kDeregistering, T::kDone, S::kAbsent},
    {"T19", S::kDeregistering, T::kFailed, S::kInitialized, G::kNone, true, E::kReturn},
};

constexpr DrillStart kDrillStarts[] = {
    {S::kRealtimeStarting, G::kNone, true},
    {S::kRealtimeReplicating, G::kNone, true},
    {S::kRealtimeStopping, G::kNone, true},
    {S::kRealtimeStopped, G::kNone, true},
    {S::kReplicationError, G::kUsablePoint, kPlus},
    {S::kUpgradeFailed, G::kUsablePoint, kPlus},
    {S::kReplicationStarting, G::kUsablePoint, kPlus},
    {S::kFullReplicating, G::kUsablePoint, kPlus},
    {S::kFullStopping, G::kUsablePoint, kPlus},
    {S::kFullStopped, G::kUsablePoint, kPlus},
    {S::kRepairStarting, G::kUsablePoint, kPlus},
    {S::kRepairing, G::kUsablePoint, kPlus},
    {S::kRepairStopping, G::kUsablePoint, kPlus},
    {S::kRepairStopped, G::kUsablePoint, kPlus},
};

constexpr DrillTransition kDrillTransitions[] = {
    {"T7", DrillState::kNone, T::kDrill, DrillState::kStarting},
    {"T7", DrillState::kStarting, T::kDrillReady, DrillState::kReady},
    {"T7", DrillState::kStarting, T::kDrillFailed, DrillState::kFailed},
    {"T8", DrillState::kReady, T::kCleanDrill, DrillState::kCleaning},
    {"T8", DrillState::kFailed, T::kCleanDrill, DrillState::kCleaning},
    {"T8", DrillState::kCleaning, T::kDrillCleaned, DrillState::kNone},
    {"T8", DrillState::kCleaning, T::kDrillFailed, DrillState::kFailed},
};

}  // namespace

std::span<const Transition> transitions() { return kTransitions; }
std::span<const DrillStart> drill_starts() { return kDrillStarts; }
std::span<const DrillTransition> drill_transitions() { return kDrillTransitions; }

std::string_view guard_text(TransitionGuard guard) {
  switch (guard) {
    case G::kNone: return "";
    case G::kClientOutdated: return "the client is not the newest";
    case G::kNoDrill: return "there is no drill";
    case G::kUsablePoint: return "real time was reached and a usable point exists";
    case G::kUsablePointNoDrill: return "real time was reached, a usable point exists and there is no drill";
    case G::kPointsKept: return "the deletion of the points has not begun";
    case G::kResumesFull: return "the full copy was under way";
    case G::kResumesRealtime: return "real time was reached";
    case G::kResumesRepair: return "a repair was under way";
    case G::kRestartQueued: return "a restart was asked for meanwhile";
  }
  return "";
}

}  // namespace understudy
