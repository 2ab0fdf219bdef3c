// SPDX-License-Identifier: Apache-2.0
// Grows a TCP socket's send buffer while that is what limits the connection. The kernel grows it only up to
// net.ipv4.tcp_wmem[2] (4 MiB by default), which is less than a long link holds: with a round trip of 100 ms a
// connection then carries about 27 MB/s, whatever the link could carry. The kernel counts the time in which everything
// in the buffer was sent and the writer waited for room (tcp_info, tcpi_sndbuf_limited); while that is a good part of
// the time, the buffer is doubled, up to kLinkSendBufferBytesMax. A link that is slow itself, or short, keeps its small
// one.
//
// Beyond tcp_wmem[2] this takes CAP_NET_ADMIN (SO_SNDBUFFORCE, socket(7)); without it the kernel's limit stays.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <optional>

namespace understudy {

// How large a buffer should be. Pure.
class SendBufferRule {
 public:
  // `limited_us`: how long the buffer has limited the connection since it began; `bytes`: its size now. The new size,
  // or nullopt = as it is. The first look only remembers.
  std::optional<std::uint64_t> look(std::uint64_t now_ns, std::uint64_t limited_us, std::uint64_t bytes);

 private:
  std::optional<std::uint64_t> looked_ns_;
  std::uint64_t limited_us_ = 0;
};

class SendBuffer {
 public:
  // `socket` must outlive it.
  explicit SendBuffer(int socket) : socket_(socket) {}

  // Looks whether the buffer should be larger. To be called a few times a second.
  void look(std::uint64_t now_ns);
  // As the kernel counts it, its own overhead included; 0 = not known.
  std::uint64_t bytes() const;

 private:
  int socket_;
  SendBufferRule rule_;
  bool may_grow_ = true;
};

}  // namespace understudy
