// SPDX-License-Identifier: Apache-2.0
#include "daemon/control/control_server.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "daemon/base/atomic_file.h"
#include "daemon/base/limits.h"
#include "daemon/control/control_client.h"
#include "daemon/control/unix_address.h"
#include "tests/unit/temporary_directory.h"

using namespace understudy;

namespace {

Json request(std::string_view command) {
  Json json;
  json["command"] = command;
  return json;
}

// A running server with a few commands.
struct Daemon {
  TemporaryDirectory directory;
  std::string path = directory.file("control.sock");
  std::mutex mutex;
  std::vector<std::string> reports;
  std::unique_ptr<ControlServer> server;

  explicit Daemon(std::vector<uid_t> allowed = {}) {
    ControlServerOptions options;
    options.path = path;
    options.allowed_uids = std::move(allowed);
    options.report = [this](const Error& error) {
      const std::lock_guard lock(mutex);
      reports.push_back(error.message());
    };
    server = ControlServer::create(std::move(options)).value();
    server->handle("echo", [](const Json& json) -> Result<Json> { return json.at("text"); });
    server->handle("fail", [](const Json&) -> Result<Json> { return Error(ErrorKind::kBusy, "resync is running"); });
    server->handle("large", [](const Json& json) -> Result<Json> {
      return Json(std::string(json.at("bytes").as_unsigned(0), 'x'));
    });
    server->start();
  }
};

UniqueFd connect_to(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UnixAddress address = UnixAddress::make(path).value();
  REQUIRE(::connect(fd.get(), address.get(), address.size()) == 0);
  return fd;
}

void send_text(const UniqueFd& fd, std::string_view text) {
  REQUIRE(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
}

// Until the other side closes or `lines` lines are there.
std::string receive_text(const UniqueFd& fd, int lines) {
  std::string text;
  char c = 0;
  while (lines > 0 && ::recv(fd.get(), &c, 1, 0) == 1) {
    text += c;
    if (c == '\n') --lines;
  }
  return text;
}

}  // namespace

TEST_CASE("a command is answered with its handler's result") {
  Daemon daemon;
  Json ask = request("echo");
  ask["text"] = "müßig\n";
  const auto result = control_call(daemon.path, ask);
  REQUIRE(result.ok());
  CHECK(result->as_string("") == "müßig\n");
}

TEST_CASE("a handler's error reaches the client with kind and message") {
  Daemon daemon;
  const auto result = control_call(daemon.path, request("fail"));
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().kind() == ErrorKind::kBusy);
  CHECK(result.error().message() == "resync is running");
}

TEST_CASE("an unknown command is refused and the known ones are named") {
  Daemon daemon;
  const auto result = control_call(daemon.path, request("reboot"));
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().kind() == ErrorKind::kInvalidArgument);
  CHECK(result.error().message() == "unknown command 'reboot'; known: 'echo', 'fail' and 'large'");
}

TEST_CASE("an answer of several MiB arrives whole while others are served") {
  Daemon daemon;
  const UniqueFd lazy = connect_to(daemon.path);
  send_text(lazy, "{\"command\":\"large\",\"bytes\":8000000}\n");  // and is not read
  Json ask = request("large");
  ask["bytes"] = std::uint64_t{4'000'000};
  const auto result = control_call(daemon.path, ask);
  REQUIRE(result.ok());
  CHECK(result->as_string("").size() == 4'000'000);
}

TEST_CASE("several requests of one connection are answered in order, however they are cut") {
  Daemon daemon;
  const UniqueFd fd = connect_to(daemon.path);
  send_text(fd, "{\"command\":\"echo\",\"text\":1}\n{\"command\":\"ec");
  CHECK(receive_text(fd, 1) == "{\"ok\":true,\"result\":1}\n");
  send_text(fd, "ho\",\"text\":2}\nnonsense\n[]\n");
  CHECK(receive_text(fd, 1) == "{\"ok\":true,\"result\":2}\n");
  CHECK(receive_text(fd, 1).find("\"kind\":\"invalid-argument\"") != std::string::npos);
  CHECK(receive_text(fd, 1).find("must be an object with a 'command'") != std::string::npos);
}

