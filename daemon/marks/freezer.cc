// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/freezer.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/marks/spawn_process.h"

namespace understudy {
namespace {

constexpr std::uint64_t kStartNs = 10'000'000'000;    // for the guard to get ready
constexpr std::uint64_t kPatienceNs = 3'000'000'000;  // how long after its deadline the guard may be silent

// FAT has no way to be frozen, and holds boot loaders, not applications' data.
bool cannot_be_frozen(const FreezeTarget& target) {
  return target.type == "vfat" || target.type == "msdos" || target.type == "exfat";
}

std::string freeze_error_text(int error) {
  switch (error) {
    case EBUSY: return "it is frozen already, by somebody else";
    case EOPNOTSUPP: return "this kind of file system cannot be frozen";
    case EPERM: return "not permitted (CAP_SYS_ADMIN is needed)";
    default: return Error::from_errno(error, "FIFREEZE").message();
  }
}

std::string object(const FreezeTarget& target) { return quote(target.mount_point) + " (" + target.type + ")"; }

}  // namespace

Freezer::~Freezer() { abandon(); }

// The guard takes the end of its socket for our end, which is always right.
void Freezer::abandon() {
  if (!socket_.valid()) return;
  socket_.reset();
  reap();
}

Status Freezer::prepare(std::vector<FreezeTarget> targets, std::uint64_t deadline_ns) {
  abandon();
  reap();
  if (!lingering_.empty()) {
    return Error(ErrorKind::kBusy, "an earlier freeze has not ended: process " + std::to_string(lingering_.front()) +
                                       " still waits for a file system to freeze or thaw");
  }
  if (targets.size() > kFrozenFileSystemsMax) {
    return Error(ErrorKind::kUnsupported, std::to_string(targets.size()) + " file systems are to be frozen, at most " +
                                              std::to_string(kFrozenFileSystemsMax) + " can be");
  }
  // These stay as they are; what can be done is to bring them to the disk now.
  for (const FreezeTarget& target : targets) {
    if (cannot_be_frozen(target) && ::syncfs(target.fd.get()) != 0) {
      return Error::from_errno(errno, "synchronise " + object(target));
    }
  }
  std::erase_if(targets, cannot_be_frozen);
  targets_ = std::move(targets);
  states_.assign(targets_.size(), State::kIdle);
  thaw_problems_.clear();
  thaw_problems_.reserve(targets_.size());
  deadline_length_ns_ = deadline_ns;
  return targets_.empty() ? ok_status() : start_guard(deadline_ns);
}

Status Freezer::start_guard(std::uint64_t deadline_ns) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return Error::from_errno(errno, "make a socket for the freeze guard");
  }
  socket_.reset(pair[0]);
  UniqueFd theirs(pair[1]);
  SpawnRequest request;
  request.program = guard_program_;
  request.arguments = {"understudy-freeze-guard", "--freeze-guard", std::to_string(deadline_ns)};
  for (const FreezeTarget& target : targets_) request.arguments.push_back(std::to_string(target.level));
  request.descriptors.push_back({theirs.get(), kGuardSocketFd});
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    request.descriptors.push_back({targets_[i].fd.get(), kGuardFirstFd + static_cast<int>(i)});
  }
  const auto started = spawn(request);
  if (!started.ok()) {
    socket_.reset();
    return Error(started.error()).with_context("start the freeze guard");
  }
  guard_ = *started;
  theirs.reset();
  const auto ready = receive(system_clock().boot_ns() + kStartNs);
  if (ready.ok() && ready->kind == GuardReport::Kind::kReady) return ok_status();
  ::kill(guard_, SIGKILL);  // it has frozen nothing
  socket_.reset();
  reap();
  return Error(ErrorKind::kInternal,
               "start the freeze guard: " + (ready.ok() ? "it did not say that it is ready" : ready.error().message()));
}

Status Freezer::freeze() {
  deadline_ns_ = system_clock().boot_ns() + deadline_length_ns_;
  if (targets_.empty()) return ok_status();
  CHECK(socket_.valid());
  if (!send(GuardOrder::kFreeze)) return thaw_without_guard(Error(ErrorKind::kClosed, "the freeze guard is gone"));
  while (true) {
    auto report = receive(deadline_ns_ + kPatienceNs);
    if (!report.ok()) return thaw_without_guard(report.error());
    note(*report);
    if (report->kind == GuardReport::Kind::kAllFrozen) return ok_status();
    if (report->kind == GuardReport::Kind::kFailed) {
      const std::string why = object(targets_[report->index]) + ": " + freeze_error_text(report->error);
      (void)thaw();
      return Error(ErrorKind::kBusy, "freeze " + why, report->error);
    }
    if (report->kind == GuardReport::Kind::kThawed || report->kind == GuardReport::Kind::kDone) {
      std::string slow;  // which one it waited for
      for (std::size_t i = 0; i < states_.size(); ++i)
        if (states_[i] == State::kFreezing) slow = ", waiting for " + object(targets_[i]);
      (void)thaw();
      return Error(ErrorKind::kTimeout,
                   "freeze: not done within the deadline of " + format_duration_ns(deadline_length_ns_) + slow);
    }
  }
}

