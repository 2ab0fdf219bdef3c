// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/send_buffer.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "daemon/base/limits.h"

namespace understudy {

namespace {

// Less of the time than this is not worth more memory.
constexpr std::uint64_t kLimitedPercentMin = 10;

}  // namespace

std::optional<std::uint64_t> SendBufferRule::look(std::uint64_t now_ns, std::uint64_t limited_us,
                                                  std::uint64_t bytes) {
  const std::uint64_t grown_us = limited_us - std::exchange(limited_us_, limited_us);
  const std::optional<std::uint64_t> before_ns = std::exchange(looked_ns_, now_ns);
  if (!before_ns || grown_us * 1000 * 100 < (now_ns - *before_ns) * kLimitedPercentMin) return std::nullopt;
  if (bytes == 0 || grown_us == 0 || bytes >= kLinkSendBufferBytesMax) return std::nullopt;
  return std::min(bytes * 2, kLinkSendBufferBytesMax);
}

std::uint64_t SendBuffer::bytes() const {
  int bytes = 0;
  socklen_t length = sizeof(bytes);
  if (::getsockopt(socket_, SOL_SOCKET, SO_SNDBUF, &bytes, &length) != 0 || bytes < 0) return 0;
  return static_cast<std::uint64_t>(bytes);
}

void SendBuffer::look(std::uint64_t now_ns) {
  if (!may_grow_) return;
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (::getsockopt(socket_, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
      length < offsetof(tcp_info, tcpi_sndbuf_limited) + sizeof(info.tcpi_sndbuf_limited)) {
    may_grow_ = false;  // before Linux 4.10
    return;
  }
  const std::optional<std::uint64_t> larger = rule_.look(now_ns, info.tcpi_sndbuf_limited, bytes());
  if (!larger) return;
  // The kernel doubles what it is given, for its own overhead.
  const int wanted = static_cast<int>(*larger / 2);
  if (::setsockopt(socket_, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof(wanted)) != 0) may_grow_ = false;
}

}  // namespace understudy
