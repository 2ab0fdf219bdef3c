// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/programs.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "daemon/base/atomic_file.h"
#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"

extern char** environ;

namespace understudy {
namespace {

constexpr std::size_t kLogBytesMax = 1 << 20;
constexpr std::size_t kCommandBytesMax = 1 << 20;
constexpr int kTermWaitMs = 5000;
constexpr int kKillWaitMs = 5000;
constexpr int kRoundsMax = 20;

class SpawnActions {
 public:
  SpawnActions() { ::posix_spawn_file_actions_init(&actions_); }
  ~SpawnActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  void open(int fd, const char* path, int flags) {
    ::posix_spawn_file_actions_addopen(&actions_, fd, path, flags, 0600);
  }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

// `log_path` empty: the child shares our files.
Result<pid_t> spawn(const std::vector<std::string>& argv, const std::string& log_path, bool own_session) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  SpawnActions actions;
  if (!log_path.empty()) {
    actions.open(STDIN_FILENO, "/dev/null", O_RDONLY);
    actions.open(STDOUT_FILENO, "/dev/null", O_WRONLY);
    actions.open(STDERR_FILENO, log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC);
  }
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  if (own_session) ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t child = 0;
  const int failed = ::posix_spawnp(&child, arguments[0], log_path.empty() ? nullptr : actions.get(), &attributes,
                                    arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (failed == ENOENT)
    return Error(ErrorKind::kUnsupported, "'" + argv[0] + "' is not installed; tools/setup lists the packages");
  if (failed != 0) return Error::from_errno(failed, "start '" + argv[0] + "'");
  return child;
}

Result<int> wait_for(pid_t child, const std::string& name) {
  int state = 0;
  while (::waitpid(child, &state, 0) < 0)
    if (errno != EINTR) return Error::from_errno(errno, "wait for '" + name + "'");
  return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

bool is_in(std::string_view argument, const std::string& directory) {
  // "socket=/run/.../nbd.sock", "nbd+unix:///0?socket=...": the path may stand behind something.
  for (auto at = argument.find(directory); at != std::string_view::npos; at = argument.find(directory, at + 1)) {
    const std::string_view rest = argument.substr(at + directory.size());
    if (rest.empty() || rest.front() == '/') return true;
  }
  return false;
}

bool has_files_in(pid_t process, const std::string& directory) {
  const Result<std::string> command = read_file("/proc/" + std::to_string(process) + "/cmdline", kCommandBytesMax);
  if (!command.ok()) return false;
  std::string_view rest = *command;
  bool first = true;
  while (!rest.empty()) {
    const std::string_view argument = rest.substr(0, rest.find('\0'));
    if (!first && is_in(argument, directory)) return true;
    first = false;
    rest.remove_prefix(std::min(argument.size() + 1, rest.size()));
  }
  return false;
}

// Only what we start ourselves: an editor or a shell with the path on its command line is none of ours.
bool is_ours(pid_t process) {
  const Result<std::string> name = read_file("/proc/" + std::to_string(process) + "/comm", 256);
  return name.ok() && (name->starts_with("nbdkit") || name->starts_with("nbdfuse"));
}

bool ended_within(int process_fd, int timeout_ms) {
  pollfd wait{process_fd, POLLIN, 0};
  return ::poll(&wait, 1, timeout_ms) > 0;
}

Status end_process(pid_t process, const std::string& directory) {
  const UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
  if (!fd.valid()) return errno == ESRCH ? ok_status() : Error::from_errno(errno, "pidfd_open");
  if (!has_files_in(process, directory)) return ok_status();  // another one by now
  for (const auto& [number, wait_ms] : {std::pair(SIGTERM, kTermWaitMs), std::pair(SIGKILL, kKillWaitMs)}) {
    if (::syscall(SYS_pidfd_send_signal, fd.get(), number, nullptr, 0) != 0)
      return errno == ESRCH ? ok_status() : Error::from_errno(errno, "end process " + std::to_string(process));
    if (ended_within(fd.get(), wait_ms)) return ok_status();
  }
  return Error(ErrorKind::kTimeout, "process " + std::to_string(process) + " does not end");
}

}  // namespace

std::string last_line_said(const std::string& log_path) {
  const Result<std::string> text = read_file(log_path, kLogBytesMax);
  if (!text.ok()) return "";
  std::string_view rest = *text;
  while (rest.ends_with('\n')) rest.remove_suffix(1);
  std::string_view line = rest.substr(rest.rfind('\n') + 1);  // npos + 1 = 0
  if (const auto at = line.find("error: "); at != std::string_view::npos) line.remove_prefix(at + 7);
  return printable(line);
}

Status run_program(const std::vector<std::string>& argv, const std::string& log_path) {
  ASSIGN_OR_RETURN(const pid_t child, spawn(argv, log_path, false));
  ASSIGN_OR_RETURN(const int status, wait_for(child, argv[0]));
  if (status == 0) return ok_status();
  const std::string said = last_line_said(log_path);
  return Error(ErrorKind::kRefused,
               said.empty() ? "'" + argv[0] + "' ended with status " + std::to_string(status) : said);
}

Status run_program_here(const std::vector<std::string>& argv) {
  ASSIGN_OR_RETURN(const pid_t child, spawn(argv, "", false));
  ASSIGN_OR_RETURN(const int status, wait_for(child, argv[0]));
  if (status == 0) return ok_status();
  return Error(ErrorKind::kRefused, "'" + argv[0] + "' ended with status " + std::to_string(status));
}

Result<pid_t> start_program(const std::vector<std::string>& argv, const std::string& log_path) {
  return spawn(argv, log_path, true);
}

bool has_ended(pid_t child) {
  int state = 0;
  return ::waitpid(child, &state, WNOHANG) != 0;
}

std::vector<pid_t> processes_with_files_in(const std::string& directory) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const auto number = parse_unsigned(entry.path().filename().string());
    if (!number) continue;
    const auto process = static_cast<pid_t>(*number);
    if (process != ::getpid() && is_ours(process) && has_files_in(process, directory)) found.push_back(process);
  }
  return found;
}

Status end_processes_with_files_in(const std::string& directory) {
  // Again until none is found: nbdkit may just be going to the background, which makes another process of it.
  for (int round = 0; round < kRoundsMax; ++round) {
    std::vector<pid_t> processes = processes_with_files_in(directory);
    if (processes.empty()) return ok_status();
    // Those that read from others first: nbdfuse was started after nbdkit.
    std::sort(processes.rbegin(), processes.rend());
    for (const pid_t process : processes) RETURN_IF_ERROR(end_process(process, directory));
  }
  return Error(ErrorKind::kTimeout, "new processes keep using '" + directory + "'");
}

}  // namespace understudy
