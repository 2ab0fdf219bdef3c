// SPDX-License-Identifier: Apache-2.0
#include "daemon/node/node_connect.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <mutex>
#include <optional>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/wire/host_lookup.h"

namespace understudy {

namespace {

using Addresses = Result<std::vector<SocketAddress>>;

struct Answer {
  std::mutex mutex;
  std::optional<Addresses> addresses;
  UniqueFd ready;
};

Addresses look_up(const std::string& host, std::uint16_t port, std::uint64_t deadline_ns, int wake_fd) {
  auto answer = std::make_shared<Answer>();
  answer->ready.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!answer->ready.valid()) return Error::from_errno(errno, "make eventfd");
  const auto lookup = HostLookup::start(host, port, [answer](Addresses addresses) {
    std::lock_guard lock(answer->mutex);
    answer->addresses = std::move(addresses);
    const std::uint64_t one = 1;
    (void)!::write(answer->ready.get(), &one, sizeof(one));
  });
  if (Status status = wait_for_socket(answer->ready.get(), POLLIN, deadline_ns, wake_fd); !status.ok()) {
    return std::move(status).error().with_context("look up '" + host + "'");
  }
  std::lock_guard lock(answer->mutex);
  return std::move(*answer->addresses);
}

Result<UniqueFd> connect_one(const SocketAddress& address, std::uint64_t deadline_ns, int wake_fd) {
  const std::string what = "connect to " + address.to_string();
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno, what);
  const int one = 1;
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.bytes) == 0) return fd;
  if (errno != EINPROGRESS) return Error::from_errno(errno, what);
  if (Status status = wait_for_socket(fd.get(), POLLOUT, deadline_ns, wake_fd); !status.ok()) {
    return std::move(status).error().with_context(what);
  }
  int error = 0;
  socklen_t bytes = sizeof(error);
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
  if (error != 0) return Error::from_errno(error, what);
  return fd;
}

}  // namespace

Status wait_for_socket(int fd, short events, std::uint64_t deadline_ns, int wake_fd) {
  while (true) {
    const std::uint64_t now_ns = system_clock().boot_ns();
    if (now_ns >= deadline_ns) return Error(ErrorKind::kTimeout, "no answer in time");
    pollfd polled[2] = {{fd, events, 0}, {wake_fd, POLLIN, 0}};
    const auto wait_ms = std::min<std::uint64_t>((deadline_ns - now_ns) / 1'000'000 + 1, 60'000);
    const int ready = ::poll(polled, wake_fd >= 0 ? 2 : 1, static_cast<int>(wait_ms));
    if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "wait for a socket");
    if (ready <= 0) continue;
    if (wake_fd >= 0 && polled[1].revents != 0) return Error(ErrorKind::kClosed, "no longer wanted");
    if (polled[0].revents != 0) return ok_status();
  }
}

Result<UniqueFd> connect_node(const std::string& host, std::uint16_t port, std::uint64_t deadline_ns, int wake_fd) {
  ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses, look_up(host, port, deadline_ns, wake_fd));
  std::optional<Error> first;
  for (const SocketAddress& address : addresses) {
    auto connected = connect_one(address, deadline_ns, wake_fd);
    if (connected.ok()) return connected;
    if (!first) first = connected.error();
  }
  if (first) return *first;
  return Error(ErrorKind::kNotFound, "'" + host + "' has no address");
}

}  // namespace understudy
