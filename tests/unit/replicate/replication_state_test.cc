// SPDX-License-Identifier: Apache-2.0
// What holds for every history of the state machine; its traces are in tests/golden.
#include "daemon/replicate/replication_state.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

#include <random>
#include <set>
#include <string>

namespace understudy {
namespace {

using Name = ReplicationStateName;
using Kind = StateEventKind;

bool is_stopping(Name state) {
  return state == Name::kFullStopping || state == Name::kRealtimeStopping || state == Name::kRepairStopping;
}

// What the replicator does with the actions.
enum class Gate { kOpen, kDraining, kClosed };

class Walk {
 public:
  explicit Walk(std::uint64_t seed) : random_(seed) { feed({Kind::kStart}); }

  void turn() {
    switch (random_() % 14) {
      case 0: feed({Kind::kStop}); break;
      case 1: feed({Kind::kRestart}); break;
      case 2: feed({Kind::kRepair}); break;
      case 3: feed({Kind::kLinkDown}); break;
      case 4: feed({Kind::kErrorRaised, CopyScope::kNone, static_cast<ErrorReason>(1 + random_() % 8)}); break;
      case 5: feed({Kind::kErrorsCleared}); break;
      case 6: state_.auto_resume = random_() % 4 != 0; break;
      case 7: feed({Kind::kStart}); break;
      case 8:
        if (gate_ == Gate::kDraining) feed({Kind::kHeld});
        break;
      case 9:
        if (gate_ != Gate::kClosed && state_.linked) feed({Kind::kGapOpened, scope()});
        break;
      case 10:
        if (gate_ != Gate::kClosed && state_.linked) feed({Kind::kHealed});
        break;
      case 11:
        if (gate_ != Gate::kClosed && state_.linked) feed({Kind::kCaughtUp});
        break;
      default:
        if (gate_ == Gate::kOpen) feed({Kind::kSession, random_() % 2 == 0 ? CopyScope::kNone : scope()});
        break;
    }
  }

  std::set<Name> seen;

 private:
  CopyScope scope() { return random_() % 2 == 0 ? CopyScope::kDirty : CopyScope::kAll; }

  void feed(const StateEvent& event) {
    const ReplicationState before = state_;
    const StateStep step = replication_step(state_, event);
    state_ = step.state;
    if (!step.refused.empty()) {
      REQUIRE(state_.state == before.state);
      REQUIRE(step.actions.empty());
    }
    for (const Name name : step.passed) seen.insert(name);
    bool verify = false;
    for (const StateAction action : step.actions) {
      switch (action) {
        case StateAction::kRun: gate_ = Gate::kOpen; break;
        case StateAction::kHold:
          if (gate_ == Gate::kOpen) gate_ = Gate::kDraining;
          break;
        case StateAction::kCut: gate_ = Gate::kClosed; break;
        case StateAction::kVerify: verify = true; break;
      }
    }
    if (event.kind == Kind::kHeld && gate_ == Gate::kDraining) gate_ = Gate::kClosed;
    check(before, event, step);
    if (verify && random_() % 2 == 0) feed({Kind::kVerifyBegun});
  }

  void check(const ReplicationState& before, const StateEvent& event, const StateStep& step) {
    // The gate is open exactly where replication runs: nothing is sent in a stopped state or in error.
    REQUIRE(state_runs(state_.state) == (gate_ == Gate::kOpen));
    if (is_stopping(state_.state)) REQUIRE(gate_ == Gate::kDraining);
    REQUIRE((state_.state == Name::kError) == (state_.reason != ErrorReason::kNone));
    // A stop is left by a command only.
    if (state_is_stopped(before.state) && state_.state != before.state) {
      REQUIRE((event.kind == Kind::kRestart || event.kind == Kind::kRepair));
    }
    // A command that succeeded, said twice, changes nothing the second time.
    if (event.kind == Kind::kStop && step.refused.empty()) {
      const StateStep again = replication_step(state_, event);
      REQUIRE(again.refused.empty());
      REQUIRE(again.passed.empty());
    }
    // The first copy is not forgotten: real time is entered by a HEAL, or from where one was.
    if (state_.state == Name::kRealtime) REQUIRE(state_.resume == ResumePhase::kRealtime);
    // Without the option an error is left by commands only, but for a new process with the option on.
    if (before.state == Name::kError && !before.auto_resume && state_.state != Name::kError) {
      REQUIRE((event.kind == Kind::kRestart || event.kind == Kind::kRepair));
    }
  }

  std::mt19937_64 random_;
  ReplicationState state_;
  Gate gate_ = Gate::kClosed;
};

}  // namespace

TEST_CASE("replication state: nothing runs that was stopped, in any history") {
  std::set<Name> seen;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    CAPTURE(seed);
    Walk walk(seed);
    for (int i = 0; i < 120; ++i) walk.turn();
    seen.insert(walk.seen.begin(), walk.seen.end());
  }
  CHECK(seen.size() == kReplicationStates - 1);  // nothing goes back to `initialized`
}

TEST_CASE("replication state: names are read back, and numbers are those of the specification") {
  for (const Direction direction : {Direction::kForward, Direction::kReverse}) {
    std::set<int> codes;
    for (std::size_t i = 0; i < kReplicationStates; ++i) {
      const auto name = static_cast<Name>(i);
      const auto back = parse_state(state_text(name, direction), direction);
      REQUIRE(back.ok());
      CHECK(state_code(*back, direction) == state_code(name, direction));
      codes.insert(state_code(name, direction));
    }
    CHECK(codes.size() == (direction == Direction::kForward ? 14 : 15));
  }
  CHECK(state_text(Name::kRealtime, Direction::kForward) == "realtime-replicating");
  CHECK(state_code(Name::kRealtime, Direction::kForward) == 9);
  CHECK(state_code(Name::kFullStarting, Direction::kReverse) == 24);
  CHECK_FALSE(parse_state("replicating", Direction::kForward).ok());
}

TEST_CASE("error reasons: each has a name of its own, a text and an advice") {
  std::set<std::string> names;
  for (const ErrorReasonEntry& entry : error_reasons()) {
    names.insert(std::string(entry.name));
    const auto back = parse_error_reason(entry.name);
    REQUIRE(back.ok());
    CHECK(*back == entry.reason);
    if (entry.reason == ErrorReason::kNone) continue;
    CHECK_FALSE(entry.text.empty());
    CHECK_FALSE(entry.advice.empty());
  }
  CHECK(names.size() == error_reasons().size());
  CHECK_FALSE(parse_error_reason("bad luck").ok());
}

}  // namespace understudy
