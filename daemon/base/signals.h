// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <optional>
#include <utility>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

// Signals as a readable file descriptor instead of handlers. open() blocks them in the calling thread, and threads
// started later inherit that: call it before the first thread. SIGPIPE is set to ignored, too.
// Source: signalfd(2).
class SignalSet {
 public:
  static Result<SignalSet> open(std::initializer_list<int> signals);

  // For poll(2): readable while a signal waits.
  int fd() const { return fd_.get(); }
  // The next waiting signal's number; nullopt = none. Never blocks.
  std::optional<int> take();

 private:
  explicit SignalSet(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace understudy
