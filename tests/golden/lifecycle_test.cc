// SPDX-License-Identifier: Apache-2.0
// Traces of the lifecycle, compared byte for byte, and its page; README.md says how they are made anew.
#include "orchestrator/lifecycle/lifecycle.h"

#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include "daemon/base/atomic_file.h"
#include "orchestrator/lifecycle/lifecycle_page.h"
#include "orchestrator/lifecycle/transitions.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::size_t kTraceBytesMax = 1 << 20;

// Rows of the tables by which something moved, as "state trigger -> state".
using Taken = std::set<std::string>;

std::string row_name(std::string_view from, Trigger trigger, std::string_view to) {
  return std::string(from) + " " + std::string(trigger_name(trigger)) + " -> " + std::string(to);
}

class Tracer {
 public:
  explicit Tracer(Taken& taken) : taken_(taken) {}

  std::string run(const std::string& events) {
    std::istringstream lines(events);
    for (std::string line; std::getline(lines, line);) {
      trace_ += line + "\n";
      if (line.empty() || line[0] == '#') continue;
      std::istringstream words(line);
      std::string word;
      words >> word;
      if (word == "facts") {
        read_facts(words);
      } else if (word == "state") {
        read_state(words);
      } else {
        take(word);
      }
    }
    return trace_;
  }

 private:
  void read_facts(std::istringstream& words) {
    facts_ = {};
    for (std::string word; words >> word;) {
      if (word == "point") {
        facts_.usable_point = true;
      } else if (word == "old-client") {
        facts_.client_outdated = true;
      } else {
        REQUIRE_MESSAGE(word == "strict", "unknown fact '" << word << "'");
        facts_.strict = true;
      }
    }
  }
  void read_state(std::istringstream& words) {
    std::string word;
    words >> word;
    const auto state = parse_lifecycle_state(word);
    REQUIRE_MESSAGE(state.ok(), word);
    server_ = {};
    server_.state = *state;
    server_.realtime_reached = static_cast<bool>(words >> word);
  }
  void take(const std::string& word) {
    const auto trigger = parse_trigger(word);
    REQUIRE_MESSAGE(trigger.ok(), word);
    const Lifecycle before = server_;
    const LifecycleStep step = lifecycle_step(server_, facts_, *trigger);
    server_ = step.next;
    if (!step.refused.empty()) {
      CHECK(server_ == before);
      trace_ += "    refused: " + step.refused + "\n";
      return;
    }
    if (!step.changed) {
      trace_ += "    nothing changes\n";
      return;
    }
    trace_ += "    -> " + std::string(lifecycle_state_name(server_.state)) + " [" +
              std::to_string(static_cast<int>(server_.state)) + "]";
    if (server_.drill != DrillState::kNone) trace_ += " (" + std::string(drill_state_name(server_.drill)) + ")";
    if (server_.restart_queued) trace_ += " (restart queued)";
    if (server_.confirm_begun) trace_ += " (confirm begun)";
    if (server_.deregister_begun) trace_ += " (deregister begun)";
    trace_ += "\n";
    if (before.drill != server_.drill && before.state == server_.state) {
      taken_.insert(row_name(drill_state_name(before.drill), *trigger, drill_state_name(server_.drill)));
    } else {
      taken_.insert(row_name(lifecycle_state_name(before.state), *trigger, lifecycle_state_name(server_.state)));
    }
  }

  Taken& taken_;
  Lifecycle server_;
  LifecycleFacts facts_;
  std::string trace_;
};

bool writing() { return std::getenv("UNDERSTUDY_GOLDEN_WRITE") != nullptr; }

void compare(const std::string& path, const std::string& text) {
  if (writing()) {
    REQUIRE(write_file_atomically(path, text, 0644).ok());
    return;
  }
  const auto golden = read_file(path, kTraceBytesMax);
  REQUIRE(golden.ok());
  CHECK(text == *golden);
}

}  // namespace

TEST_CASE("lifecycle: traces, and together they take every transition") {
  Taken taken;
  for (const auto& entry : std::filesystem::directory_iterator(UNDERSTUDY_GOLDEN_DIRECTORY)) {
    if (entry.path().extension() != ".events") continue;
    CAPTURE(entry.path().string());
    const auto events = read_file(entry.path().string(), kTraceBytesMax);
    REQUIRE(events.ok());
    compare(std::filesystem::path(entry.path()).replace_extension(".trace").string(), Tracer(taken).run(*events));
  }
  for (const Transition& row : transitions()) {
    const auto to = row.effect == TransitionEffect::kReturn ? std::string_view() : lifecycle_state_name(row.to);
    const std::string name = row_name(lifecycle_state_name(row.from), row.trigger, to);
    const auto found = taken.lower_bound(name);
    CHECK_MESSAGE((found != taken.end() && (to.empty() ? found->starts_with(name) : *found == name)),
                  "no trace takes " << name);
  }
  for (const DrillTransition& row : drill_transitions()) {
    const std::string name = row_name(drill_state_name(row.from), row.trigger, drill_state_name(row.to));
    CHECK_MESSAGE(taken.count(name) == 1, "no trace takes " << name);
  }
}

TEST_CASE("lifecycle: the page is the table") { compare(UNDERSTUDY_LIFECYCLE_PAGE, lifecycle_page()); }

}  // namespace understudy
