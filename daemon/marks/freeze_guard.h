// SPDX-License-Identifier: Apache-2.0
// The process that freezes file systems, and thaws them again whatever becomes of the agent.
//
// The agent starts itself once more as `understudy-agent --freeze-guard DEADLINE_NS LEVEL...` (freezer.h), a level for
// each file system: those of one level are frozen at the same time, and before those of the next, lower one. The guard
// is in a session of its own, ignores every signal that can be ignored, has its memory locked, holds nothing but one
// descriptor per file system and the socket to the agent, and allocates nothing once it has said that it is ready. It
// thaws when the agent says so, when the agent is gone (end of file on the socket), or at the deadline, whatever comes
// first: an agent that was killed, stopped or hangs cannot keep a file system frozen.
//
// Each file system has a thread, so that a call that does not come back (FIFREEZE waits for running writes, FITHAW
// writes a superblock) keeps no other one frozen; a FIFREEZE that returns late is undone by its thread at once.
//
// Sources: FIFREEZE and FITHAW of <linux/fs.h>, fs/super.c (freeze_super, thaw_super).
#pragma once

#include <cstdint>

namespace understudy {

// The socket (SOCK_SEQPACKET) and the first file system in the guard's table of descriptors.
inline constexpr int kGuardSocketFd = 3;
inline constexpr int kGuardFirstFd = 4;

// What the agent sends, one byte each. The deadline runs from kFreeze on.
enum class GuardOrder : char { kFreeze = 'F', kThaw = 'T' };

struct GuardReport {
  enum class Kind : std::uint32_t {
    kReady,     // may be told to freeze
    kFreezing,  // `index` is being frozen
    kFrozen,    // `index` is frozen
    kFailed,    // `index` could not be frozen: `error`
    kAllFrozen,
    kThawed,  // `index` is thawed; `error` = errno of FITHAW, EINVAL: it was not frozen any more
    kDone,    // nothing is frozen any more; `error` = ETIMEDOUT when the deadline was the cause
  };
  Kind kind = Kind::kReady;
  std::uint32_t index = 0;
  std::int32_t error = 0;
};

// The guard's main function; `arguments` are those behind --freeze-guard. Never returns to the agent's own code: its
// value is the exit status.
int run_freeze_guard(int count, char** arguments);

}  // namespace understudy
