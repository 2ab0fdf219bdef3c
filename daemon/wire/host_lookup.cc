// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/host_lookup.h"

#include <netdb.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>

namespace understudy {

struct HostLookup::Shared {
  std::mutex mutex;
  Callback callback;  // null = nobody wants to know any more
};

namespace {

Result<std::vector<SocketAddress>> look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    const std::string text = error == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(error);
    return Error(ErrorKind::kNotFound, "look up receiver address '" + host + "': " + text);
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    SocketAddress address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.bytes = entry->ai_addrlen;
    addresses.push_back(address);
  }
  ::freeaddrinfo(found);
  return addresses;
}

}  // namespace

std::string SocketAddress::to_string() const {
  char host[NI_MAXHOST];
  char service[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&storage), bytes, host, sizeof(host), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown address";
  }
  const bool is_v6 = storage.ss_family == AF_INET6;
  return (is_v6 ? "[" + std::string(host) + "]" : std::string(host)) + ":" + service;
}

HostLookup::HostLookup(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

HostLookup::~HostLookup() {
  std::lock_guard lock(shared_->mutex);
  shared_->callback = nullptr;
}

std::unique_ptr<HostLookup> HostLookup::start(const std::string& host, std::uint16_t port, Callback callback) {
  auto shared = std::make_shared<Shared>();
  std::unique_ptr<HostLookup> lookup(new HostLookup(shared));
  if (auto numeric = look_up(host, port, AI_NUMERICHOST); numeric.ok()) {
    callback(std::move(numeric));
    return lookup;
  }
  shared->callback = std::move(callback);
  std::thread([shared, host, port] {
    auto result = look_up(host, port, AI_ADDRCONFIG);
    std::lock_guard lock(shared->mutex);
    if (shared->callback) shared->callback(std::move(result));
  }).detach();
  return lookup;
}

}  // namespace understudy
