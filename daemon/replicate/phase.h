// SPDX-License-Identifier: Apache-2.0
// The phases an operator sees, as a pure state machine.
//
//              attached              link up, gap                      last HEAL acknowledged
//   starting ------------> waiting ------------------> full-copy | resync ------------------> realtime
//                             ^    \-- link up, whole --------------------------------------^    |
//                             |                                    ^                             |
//                             |                                    +-------- gap opened ---------+
//                             +---- link down (from full-copy, resync, realtime)
//
//   any --error raised--> error --all errors cleared--> where the facts say
//   any --stop requested--> stopped (final)
//
// The state keeps the facts (attached, linked, gap) apart from the phase, so that leaving `error` needs no memory of
// how it was entered.
#pragma once

#include <cstdint>
#include <string_view>

namespace understudy {

enum class Phase : std::uint8_t { kStarting, kWaitingForReceiver, kFullCopy, kResync, kRealtime, kStopped, kError };
std::string_view phase_name(Phase phase);

// What must be copied before the replica is whole.
enum class CopyScope : std::uint8_t { kNone, kDirty, kAll };

enum class PhaseEventKind : std::uint8_t {
  kAttached,
  kLinkUp,        // with the scope of the gap that is open, kNone = whole
  kLinkDown,
  kGapOpened,     // with its scope; a full copy under way stays one
  kHealed,        // the HEAL is acknowledged
  kErrorRaised,
  kErrorsCleared,
  kStopped,
};
struct PhaseEvent {
  PhaseEventKind kind = PhaseEventKind::kAttached;
  CopyScope scope = CopyScope::kNone;
};

struct PhaseState {
  Phase phase = Phase::kStarting;
  bool attached = false;
  bool linked = false;
  bool error = false;
  bool stopped = false;
  CopyScope scope = CopyScope::kNone;
};

PhaseState phase_step(PhaseState state, const PhaseEvent& event);

}  // namespace understudy
