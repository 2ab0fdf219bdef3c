// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "daemon/base/result.h"

namespace understudy {

// A path as a Unix socket's address; the kernel's structure holds 107 bytes of it.
class UnixAddress {
 public:
  static Result<UnixAddress> make(const std::string& path) {
    UnixAddress address;
    if (path.empty() || path.size() >= sizeof(address.address_.sun_path)) {
      return Error(ErrorKind::kInvalidArgument, "socket path '" + path + "' has " + std::to_string(path.size()) +
                                                    " bytes; allowed: 1 to " +
                                                    std::to_string(sizeof(address.address_.sun_path) - 1));
    }
    address.address_.sun_family = AF_UNIX;
    std::memcpy(address.address_.sun_path, path.data(), path.size());
    return address;
  }

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t size() const { return sizeof(address_); }

 private:
  sockaddr_un address_{};
};

}  // namespace understudy
