// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  std::string to_string() const;  // "10.0.0.5:7600", "[::1]:7600"
};

// Looks a host up on a thread of its own, because getaddrinfo(3) may block for long and cannot be cancelled. The object
// may be destroyed meanwhile: the callback is then never called, and nobody waits for the thread. An address in numbers
// needs no thread, and its callback comes before start() returns.
class HostLookup {
 public:
  using Callback = std::function<void(Result<std::vector<SocketAddress>>)>;

  // The callback is called once, from another thread or from start() itself.
  static std::unique_ptr<HostLookup> start(const std::string& host, std::uint16_t port, Callback callback);
  ~HostLookup();

 private:
  struct Shared;
  explicit HostLookup(std::shared_ptr<Shared> shared);
  std::shared_ptr<Shared> shared_;
};

}  // namespace understudy
