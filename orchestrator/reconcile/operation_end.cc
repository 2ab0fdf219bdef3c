// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/reconcile/operation_end.h"

namespace understudy {

using S = LifecycleState;
using T = Trigger;

bool ends_by_report(Trigger operation) {
  switch (operation) {
    case T::kStart:
    case T::kStop:
    case T::kRestart:
    case T::kRepair:
    case T::kReverseStart:
    case T::kReverseStop:
    case T::kReverseRestart:
    case T::kReverseRepair: return true;
    default: return false;
  }
}

Trigger end_event(Trigger operation, bool done) {
  if (operation == T::kDrill) return done ? T::kDrillReady : T::kDrillFailed;
  if (operation == T::kCleanDrill) return done ? T::kDrillCleaned : T::kDrillFailed;
  return done ? T::kDone : T::kFailed;
}

std::optional<bool> replication_outcome(Trigger operation, LifecycleState state) {
  if (state == S::kReplicationError || state == S::kReverseReplicationError) return false;
  const bool stops = operation == T::kStop || operation == T::kReverseStop;
  switch (state) {
    case S::kRealtimeReplicating:
    case S::kReverseRealtimeReplicating:
      if (!stops) return true;
      return std::nullopt;
    case S::kFullStopped:
    case S::kRealtimeStopped:
    case S::kRepairStopped:
    case S::kReverseFullStopped:
    case S::kReverseRealtimeStopped:
    case S::kReverseRepairStopped:
      if (stops) return true;
      return std::nullopt;
    default: return std::nullopt;
  }
}

}  // namespace understudy
