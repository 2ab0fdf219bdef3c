// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/hook_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"
#include "daemon/marks/spawn_process.h"

namespace understudy {
namespace {

// How often an end without closed output (a child that went on holds it) is looked for.
constexpr int kLookMs = 20;
// For a process that was killed to be gone; one that waits in the kernel for a disk may take for ever.
constexpr std::uint64_t kBurialNs = 2'000'000'000;

Status check_program(const std::string& program) {
  struct stat status {};
  if (::stat(program.c_str(), &status) != 0) return Error::from_errno(errno, "hook " + quote(program));
  if (!S_ISREG(status.st_mode) || ::access(program.c_str(), X_OK) != 0) {
    return Error(ErrorKind::kPermission, "hook " + quote(program) + " is no executable file; chmod +x it");
  }
  if ((status.st_uid != 0 && status.st_uid != ::geteuid()) || (status.st_mode & 022) != 0) {
    return Error(ErrorKind::kPermission, "hook " + quote(program) +
                                             " can be changed by others than root, and would run as root; "
                                             "chown root and chmod go-w it");
  }
  return ok_status();
}

// One running hook.
class Run {
 public:
  Run(pid_t pid, UniqueFd output, HookResult& result) : pid_(pid), output_(std::move(output)), result_(result) {}

  // Until it ended or `until_ns` (boot clock) has come; false = it still runs.
  bool wait(std::uint64_t until_ns, const std::atomic<bool>* cancel) {
    while (true) {
      read_output();
      if (ended()) return true;
      if (system_clock().boot_ns() >= until_ns || (cancel != nullptr && cancel->load())) return false;
      pollfd descriptor{.fd = output_.valid() ? output_.get() : -1, .events = POLLIN, .revents = 0};
      (void)::poll(&descriptor, 1, kLookMs);
    }
  }

  void kill_group(std::uint64_t grace_ns) {
    for (const int signal : {SIGTERM, SIGKILL}) {
      ::kill(-pid_, signal);
      if (wait(system_clock().boot_ns() + (signal == SIGTERM ? grace_ns : kBurialNs), nullptr)) break;
    }
    ::kill(-pid_, SIGKILL);  // its children, when it ended itself on SIGTERM and they did not
  }

  std::optional<int> wait_status() const { return wait_status_; }

  std::string take_output() {
    while (!raw_.empty() && raw_.back() == '\n') raw_.pop_back();
    std::replace_if(
        raw_.begin(), raw_.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
    return printable(raw_);
  }

 private:
  bool ended() {
    int status = 0;
    if (!wait_status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
      wait_status_ = status;
      read_output();
    }
    return wait_status_.has_value();
  }

  void read_output() {
    char bytes[4096];
    while (output_.valid()) {
      const ssize_t count = ::read(output_.get(), bytes, sizeof(bytes));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return;
      if (count == 0) output_.reset();
      const std::size_t room = kHookOutputBytesMax - std::min(raw_.size(), kHookOutputBytesMax);
      raw_.append(bytes, std::min<std::size_t>(static_cast<std::size_t>(count), room));
      result_.output_cut = result_.output_cut || static_cast<std::size_t>(count) > room;
      if (static_cast<std::size_t>(count) == sizeof(bytes) && ++bursts_ % 64 == 0) return;  // a flood must not keep us
    }
  }

  const pid_t pid_;
  UniqueFd output_;
  HookResult& result_;
  std::string raw_;
  std::uint64_t bursts_ = 0;
  std::optional<int> wait_status_;
};

Status status_of(int wait_status, const std::string& program) {
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return ok_status();
  const std::string what = WIFEXITED(wait_status) ? "ended with exit status " + std::to_string(WEXITSTATUS(wait_status))
                                                  : "was killed by signal " + std::to_string(WTERMSIG(wait_status));
  return Error(ErrorKind::kRefused, "hook " + quote(program) + " " + what);
}

Status run(const HookCall& call, const std::atomic<bool>* cancel, HookResult& result) {
  RETURN_IF_ERROR(check_program(call.program));
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return Error::from_errno(errno, "make a pipe for hook " + quote(call.program));
  UniqueFd ours(pipe[0]);
  UniqueFd theirs(pipe[1]);
  if (::fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0) return Error::from_errno(errno, "set up a pipe");
  SpawnRequest request;
  request.program = call.program;
  request.arguments = {call.program};
  request.environment = call.environment;
  for (const char* setting : {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "HOME=/"})
    request.environment.emplace_back(setting);
  request.descriptors = {{theirs.get(), STDOUT_FILENO}, {theirs.get(), STDERR_FILENO}};
  const std::uint64_t until_ns = system_clock().boot_ns() + call.timeout_ns;
  ASSIGN_OR_RETURN(const pid_t pid, spawn(request));
  theirs.reset();

  Run running(pid, std::move(ours), result);
  const bool in_time = running.wait(until_ns, cancel);
  if (!in_time) running.kill_group(call.grace_ns);
  result.output = running.take_output();
  if (in_time) return status_of(*running.wait_status(), call.program);
  const std::string gone = running.wait_status() ? "" : "; process " + std::to_string(pid) + " cannot be killed";
  if (cancel != nullptr && cancel->load()) {
    return Error(ErrorKind::kClosed, "hook " + quote(call.program) + " was ended because the agent stops" + gone);
  }
  return Error(ErrorKind::kTimeout, "hook " + quote(call.program) + " did not end within " +
                                        format_duration_ns(call.timeout_ns) + " and was killed" + gone);
}

}  // namespace

HookResult run_hook(const HookCall& call, const std::atomic<bool>* cancel) {
  HookResult result;
  const std::uint64_t began_ns = system_clock().boot_ns();
  result.status = run(call, cancel, result);
  result.duration_ns = system_clock().boot_ns() - began_ns;
  return result;
}

}  // namespace understudy
