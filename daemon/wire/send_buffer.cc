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
  const std::uint64_t passed_ns = now_ns - std::exchange(looked_ns_, now_ns);
  const std::uint64_t limited_us = info.tcpi_sndbuf_limited - std::exchange(limited_us_, info.tcpi_sndbuf_limited);
  if (passed_ns == now_ns || limited_us * 1000 * 100 < passed_ns * kLimitedPercentMin) return;
  const std::uint64_t now_bytes = bytes();
  if (now_bytes >= kLinkSendBufferBytesMax) return;
  // The kernel doubles what it is given, for its own overhead.
  const int wanted = static_cast<int>(std::min(now_bytes * 2, kLinkSendBufferBytesMax) / 2);
  if (::setsockopt(socket_, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof(wanted)) != 0) may_grow_ = false;
}

}  // namespace understudy
