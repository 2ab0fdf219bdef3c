// SPDX-License-Identifier: Apache-2.0
// Freezing file systems for a moment, with a thaw that nobody can prevent (freeze_guard.h is the process that does it).
//
//   Freezer freezer;
//   RETURN_IF_ERROR(freezer.prepare(targets, deadline_ns));   // may touch the file systems
//   Status frozen = freezer.freeze();                          // from here to thaw(): touch none of them
//   ... what is to happen while they are frozen ...
//   Status held = freezer.thaw();                              // ok = they were all frozen until this call
//
// Threads: one thread uses it. Blocks; every wait is bounded by the deadline and a few seconds more.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"
#include "daemon/marks/freeze_guard.h"

namespace understudy {

struct FreezeTarget {
  std::string mount_point;  // for messages
  std::string type;         // of the file system
  UniqueFd fd;              // of a file or directory on it
  std::uint32_t level = 0;  // those of one level, which stand together, are frozen at the same time
};

class Freezer {
 public:
  // `guard_program` is started as the guard; the agent's own file by default.
  explicit Freezer(std::string guard_program = "/proc/self/exe") : guard_program_(std::move(guard_program)) {}
  // abandon().
  ~Freezer();
  Freezer(const Freezer&) = delete;
  Freezer& operator=(const Freezer&) = delete;

  // Starts the guard for `targets`, which are frozen in their order. kBusy: an earlier guard still waits for a file
  // system that neither froze nor thawed; it keeps trying, and nothing new is frozen before it has ended.
  Status prepare(std::vector<FreezeTarget> targets, std::uint64_t deadline_ns);
  // All of them, or an error that names the one that would not and why; then none stays frozen. Those of a kind that
  // cannot be frozen at all (FAT) are synchronised instead. prepare() first.
  Status freeze();
  // Thaws. An error says why not all were frozen until now: the deadline had passed, or somebody else thawed one.
  Status thaw();
  // Gives up what was prepared; what is frozen is thawed. Nothing happens when there is nothing.
  void abandon();

 private:
  enum class State : std::uint8_t { kIdle, kFreezing, kFrozen, kThawed };
  Status start_guard(std::uint64_t deadline_ns);
  bool send(GuardOrder order);
  // The next report of the guard; an error when it is gone or says nothing until `until_ns` (boot clock).
  Result<GuardReport> receive(std::uint64_t until_ns);
  void note(const GuardReport& report);
  // When the guard itself is gone or stopped.
  Error thaw_without_guard(const Error& cause);
  void reap();

  const std::string guard_program_;
  std::vector<FreezeTarget> targets_;
  std::vector<State> states_;
  std::vector<std::string> thaw_problems_;
  UniqueFd socket_;  // to the guard; invalid = none runs for us
  pid_t guard_ = 0;
  std::vector<pid_t> lingering_;  // guards that were not seen to end
  std::uint64_t deadline_length_ns_ = 0;
  std::uint64_t deadline_ns_ = 0;  // boot clock
};

}  // namespace understudy
