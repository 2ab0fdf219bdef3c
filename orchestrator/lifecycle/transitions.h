// SPDX-License-Identifier: Apache-2.0
// The rows of the lifecycle's table. Only lifecycle.cc, the page and the tests read them.
#pragma once

#include <span>
#include <string_view>

#include "orchestrator/lifecycle/lifecycle_state.h"

namespace understudy {

// What must hold besides the state. The first row of (state, trigger) whose guard holds is the one that counts.
enum class TransitionGuard : std::uint8_t {
  kNone,
  kClientOutdated,
  kNoDrill,
  kUsablePoint,         // and real time was reached
  kUsablePointNoDrill,
  kPointsKept,          // their deletion has not begun
  kResumesFull,
  kResumesRealtime,
  kResumesRepair,
  kRestartQueued,
};

enum class TransitionEffect : std::uint8_t {
  kNone,
  kQueueRestart,
  kRememberState,   // for kReturn
  kReturn,          // to the remembered state instead of `to`
};

struct Transition {
  std::string_view id;  // of the guide's table: "T9", "A3"; "own" = beyond the guide
  LifecycleState from;
  Trigger trigger;
  LifecycleState to;
  TransitionGuard guard = TransitionGuard::kNone;
  bool strict = true;  // also when only the literal guide counts
  TransitionEffect effect = TransitionEffect::kNone;
};

std::span<const Transition> transitions();

// Drill: from which states a drill may begin.
struct DrillStart {
  LifecycleState from;
  TransitionGuard guard;
  bool strict;
};
std::span<const DrillStart> drill_starts();

// The other transitions of the drill do not look at the server's state.
struct DrillTransition {
  std::string_view id;
  DrillState from;
  Trigger trigger;
  DrillState to;
};
std::span<const DrillTransition> drill_transitions();

std::string_view guard_text(TransitionGuard guard);  // "a usable point exists"; empty for kNone

}  // namespace understudy
