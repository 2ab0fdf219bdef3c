// SPDX-License-Identifier: Apache-2.0
#include "daemon/control/control_client.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"
#include "daemon/control/unix_address.h"

namespace understudy {

namespace {

ErrorKind kind_from_name(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(ErrorKind::kInternal); ++i) {
    if (error_kind_name(static_cast<ErrorKind>(i)) == name) return static_cast<ErrorKind>(i);
  }
  return ErrorKind::kInternal;
}

// One exchange on a non-blocking socket, all of it before the deadline.
class Exchange {
 public:
  Exchange(const std::string& path, std::uint64_t timeout_ns)
      : path_(path), deadline_ns_(system_clock().boot_ns() + timeout_ns) {}

  Status connect() {
    ASSIGN_OR_RETURN(const UnixAddress address, UnixAddress::make(path_));
    fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd_.valid()) return Error::from_errno(errno, "create socket");
    while (::connect(fd_.get(), address.get(), address.size()) != 0) {
      if (errno == ENOENT || errno == ECONNREFUSED) {
        return Error(ErrorKind::kNotFound, "nothing listens at '" + path_ + "'; the daemon is not running", errno);
      }
      if (errno != EAGAIN) return Error::from_errno(errno, "connect to '" + path_ + "'");
      // The listen queue is full, and a Unix socket cannot be waited for: ask again.
      if (remaining_ms() == 0) return timed_out();
      ::poll(nullptr, 0, 20);
    }
    return ok_status();
  }

  Status send(std::string_view line) {
    while (!line.empty()) {
      const ssize_t sent = ::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        line.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno == EPIPE) {
        return ok_status();  // it answers before it has read all: the answer says why
      } else if (errno != EAGAIN && errno != EINTR) {
        return Error::from_errno(errno, "send request to '" + path_ + "'");
      } else {
        RETURN_IF_ERROR(wait(POLLOUT));
      }
    }
    return ok_status();
  }

  Result<std::string> receive_line() {
    std::string line;
    char buffer[16384];
    while (true) {
      const ssize_t count = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
      if (count == 0) return Error(ErrorKind::kClosed, "'" + path_ + "' closed the connection without an answer");
      if (count < 0) {
        if (errno != EAGAIN && errno != EINTR) return Error::from_errno(errno, "receive answer from '" + path_ + "'");
        RETURN_IF_ERROR(wait(POLLIN));
        continue;
      }
      const std::string_view part(buffer, static_cast<std::size_t>(count));
      const auto end = part.find('\n');
      line += part.substr(0, end);
      if (end != std::string_view::npos) return line;
      if (line.size() > kControlResponseBytesMax) {
        return Error(ErrorKind::kCorrupt, "answer from '" + path_ + "' is longer than the allowed " +
                                              format_bytes(kControlResponseBytesMax));
      }
    }
  }

 private:
  int remaining_ms() const {
    const std::uint64_t now = system_clock().boot_ns();
    return now >= deadline_ns_
               ? 0
               : static_cast<int>(std::min<std::uint64_t>((deadline_ns_ - now) / 1'000'000 + 1, 60'000));
  }
  Error timed_out() const { return Error(ErrorKind::kTimeout, "no answer from '" + path_ + "' in time"); }
  Status wait(short events) {
    if (remaining_ms() == 0) return timed_out();
    pollfd polled{fd_.get(), events, 0};
    if (::poll(&polled, 1, remaining_ms()) < 0 && errno != EINTR) {
      return Error::from_errno(errno, "wait for '" + path_ + "'");
    }
    return ok_status();
  }

  const std::string& path_;
  std::uint64_t deadline_ns_;
  UniqueFd fd_;
};

}  // namespace

Result<Json> control_call(const std::string& socket_path, const Json& request, std::uint64_t timeout_ns) {
  Exchange exchange(socket_path, timeout_ns);
  RETURN_IF_ERROR(exchange.connect());
  RETURN_IF_ERROR(exchange.send(request.dump() + "\n"));
  ASSIGN_OR_RETURN(const std::string line, exchange.receive_line());
  auto response = Json::parse(line);
  if (!response.ok()) return std::move(response).error().with_context("answer from '" + socket_path + "'");
  if (response->at("ok").as_bool(false)) return Json(response->at("result"));
  const Json& error = response->at("error");
  return Error(kind_from_name(error.at("kind").as_string("")), error.at("message").as_string("unknown error"));
}

}  // namespace understudy