TEST_CASE("a request that does not end is refused and the connection closed") {
  Daemon daemon;
  const UniqueFd fd = connect_to(daemon.path);
  std::string endless(kControlRequestBytesMax + 1, 'x');
  send_text(fd, endless);
  const std::string answer = receive_text(fd, 2);
  CHECK(answer.find("longer than the allowed 65536 bytes") != std::string::npos);
  // The daemon goes on.
  CHECK(control_call(daemon.path, request("echo")).ok());
}

TEST_CASE("a client that may not ask is told so and reported") {
  Daemon daemon({::geteuid() + 1});
  const auto result = control_call(daemon.path, request("echo"));
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().kind() == ErrorKind::kPermission);
  daemon.server->stop();
  REQUIRE(daemon.reports.size() == 1);
  CHECK(daemon.reports[0].find("process " + std::to_string(::getpid())) != std::string::npos);
}

TEST_CASE("the socket is private and goes away with the server") {
  Daemon daemon;
  struct stat status {};
  REQUIRE(::stat(daemon.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  daemon.server.reset();
  CHECK(::stat(daemon.path.c_str(), &status) != 0);
  const auto result = control_call(daemon.path, request("echo"));
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().kind() == ErrorKind::kNotFound);
  CHECK(result.error().message() == "nothing listens at '" + daemon.path + "'; the daemon is not running");
}

TEST_CASE("a live socket is not taken away and its holder is named") {
  Daemon daemon;
  const auto second = ControlServer::create({daemon.path, nullptr, {}});
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().kind() == ErrorKind::kBusy);
  CHECK(second.error().message().find("is held by process " + std::to_string(::getpid()) + " ('control_test')") !=
        std::string::npos);
  CHECK(control_call(daemon.path, request("echo")).ok());
}

TEST_CASE("the socket of a killed process is replaced") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("control.sock");
  const pid_t child = ::fork();
  if (child == 0) {
    auto server = ControlServer::create({path, nullptr, {}});
    ::kill(::getpid(), server.ok() ? SIGKILL : SIGTERM);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(WTERMSIG(status) == SIGKILL);
  REQUIRE(::access(path.c_str(), F_OK) == 0);
  auto server = ControlServer::create({path, nullptr, {}});
  REQUIRE(server.ok());
  (*server)->handle("echo", [](const Json& json) -> Result<Json> { return json.at("text"); });
  (*server)->start();
  CHECK(control_call(path, request("echo")).ok());
}

TEST_CASE("a file that is no socket is not overwritten") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("precious");
  REQUIRE(write_file_atomically(path, std::string_view("data")).ok());
  const auto server = ControlServer::create({path, nullptr, {}});
  REQUIRE_FALSE(server.ok());
  CHECK(server.error().kind() == ErrorKind::kAlreadyExists);
  CHECK(read_file(path, 10).value() == "data");
}

TEST_CASE("a path too long for a socket is refused with the limit") {
  const auto result = control_call("/tmp/" + std::string(200, 'x'), request("echo"));
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().message().find("allowed: 1 to 107") != std::string::npos);
}

TEST_CASE("more clients than are served at a time wait their turn") {
  Daemon daemon;
  std::atomic<int> answered{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 3 * kControlConnectionsMax; ++i) {
    clients.emplace_back([&] {
      if (control_call(daemon.path, request("echo")).ok()) ++answered;
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK(answered == 3 * kControlConnectionsMax);
}

TEST_CASE("a daemon that does not answer is given up on") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("control.sock");
  const auto server = ControlServer::create({path, nullptr, {}});  // never started
  REQUIRE(server.ok());
  const auto result = control_call(path, request("echo"), 50'000'000);
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().kind() == ErrorKind::kTimeout);
}