Status Freezer::thaw() {
  if (targets_.empty()) {
    return system_clock().boot_ns() <= deadline_ns_
               ? ok_status()
               : Status(Error(ErrorKind::kTimeout, "the deadline of " + format_duration_ns(deadline_length_ns_) +
                                                       " passed before the mark had its place"));
  }
  if (!socket_.valid()) return Error(ErrorKind::kClosed, "nothing is frozen");
  (void)send(GuardOrder::kThaw);  // it may have ended at its deadline; its reports are there nevertheless
  const std::uint64_t until_ns = std::max(system_clock().boot_ns(), deadline_ns_) + kPatienceNs;
  while (true) {
    auto report = receive(until_ns);
    if (!report.ok()) return thaw_without_guard(report.error());
    note(*report);
    if (report->kind != GuardReport::Kind::kDone) continue;
    socket_.reset();
    reap();
    if (report->error == ETIMEDOUT) {
      return Error(ErrorKind::kTimeout, "the deadline of " + format_duration_ns(deadline_length_ns_) +
                                            " passed before the mark had its place");
    }
    if (!thaw_problems_.empty()) return Error(ErrorKind::kIo, thaw_problems_.front());
    return ok_status();
  }
}

bool Freezer::send(GuardOrder order) { return ::send(socket_.get(), &order, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1; }

Result<GuardReport> Freezer::receive(std::uint64_t until_ns) {
  while (true) {
    const std::uint64_t now_ns = system_clock().boot_ns();
    pollfd descriptor{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    const std::uint64_t left_ms = now_ns < until_ns ? (until_ns - now_ns) / 1'000'000 + 1 : 0;
    const int ready = ::poll(&descriptor, 1, static_cast<int>(std::min<std::uint64_t>(left_ms, 1000)));
    GuardReport report;
    if (ready > 0) {
      const ssize_t received = ::recv(socket_.get(), &report, sizeof(report), MSG_DONTWAIT);
      if (received == sizeof(report) && report.index < std::max<std::size_t>(targets_.size(), 1)) return report;
      if (received < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      return Error(ErrorKind::kClosed, "the freeze guard ended before its time");
    }
    if (now_ns >= until_ns) return Error(ErrorKind::kTimeout, "the freeze guard does not answer");
  }
}

void Freezer::note(const GuardReport& report) {
  switch (report.kind) {
    case GuardReport::Kind::kFreezing: states_[report.index] = State::kFreezing; break;
    case GuardReport::Kind::kFrozen: states_[report.index] = State::kFrozen; break;
    case GuardReport::Kind::kFailed: states_[report.index] = State::kIdle; break;
    case GuardReport::Kind::kThawed:
      states_[report.index] = State::kThawed;
      if (report.error == EINVAL) {
        thaw_problems_.push_back(object(targets_[report.index]) + " was thawed by somebody else before its time");
      } else if (report.error != 0) {
        thaw_problems_.push_back(Error::from_errno(report.error, "thaw " + object(targets_[report.index])).message());
      }
      break;
    default: break;
  }
}

// The second net. A guard that was only stopped goes on by itself; one that was killed does nothing any more, and its
// last FIFREEZE has returned, or the socket would not have been closed.
Error Freezer::thaw_without_guard(const Error& cause) {
  const bool gone = cause.kind() == ErrorKind::kClosed;
  if (!gone) ::kill(guard_, SIGCONT);
  for (std::size_t i = targets_.size(); i-- > 0;) {
    const bool may_be_frozen = states_[i] == State::kFrozen || (gone && states_[i] == State::kFreezing);
    if (may_be_frozen && ::ioctl(targets_[i].fd.get(), FITHAW, 0) == 0) states_[i] = State::kThawed;
  }
  socket_.reset();
  reap();
  return Error(ErrorKind::kInternal, cause.message());
}

void Freezer::reap() {
  if (guard_ != 0 && !socket_.valid()) lingering_.push_back(std::exchange(guard_, 0));
  // It has said its last word and ends in a moment; what is stuck in a file system does not.
  for (int tries = 0; tries < 100 && !lingering_.empty(); ++tries) {
    std::erase_if(lingering_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) != 0; });
    if (!lingering_.empty()) ::usleep(5'000);
  }
}

}  // namespace understudy
