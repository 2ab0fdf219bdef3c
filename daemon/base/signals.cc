// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace understudy {

Result<SignalSet> SignalSet::open(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) {
    if (sigaddset(&set, signal) != 0) return Error::from_errno(errno, "watch signal " + std::to_string(signal));
  }
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return Error::from_errno(error, "block signals");
  }
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return Error::from_errno(errno, "ignore SIGPIPE");
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return Error::from_errno(errno, "create signal descriptor");
  return SignalSet(std::move(fd));
}

std::optional<int> SignalSet::take() {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof(info)) != static_cast<ssize_t>(sizeof(info))) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace understudy
