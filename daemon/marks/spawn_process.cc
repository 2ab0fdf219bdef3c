// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/spawn_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include <cerrno>
#include <memory>

#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"

namespace understudy {
namespace {

// Above every number that a child is given, so that no dup2() of the list overwrites what a later one needs.
constexpr int kAsideFd = 200;

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

struct FileActions {
  FileActions() { ::posix_spawn_file_actions_init(&value); }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&value); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  posix_spawn_file_actions_t value;
};

struct Attributes {
  Attributes() { ::posix_spawnattr_init(&value); }
  ~Attributes() { ::posix_spawnattr_destroy(&value); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  posix_spawnattr_t value;
};

void set_session_and_signals(Attributes& attributes) {
  sigset_t all, none;
  ::sigfillset(&all);
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigdefault(&attributes.value, &all);
  ::posix_spawnattr_setsigmask(&attributes.value, &none);
  ::posix_spawnattr_setflags(&attributes.value, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

}  // namespace

Result<pid_t> spawn(const SpawnRequest& request) {
  FileActions actions;
  Attributes attributes;
  set_session_and_signals(attributes);
  for (int fd = 0; fd <= 2; ++fd) {
    ::posix_spawn_file_actions_addopen(&actions.value, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
  }
  std::vector<UniqueFd> aside;
  for (const auto& [ours, theirs] : request.descriptors) {
    aside.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, kAsideFd));
    if (!aside.back().valid()) return Error::from_errno(errno, "duplicate a descriptor for " + quote(request.program));
    ::posix_spawn_file_actions_adddup2(&actions.value, aside.back().get(), theirs);
  }
  ::posix_spawn_file_actions_addchdir_np(&actions.value, "/");
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, request.program.c_str(), &actions.value, &attributes.value,
                                  pointers(request.arguments).data(), pointers(request.environment).data());
  if (error != 0) return Error::from_errno(error, "run " + quote(request.program));
  return pid;
}

}  // namespace understudy
