// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/freeze_guard.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "daemon/base/clock.h"
#include "daemon/base/exit_code.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::size_t kStackBytes = 64u << 10;
// How long one file system may take to thaw before the next one is thawed beside it.
constexpr std::uint64_t kThawPatienceNs = 1'000'000'000;

enum class Phase : std::uint8_t { kIdle, kFreezing, kFrozen, kFailed, kThawing, kThawed };

// One file system and its thread. Everything is guarded by `mutex`; the thread sleeps on `wanted`.
struct Keeper {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wanted = PTHREAD_COND_INITIALIZER;
  std::uint32_t index = 0;
  std::uint64_t level = 0;  // written before the threads begin
  Phase phase = Phase::kIdle;
  bool freeze_wanted = false;
  bool thaw_wanted = false;
};

// All memory of the guard, from its beginning.
std::array<Keeper, kFrozenFileSystemsMax> g_keepers;
std::uint32_t g_count = 0;
int g_changed_fd = -1;  // eventfd: a keeper has a new phase

void report(GuardReport::Kind kind, std::uint32_t index = 0, int error = 0) {
  const GuardReport message{kind, index, error};
  // An agent that is stopped does not read; what it misses does not matter to the file systems.
  (void)!::send(kGuardSocketFd, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
}

int call(std::uint32_t index, unsigned long request) {
  return ::ioctl(kGuardFirstFd + static_cast<int>(index), request, 0) == 0 ? 0 : errno;
}

void set_phase(Keeper& keeper, Phase phase) {
  keeper.phase = phase;
  (void)::eventfd_write(g_changed_fd, 1);
}

void* keep(void* argument) {
  Keeper& keeper = *static_cast<Keeper*>(argument);
  pthread_mutex_lock(&keeper.mutex);
  while (!keeper.freeze_wanted && !keeper.thaw_wanted) pthread_cond_wait(&keeper.wanted, &keeper.mutex);
  int error = EINVAL;
  if (!keeper.thaw_wanted) {
    set_phase(keeper, Phase::kFreezing);
    report(GuardReport::Kind::kFreezing, keeper.index);
    pthread_mutex_unlock(&keeper.mutex);
    error = call(keeper.index, FIFREEZE);
    pthread_mutex_lock(&keeper.mutex);
    set_phase(keeper, error == 0 ? Phase::kFrozen : Phase::kFailed);
    report(error == 0 ? GuardReport::Kind::kFrozen : GuardReport::Kind::kFailed, keeper.index, error);
  }
  while (!keeper.thaw_wanted) pthread_cond_wait(&keeper.wanted, &keeper.mutex);
  if (error == 0) {
    set_phase(keeper, Phase::kThawing);
    pthread_mutex_unlock(&keeper.mutex);
    report(GuardReport::Kind::kThawed, keeper.index, call(keeper.index, FITHAW));
    pthread_mutex_lock(&keeper.mutex);
  }
  set_phase(keeper, Phase::kThawed);
  pthread_mutex_unlock(&keeper.mutex);
  return nullptr;
}

Phase phase_of(Keeper& keeper) {
  pthread_mutex_lock(&keeper.mutex);
  const Phase phase = keeper.phase;
  pthread_mutex_unlock(&keeper.mutex);
  return phase;
}

void want(Keeper& keeper, bool Keeper::*what) {
  pthread_mutex_lock(&keeper.mutex);
  keeper.*what = true;
  pthread_cond_signal(&keeper.wanted);
  pthread_mutex_unlock(&keeper.mutex);
}

// Waits for a keeper or, when `socket` is set, for the agent, until `until_ns` (boot clock).
void wait_for_change(bool socket, std::uint64_t until_ns) {
  const std::uint64_t now_ns = system_clock().boot_ns();
  // poll() does not count the time the machine sleeps: looked at once a second.
  const std::uint64_t left_ns = std::min<std::uint64_t>(until_ns > now_ns ? until_ns - now_ns : 0, 1'000'000'000);
  const timespec timeout{.tv_sec = static_cast<time_t>(left_ns / 1'000'000'000),
                         .tv_nsec = static_cast<long>(left_ns % 1'000'000'000)};
  pollfd descriptors[2] = {{.fd = g_changed_fd, .events = POLLIN, .revents = 0},
                           {.fd = kGuardSocketFd, .events = POLLIN, .revents = 0}};
  (void)::ppoll(descriptors, socket ? 2 : 1, &timeout, nullptr);
  eventfd_t value = 0;
  (void)::eventfd_read(g_changed_fd, &value);
}

// The order that waits in the socket; nullopt = none. The end of the agent is an order to thaw.
std::optional<GuardOrder> next_order() {
  char order = 0;
  const ssize_t received = ::recv(kGuardSocketFd, &order, 1, MSG_DONTWAIT);
  if (received == 1 && order == static_cast<char>(GuardOrder::kFreeze)) return GuardOrder::kFreeze;
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  return GuardOrder::kThaw;
}

// Whether all from `first` to before `end` are in `phase`.
bool all_are(Phase phase, std::uint32_t first, std::uint32_t end) {
  for (std::uint32_t i = first; i < end; ++i) {
    if (phase_of(g_keepers[i]) != phase) return false;
  }
  return true;
}

// One level after the other, in the order given: what lies above before what lies below. Much of a freeze is waiting
// for the kernel's grace periods, so those of one level wait together. True = the deadline came first.
bool freeze_until_told(std::uint64_t deadline_ns) {
  std::uint32_t begun = 0;
  bool all_told = false;
  while (system_clock().boot_ns() < deadline_ns) {
    if (next_order()) return false;
    const bool last_is_frozen = all_are(Phase::kFrozen, 0, begun);
    if (last_is_frozen && begun < g_count) {
      const std::uint64_t level = g_keepers[begun].level;
      while (begun < g_count && g_keepers[begun].level == level) want(g_keepers[begun++], &Keeper::freeze_wanted);
    } else if (last_is_frozen && !all_told) {
      all_told = true;
      report(GuardReport::Kind::kAllFrozen);
    } else {
      wait_for_change(true, deadline_ns);
    }
  }
  return true;
}

// The other way round: the thaw of an upper file system writes to the lower one.
void thaw_all() {
  for (std::uint32_t end = g_count; end > 0;) {
    std::uint32_t first = end;
    while (first > 0 && g_keepers[first - 1].level == g_keepers[end - 1].level) {
      want(g_keepers[--first], &Keeper::thaw_wanted);
    }
    const std::uint64_t patience_end_ns = system_clock().boot_ns() + kThawPatienceNs;
    while (!all_are(Phase::kThawed, first, end) && system_clock().boot_ns() < patience_end_ns) {
      wait_for_change(false, patience_end_ns);
    }
    end = first;
  }
  while (!all_are(Phase::kThawed, 0, g_count)) wait_for_change(false, system_clock().boot_ns() + kThawPatienceNs);
}

void close_the_rest(int first) {
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, static_cast<unsigned>(first), ~0u, 0u) == 0) return;
#endif
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = 1024;
  for (int fd = first; fd < static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1u << 20)); ++fd) ::close(fd);
}

bool prepare() {
  ::prctl(PR_SET_NAME, "freeze-guard");
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  if (::chdir("/") != 0) return false;
  const int null = ::open("/dev/null", O_RDWR);  // its own output must not end in a file that is frozen
  for (int fd = 0; fd < kGuardSocketFd; ++fd) {
    if (null < 0 || ::dup2(null, fd) < 0) return false;
  }
  close_the_rest(kGuardFirstFd + static_cast<int>(g_count));
  g_changed_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (g_changed_fd < 0) return false;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  (void)pthread_attr_setstacksize(&attributes, kStackBytes);
  (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  for (std::uint32_t i = 0; i < g_count; ++i) {
    pthread_t thread{};
    g_keepers[i].index = i;
    if (pthread_create(&thread, &attributes, keep, &g_keepers[i]) != 0) return false;
  }
  // Everything that is used from here on is in memory. Without the right to lock it, it only is so most likely.
  (void)::mlockall(MCL_CURRENT | MCL_FUTURE);
  return true;
}

}  // namespace

int run_freeze_guard(int count, char** arguments) {
  // Nobody starts it by hand.
  if (count < 2 || count - 1 > static_cast<int>(kFrozenFileSystemsMax)) return kExitBadArguments;
  const auto deadline_ns = parse_unsigned(arguments[0]);
  g_count = static_cast<std::uint32_t>(count - 1);
  for (std::uint32_t i = 0; i < g_count; ++i) {
    const auto level = parse_unsigned(arguments[1 + i]);
    if (!deadline_ns || !level) return kExitBadArguments;
    g_keepers[i].level = *level;
  }
  if (!prepare()) return kExitFailure;
  report(GuardReport::Kind::kReady);
  std::optional<GuardOrder> order;
  while (!(order = next_order())) wait_for_change(true, system_clock().boot_ns() + 1'000'000'000);
  if (*order == GuardOrder::kThaw) return kExitOk;
  const bool expired = freeze_until_told(system_clock().boot_ns() + *deadline_ns);
  thaw_all();
  report(GuardReport::Kind::kDone, 0, expired ? ETIMEDOUT : 0);
  return kExitOk;
}

}  // namespace understudy
