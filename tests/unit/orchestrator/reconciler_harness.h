// SPDX-License-Identifier: Apache-2.0
// A reconciler with a database in a file, a world, and a clock that is moved by hand; it can be killed and started
// again.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "orchestrator/reconcile/reconciler.h"
#include "orchestrator/state/database.h"
#include "tests/unit/orchestrator/group_text.h"
#include "tests/unit/orchestrator/recording_driver.h"
#include "tests/unit/temporary_directory.h"

namespace understudy {

class HandClock final : public Clock {
 public:
  std::uint64_t now_ns = 1'700'000'000'000'000'000;
  std::uint64_t boot_ns() const override { return now_ns; }
  std::uint64_t wall_ns() const override { return now_ns; }
};

// Thrown at a crash point: nothing of the process survives it.
struct Crash {};

class ReconcilerHarness {
 public:
  explicit ReconcilerHarness(std::uint64_t seed = 1) : driver(seed) {}

  // Calls of crash points until the process ends; negative = never.
  long crash_in = -1;
  long crash_points_passed = 0;
  HandClock clock;
  RecordingDriver driver;
  std::vector<ReconcileEvent> events;
  DeclaredOptions declared_options;

  std::string path() const { return directory_.file("orchestrator.db"); }

  Status start() {
    kill();
    auto opened = OrchestratorState::open(path(), Durability::kProcess);
    if (!opened.ok()) return std::move(opened).error();
    state = std::move(opened).value();
    auto made = Reconciler::open({*state, driver, clock, declared_options,
                                  [this](const ReconcileEvent& event) { events.push_back(event); },
                                  [this](const char*) { pass_crash_point(); }});
    if (!made.ok()) return std::move(made).error();
    reconciler = std::move(made).value();
    return ok_status();
  }
  void kill() {
    reconciler.reset();
    state.reset();
  }

  std::string declare(const std::string& text) {
    auto result = reconciler->declare({source_of("g", text)});
    return result.ok() ? "" : result.error().message();
  }
  // One second: the world moves, then the reconciler. false = it crashed and was started again.
  bool second() {
    clock.now_ns += 1'000'000'000;
    driver.tick();
    try {
      const Status status = reconciler->tick();
      if (!status.ok()) error = status.error().message();
      driver.note_processed();
      return true;
    } catch (const Crash&) {
      crash_in = -1;
      const Status status = start();
      if (!status.ok()) error = status.error().message();
      return false;
    }
  }
  void seconds(int count) {
    for (int i = 0; i < count; ++i) second();
  }
  std::string state_of(const std::string& server) const {
    const auto found = reconciler->servers().find(server);
    return found == reconciler->servers().end()
               ? "absent"
               : std::string(lifecycle_state_name(found->second.observed.lifecycle.state));
  }
  std::vector<Task> tasks(TaskFilter filter = {}) const {
    filter.count_max = 100'000;
    auto tasks = reconciler->tasks(filter);
    return tasks.ok() ? std::move(tasks).value() : std::vector<Task>();
  }

  std::string error;  // of the last tick that failed
  std::unique_ptr<OrchestratorState> state;
  std::unique_ptr<Reconciler> reconciler;

 private:
  void pass_crash_point() {
    ++crash_points_passed;
    if (crash_in > 0 && --crash_in == 0) throw Crash{};
  }
  TemporaryDirectory directory_;
};

}  // namespace understudy
