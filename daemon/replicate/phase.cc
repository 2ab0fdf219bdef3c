// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/phase.h"

#include <algorithm>

namespace understudy {
namespace {

Phase phase_of(const PhaseState& state) {
  if (state.stopped) return Phase::kStopped;
  if (state.error) return Phase::kError;
  if (!state.attached) return Phase::kStarting;
  if (!state.linked) return Phase::kWaitingForReceiver;
  switch (state.scope) {
    case CopyScope::kAll: return Phase::kFullCopy;
    case CopyScope::kDirty: return Phase::kResync;
    case CopyScope::kNone: break;
  }
  return Phase::kRealtime;
}

}  // namespace

std::string_view phase_name(Phase phase) {
  switch (phase) {
    case Phase::kStarting: return "starting";
    case Phase::kWaitingForReceiver: return "waiting-for-receiver";
    case Phase::kFullCopy: return "full-copy";
    case Phase::kResync: return "resync";
    case Phase::kRealtime: return "realtime";
    case Phase::kStopped: return "stopped";
    case Phase::kError: return "error";
  }
  return "unknown";
}

PhaseState phase_step(PhaseState state, const PhaseEvent& event) {
  switch (event.kind) {
    case PhaseEventKind::kAttached: state.attached = true; break;
    case PhaseEventKind::kLinkUp:
      state.linked = true;
      state.scope = event.scope;
      break;
    case PhaseEventKind::kLinkDown: state.linked = false; break;
    case PhaseEventKind::kGapOpened: state.scope = std::max(state.scope, event.scope); break;
    case PhaseEventKind::kHealed: state.scope = CopyScope::kNone; break;
    case PhaseEventKind::kErrorRaised: state.error = true; break;
    case PhaseEventKind::kErrorsCleared: state.error = false; break;
    case PhaseEventKind::kStopped: state.stopped = true; break;
  }
  state.phase = phase_of(state);
  return state;
}

}  // namespace understudy
