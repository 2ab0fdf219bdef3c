// SPDX-License-Identifier: Apache-2.0
// Running an administrator's program and getting over whatever it does: hang, fail, flood us with bytes of any kind.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

struct HookCall {
  std::string program;                   // absolute path
  std::vector<std::string> environment;  // "NAME=value", beside PATH, LANG and HOME
  std::uint64_t timeout_ns = 0;
  std::uint64_t grace_ns = 2'000'000'000;  // between SIGTERM and SIGKILL
};

struct HookResult {
  Status status;       // an error says how it ended: exit status, signal, timeout, not started
  std::string output;  // the first kHookOutputBytesMax of stdout and stderr, as one printable line
  bool output_cut = false;
  std::uint64_t duration_ns = 0;
};

// Runs it in a session of its own, in "/", without input, and waits. On a timeout, and when `cancel` becomes true, its
// whole process group gets SIGTERM and later SIGKILL. What it leaves running in another session (a database session
// that is to live until the post hook) is not waited for. Refused without being run: a file that is not executable, or
// that somebody besides root and our own user may change. Thread-safe.
HookResult run_hook(const HookCall& call, const std::atomic<bool>* cancel = nullptr);

}  // namespace understudy
