// SPDX-License-Identifier: Apache-2.0
// Traces of the replication state machine, compared byte for byte; README.md says how they are made anew.
#include "daemon/replicate/replication_state.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "daemon/base/atomic_file.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::size_t kTraceBytesMax = 1 << 20;

class Tracer {
 public:
  std::string run(const std::string& events) {
    std::istringstream lines(events);
    std::string line;
    while (std::getline(lines, line)) {
      if (line.empty() || line[0] == '#') {
        trace_ += line + "\n";
        continue;
      }
      std::istringstream words(line);
      std::string word;
      std::string argument;
      words >> word >> argument;
      trace_ += line + "\n";
      one(word, argument);
    }
    return trace_;
  }

 private:
  void one(const std::string& word, const std::string& argument) {
    if (word == "direction") {
      state_.direction = argument == "reverse" ? Direction::kReverse : Direction::kForward;
      return;
    }
    if (word == "auto_resume") {
      state_.auto_resume = argument == "on";
      return;
    }
    static const std::map<std::string, StateEventKind> kWords{
        {"start", StateEventKind::kStart},         {"session", StateEventKind::kSession},
        {"gap", StateEventKind::kGapOpened},       {"verify_begun", StateEventKind::kVerifyBegun},
        {"healed", StateEventKind::kHealed},       {"caught_up", StateEventKind::kCaughtUp},
        {"held", StateEventKind::kHeld},           {"link_down", StateEventKind::kLinkDown},
        {"error", StateEventKind::kErrorRaised},   {"errors_cleared", StateEventKind::kErrorsCleared},
        {"stop", StateEventKind::kStop},           {"restart", StateEventKind::kRestart},
        {"repair", StateEventKind::kRepair}};
    REQUIRE_MESSAGE(kWords.count(word) == 1, "unknown event '" << word << "'");
    StateEvent event{.kind = kWords.at(word)};
    if (event.kind == StateEventKind::kErrorRaised) {
      const auto reason = parse_error_reason(argument);
      REQUIRE(reason.ok());
      event.reason = *reason;
    } else if (!argument.empty()) {
      static const std::map<std::string, CopyScope> kScopes{
          {"none", CopyScope::kNone}, {"dirty", CopyScope::kDirty}, {"all", CopyScope::kAll}};
      REQUIRE_MESSAGE(kScopes.count(argument) == 1, "unknown scope '" << argument << "'");
      event.scope = kScopes.at(argument);
    }
    const StateStep step = replication_step(state_, event);
    state_ = step.state;
    describe(step);
  }

  void describe(const StateStep& step) {
    if (!step.refused.empty()) {
      trace_ += "    refused: " + step.refused + "\n";
      return;
    }
    std::string line = "    ";
    for (const ReplicationStateName name : step.passed) line += "-> " + named(name) + " ";
    if (step.passed.empty()) line += "stays " + named(state_.state) + " ";
    for (const StateAction action : step.actions) line += "!" + std::string(state_action_name(action)) + " ";
    if (state_.reason != ErrorReason::kNone) line += "(" + std::string(error_reason_entry(state_.reason).name) + ") ";
    if (state_.restart_queued) line += "(restart queued) ";
    line.pop_back();
    trace_ += line + "\n";
  }
  std::string named(ReplicationStateName name) const {
    return std::string(state_text(name, state_.direction)) + " [" + std::to_string(state_code(name, state_.direction)) +
           "]";
  }

  ReplicationState state_;
  std::string trace_;
};

}  // namespace

TEST_CASE("replication state: traces") {
  const std::filesystem::path directory(UNDERSTUDY_GOLDEN_DIRECTORY);
  std::size_t traces = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".events") continue;
    ++traces;
    CAPTURE(entry.path().string());
    const auto events = read_file(entry.path().string(), kTraceBytesMax);
    REQUIRE(events.ok());
    const std::string trace = Tracer().run(*events);
    const std::string path = std::filesystem::path(entry.path()).replace_extension(".trace").string();
    if (std::getenv("UNDERSTUDY_GOLDEN_WRITE") != nullptr) {
      REQUIRE(write_file_atomically(path, trace, 0644).ok());
      continue;
    }
    const auto golden = read_file(path, kTraceBytesMax);
    REQUIRE(golden.ok());
    CHECK(trace == *golden);
  }
  CHECK(traces >= 5);
}

}  // namespace understudy
