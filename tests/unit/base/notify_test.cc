// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/notify.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "daemon/base/text.h"
#include "tests/unit/temporary_directory.h"

using namespace understudy;

namespace {

// A service manager: listens at `name` ("@..." = abstract) and hands out one message at a time.
class Manager {
 public:
  explicit Manager(const std::string& name) : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    const bool abstract = name[0] == '@';
    if (abstract) address.sun_path[0] = '\0';
    const auto length = offsetof(sockaddr_un, sun_path) + name.size() + (abstract ? 0 : 1);
    REQUIRE(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(length)) == 0);
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  ~Manager() {
    ::unsetenv("NOTIFY_SOCKET");
    ::unsetenv("WATCHDOG_USEC");
    ::unsetenv("WATCHDOG_PID");
  }
  std::string take() {
    char buffer[1024];
    const ssize_t size = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
    return size < 0 ? "(nothing)" : std::string(buffer, static_cast<std::size_t>(size));
  }

 private:
  UniqueFd fd_;
};

}  // namespace

TEST_CASE("each state is one datagram of assignments") {
  const TemporaryDirectory directory;
  Manager manager(directory.file("notify"));
  const auto notifier = Notifier::from_environment();
  REQUIRE(notifier.ok());
  REQUIRE(notifier->ready("3 disks protected\nREADY=0").ok());
  CHECK(manager.take() == "READY=1\nSTATUS=3 disks protected READY=0");
  REQUIRE(notifier->status("behind by 120 ms").ok());
  CHECK(manager.take() == "STATUS=behind by 120 ms");
  REQUIRE(notifier->stopping("draining").ok());
  CHECK(manager.take() == "STOPPING=1\nSTATUS=draining");
  REQUIRE(notifier->failed(28, "store is full").ok());
  CHECK(manager.take() == "ERRNO=28\nSTATUS=store is full");
  REQUIRE(notifier->watchdog().ok());
  CHECK(manager.take() == "WATCHDOG=1");
}

TEST_CASE("reloading carries the monotonic time in microseconds") {
  const TemporaryDirectory directory;
  Manager manager(directory.file("notify"));
  const auto notifier = Notifier::from_environment();
  REQUIRE(notifier->reloading().ok());
  const std::string message = manager.take();
  const std::string prefix = "RELOADING=1\nMONOTONIC_USEC=";
  REQUIRE(message.substr(0, prefix.size()) == prefix);
  CHECK(parse_unsigned(message.substr(prefix.size())).value_or(0) > 0);
}

TEST_CASE("abstract sockets are reached") {
  Manager manager("@understudy-notify-test-" + std::to_string(::getpid()));
  const auto notifier = Notifier::from_environment();
  REQUIRE(notifier.ok());
  REQUIRE(notifier->ready("up").ok());
  CHECK(manager.take() == "READY=1\nSTATUS=up");
}

TEST_CASE("without a service manager nothing happens") {
  ::unsetenv("NOTIFY_SOCKET");
  const auto notifier = Notifier::from_environment();
  REQUIRE(notifier.ok());
  CHECK_FALSE(notifier->connected());
  CHECK(notifier->ready("up").ok());
  CHECK(notifier->watchdog_interval_ns() == 0);
}

TEST_CASE("a watchdog is ours only when its pid is") {
  const TemporaryDirectory directory;
  Manager manager(directory.file("notify"));
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  CHECK(Notifier::from_environment()->watchdog_interval_ns() == 30'000'000'000u);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  CHECK(Notifier::from_environment()->watchdog_interval_ns() == 30'000'000'000u);
  ::setenv("WATCHDOG_PID", "1", 1);
  CHECK(Notifier::from_environment()->watchdog_interval_ns() == 0);
}

TEST_CASE("a socket that is not there is an error that names it") {
  ::setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
  const auto notifier = Notifier::from_environment();
  ::unsetenv("NOTIFY_SOCKET");
  REQUIRE_FALSE(notifier.ok());
  CHECK(notifier.error().message().find("'/nonexistent/notify'") != std::string::npos);
}
