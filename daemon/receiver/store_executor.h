// SPDX-License-Identifier: Apache-2.0
// Where the work of stores runs: turns of tasks, one turn of a task at a time. The receiver has a few threads for all
// its stores (store_threads.h); the simulator has one thread and a clock of its own, and runs the same tasks.
#pragma once

#include <cstdint>
#include <optional>

namespace understudy {

class StoreTask {
 public:
  virtual ~StoreTask() = default;
  // Does a bounded piece of work. Returns after how many nanoseconds it wants its next turn (0 = as soon as the others
  // had theirs); nullopt = not before it is woken.
  virtual std::optional<std::uint64_t> turn() = 0;
};

class StoreExecutor {
 public:
  virtual ~StoreExecutor() = default;
  // A turn of `task` begins after this call, at once if a thread is free. Any number of calls before that turn make one
  // turn. May be called from any thread, also from turns.
  virtual void wake(StoreTask& task) = 0;
  // Forgets `task`: when it returns, no turn of it runs or will run. Not to be called from a turn.
  virtual void forget(StoreTask& task) = 0;
};

}  // namespace understudy
