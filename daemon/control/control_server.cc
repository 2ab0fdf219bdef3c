// SPDX-License-Identifier: Apache-2.0
#include "daemon/control/control_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "daemon/base/atomic_file.h"
#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/control/unix_address.h"

namespace understudy {

struct ControlServer::Connection {
  UniqueFd fd;
  std::string input;
  std::string output;
  bool closing = false;           // after its output
  std::uint64_t deadline_ns = 0;  // CLOCK_BOOTTIME
};

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::string error_line(const Error& error) {
  Json response;
  response["ok"] = false;
  response["error"]["kind"] = error_kind_name(error.kind());
  response["error"]["message"] = error.message();
  return response.dump() + "\n";
}

// Who holds the lock, as well as it can be said: the pid it left in the file and its name.
std::string holder_of(const std::string& lock_path) {
  const auto content = read_file(lock_path, 64);
  const auto pid = content.ok() ? parse_unsigned(content->substr(0, content->find('\n'))) : std::nullopt;
  if (!pid) return "another process";
  const auto name = read_file("/proc/" + std::to_string(*pid) + "/comm", 64);
  const std::string text = name.ok() ? name->substr(0, name->find('\n')) : "unknown";
  return "process " + std::to_string(*pid) + " (" + quote(text) + ")";
}

// The lock beside the socket decides who owns it; the file itself stays, because removing a lock file races.
Result<UniqueFd> take_lock(const std::string& socket_path) {
  const std::string path = socket_path + ".lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return Error::from_errno(errno, "open '" + path + "'");
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Error::from_errno(errno, "lock '" + path + "'");
    return Error(ErrorKind::kBusy, "control socket '" + socket_path + "' is held by " + holder_of(path));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::pwrite(fd.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return Error::from_errno(errno, "write '" + path + "'");
  }
  return fd;
}

// Bound under another name and moved into place only when it listens with the right mode. Called with the lock held.
Result<UniqueFd> listen_at(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && !S_ISSOCK(status.st_mode)) {
    return Error(ErrorKind::kAlreadyExists, quote(path) + " exists and is no socket; remove it or choose another path");
  }
  const std::string temporary = path + ".new";
  ASSIGN_OR_RETURN(const UnixAddress address, UnixAddress::make(temporary));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error::from_errno(errno, "create socket");
  ::unlink(temporary.c_str());  // of a process that died right here
  // Linux takes the mode of the socket's inode over to the file that bind(2) makes; chmod makes sure where it does not.
  ::fchmod(fd.get(), 0600);
  if (::bind(fd.get(), address.get(), address.size()) != 0) return Error::from_errno(errno, "bind '" + temporary + "'");
  if (::chmod(temporary.c_str(), 0600) != 0 || ::listen(fd.get(), kControlBacklog) != 0 ||
      ::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return Error::from_errno(error, "set up '" + path + "'");
  }
  return fd;
}

}  // namespace

Result<std::unique_ptr<ControlServer>> ControlServer::create(ControlServerOptions options) {
  auto lock = take_lock(options.path);
  if (!lock.ok()) return std::move(lock).error().with_context("create control socket");
  auto listener = listen_at(options.path);
  if (!listener.ok()) return std::move(listener).error().with_context("create control socket");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Error::from_errno(errno, "create control socket: create event descriptor");
  return std::unique_ptr<ControlServer>(
      new ControlServer(std::move(options), std::move(*lock), std::move(*listener), std::move(wake)));
}

ControlServer::ControlServer(ControlServerOptions options, UniqueFd lock, UniqueFd listener, UniqueFd wake)
    : options_(std::move(options)), lock_(std::move(lock)), listener_(std::move(listener)), wake_(std::move(wake)) {}

ControlServer::~ControlServer() {
  stop();
  ::unlink(options_.path.c_str());
}

void ControlServer::handle(std::string command, ControlHandler handler) {
  CHECK(!thread_.joinable());
  handlers_[std::move(command)] = std::move(handler);
}

void ControlServer::start() {
  CHECK(!thread_.joinable());
  thread_ = std::thread([this] {
    // Signals are for the daemon's main thread.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    run();
  });
}

void ControlServer::stop() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
  thread_.join();
  connections_.clear();
}

