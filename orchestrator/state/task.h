// SPDX-License-Identifier: Apache-2.0
// A task: one run of an operation on one server, as the history shows it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "orchestrator/lifecycle/lifecycle_state.h"

namespace understudy {

enum class TaskState : std::uint8_t { kOpen, kDone, kFailed };
std::string_view task_state_name(TaskState state);
Result<TaskState> parse_task_state(std::string_view name);

struct Task {
  std::uint64_t id = 0;  // never used again; drivers know an order by it
  std::string group;
  std::string server;
  Trigger operation = Trigger::kAdd;
  TaskState state = TaskState::kOpen;
  std::string because;      // what of the declaration asked for it
  std::string approved_by;  // who approved what it destroys; empty = nothing was to be approved
  std::string destroys;
  std::string step;         // what the driver is at
  std::string error;        // of kFailed; of kOpen: why the last attempt to hand it over failed
  std::uint64_t progress_permille = 0;
  std::uint64_t attempt = 1;     // which try in a row this is
  std::uint64_t begun_ns = 0;    // wall clock, as all of these
  std::uint64_t ended_ns = 0;    // 0 = open
  bool operator==(const Task&) const = default;
};

struct TaskFilter {
  std::string group;   // empty = all, as in all of these
  std::string server;
  std::optional<Trigger> operation;
  std::optional<TaskState> state;
  std::uint64_t since_ns = 0;  // begun at or after
  std::size_t count_max = 100;
};

}  // namespace understudy
