// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "daemon/base/text.h"

namespace understudy {

namespace {

// A line break inside a value would begin another assignment.
std::string one_line(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return line;
}

std::uint64_t watchdog_interval_from_environment() {
  const char* microseconds = std::getenv("WATCHDOG_USEC");
  if (microseconds == nullptr) return 0;
  const char* pid = std::getenv("WATCHDOG_PID");
  if (pid != nullptr && parse_unsigned(pid) != static_cast<std::uint64_t>(::getpid())) return 0;
  return parse_unsigned(microseconds).value_or(0) * 1000;
}

}  // namespace

Result<Notifier> Notifier::from_environment() {
  Notifier notifier;
  notifier.watchdog_interval_ns_ = watchdog_interval_from_environment();
  const char* name = std::getenv("NOTIFY_SOCKET");
  if (name == nullptr) return notifier;
  const std::string_view path = name;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() < 2 || path.size() >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@')) {
    return Error(ErrorKind::kInvalidArgument,
                 "connect to service manager: NOTIFY_SOCKET is '" + printable(path) + "', neither a path nor '@name'");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // abstract: no terminating zero, the length says where it ends
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '/' ? 1 : 0));
  notifier.fd_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!notifier.fd_.valid()) return Error::from_errno(errno, "create notification socket");
  if (::connect(notifier.fd_.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    return Error::from_errno(errno, "connect to service manager at '" + printable(path) + "'");
  }
  return notifier;
}

Status Notifier::send(const std::string& message) const {
  if (!fd_.valid()) return ok_status();
  if (::send(fd_.get(), message.data(), message.size(), MSG_NOSIGNAL) < 0) {
    return Error::from_errno(errno, "notify service manager");
  }
  return ok_status();
}

Status Notifier::ready(std::string_view status_line) const { return send("READY=1\nSTATUS=" + one_line(status_line)); }

Status Notifier::status(std::string_view status_line) const { return send("STATUS=" + one_line(status_line)); }

Status Notifier::reloading() const {
  timespec now{};
  CHECK_EQ(::clock_gettime(CLOCK_MONOTONIC, &now), 0);
  const auto microseconds =
      static_cast<std::uint64_t>(now.tv_sec) * 1'000'000u + static_cast<std::uint64_t>(now.tv_nsec) / 1000u;
  return send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(microseconds));
}

Status Notifier::stopping(std::string_view status_line) const {
  return send("STOPPING=1\nSTATUS=" + one_line(status_line));
}

Status Notifier::failed(int error_number, std::string_view status_line) const {
  return send("ERRNO=" + std::to_string(error_number) + "\nSTATUS=" + one_line(status_line));
}

Status Notifier::watchdog() const { return send("WATCHDOG=1"); }

}  // namespace understudy