void ControlServer::run() {
  while (true) {
    std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}};
    const bool full = connections_.size() >= static_cast<std::size_t>(kControlConnectionsMax);
    polled.push_back({full ? -1 : listener_.get(), POLLIN, 0});
    for (const auto& connection : connections_) {
      const short events = connection->output.empty() ? POLLIN : POLLOUT;
      polled.push_back({connection->fd.get(), events, 0});
    }
    if (::poll(polled.data(), polled.size(), connections_.empty() ? -1 : 1000) < 0 && errno != EINTR) {
      if (options_.report) options_.report(Error::from_errno(errno, "control socket: wait for clients"));
      return;
    }
    if (polled[0].revents != 0) return;
    const std::uint64_t now = system_clock().boot_ns();
    for (std::size_t i = 0; i + 2 < polled.size(); ++i) {
      Connection& connection = *connections_[i];
      bool open = now < connection.deadline_ns;
      if (open && polled[i + 2].revents != 0) {
        open = connection.output.empty() ? receive(connection) : flush(connection);
      }
      if (!open) connection.fd.reset();
    }
    std::erase_if(connections_, [](const auto& connection) { return !connection->fd.valid(); });
    if (polled[1].revents != 0) accept_one();
  }
}

bool ControlServer::is_allowed(uid_t uid) const {
  if (!options_.allowed_uids.empty()) {
    return std::find(options_.allowed_uids.begin(), options_.allowed_uids.end(), uid) != options_.allowed_uids.end();
  }
  return uid == 0 || uid == ::geteuid();
}

void ControlServer::accept_one() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) {
    const bool passing = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (!passing && options_.report) options_.report(Error::from_errno(errno, "control socket: accept client"));
    // Out of descriptors: without a pause the loop would spin until there are some.
    if (!passing) ::poll(nullptr, 0, 100);
    return;
  }
  auto connection = std::make_unique<Connection>();
  connection->deadline_ns = system_clock().boot_ns() + kControlIdleSecondsMax * kSecond;
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || !is_allowed(peer.uid)) {
    const Error error(ErrorKind::kPermission, "control socket: process " + std::to_string(peer.pid) + " of user " +
                                                  std::to_string(peer.uid) + " is not allowed to ask");
    if (options_.report) options_.report(error);
    connection->output = error_line(error);
    connection->closing = true;
  }
  connection->fd = std::move(fd);
  connections_.push_back(std::move(connection));
}

bool ControlServer::receive(Connection& connection) {
  char buffer[4096];
  const ssize_t count = ::recv(connection.fd.get(), buffer, sizeof(buffer), 0);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  connection.input.append(buffer, static_cast<std::size_t>(count));
  const auto end = connection.input.find('\n');
  if (end == std::string::npos ? connection.input.size() > options_.request_bytes_max
                               : end > options_.request_bytes_max) {
    connection.output =
        error_line(Error(ErrorKind::kInvalidArgument, "request is longer than the allowed " +
                                                          std::to_string(options_.request_bytes_max) + " bytes"));
    connection.closing = true;
    return flush(connection);
  }
  return end == std::string::npos || flush(connection);
}

// Sends what there is to send, then answers the next request that is already here.
bool ControlServer::flush(Connection& connection) {
  while (true) {
    while (!connection.output.empty()) {
      const ssize_t sent =
          ::send(connection.fd.get(), connection.output.data(), connection.output.size(), MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      connection.output.erase(0, static_cast<std::size_t>(sent));
    }
    if (connection.closing) {
      // Input that was not read would turn the close into a reset, which can overtake the answer.
      ::shutdown(connection.fd.get(), SHUT_WR);
      char rest[4096];
      while (::recv(connection.fd.get(), rest, sizeof(rest), 0) > 0) {
      }
      return false;
    }
    const auto end = connection.input.find('\n');
    if (end == std::string::npos) return true;
    connection.output = answer(std::string_view(connection.input).substr(0, end));
    connection.input.erase(0, end + 1);
    connection.deadline_ns = system_clock().boot_ns() + kControlIdleSecondsMax * kSecond;
  }
}

std::string ControlServer::answer(std::string_view line) {
  const auto request = Json::parse(line);
  if (!request.ok()) return error_line(request.error());
  if (!request->is_object() || !request->at("command").is_string()) {
    return error_line(Error(ErrorKind::kInvalidArgument, "request must be an object with a 'command'"));
  }
  const std::string command = request->at("command").as_string("");
  const auto handler = handlers_.find(command);
  if (handler == handlers_.end()) {
    std::vector<std::string> known;
    for (const auto& [name, function] : handlers_) known.push_back(name);
    return error_line(
        Error(ErrorKind::kInvalidArgument, "unknown command " + quote(command) + "; known: " + quoted_list(known)));
  }
  auto result = handler->second(*request);
  if (!result.ok()) return error_line(result.error());
  Json response;
  response["ok"] = true;
  response["result"] = std::move(*result);
  return response.dump() + "\n";
}

}  // namespace understudy
