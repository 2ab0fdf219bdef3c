// SPDX-License-Identifier: Apache-2.0
// A daemon's control socket: what an operator's command asks on the same machine. README.md has the protocol.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "daemon/base/limits.h"
#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"
#include "daemon/control/json.h"

namespace understudy {

// Answers one command; `request` is the whole request object. An Error becomes the response's error.
//
// Threads: handlers run on the server's own thread, one at a time, while the daemon's other threads work. They share
// state by a mutex or EventLoop::post(), must not wait for long (every other client waits with them), and must not call
// the server.
using ControlHandler = std::function<Result<Json>(const Json& request)>;

struct ControlServerOptions {
  std::string path;  // of the socket; its directory must exist
  // Told about clients that were turned away and about failures of the socket, on the server's thread.
  std::function<void(const Error&)> report;
  // Beside root and the daemon's own user, nobody may ask; tests name another user here.
  std::vector<uid_t> allowed_uids;
  std::size_t request_bytes_max = kControlRequestBytesMax;
};

class ControlServer {
 public:
  // Takes the place of a dead process's socket; kBusy, naming the process, when one is alive. The socket has mode 0600
  // from its first moment. Nothing is answered before start(); clients wait in the queue.
  static Result<std::unique_ptr<ControlServer>> create(ControlServerOptions options);
  // stop(), then removes the socket.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Before start(). Replaces an earlier handler of the same command.
  void handle(std::string command, ControlHandler handler);
  // Starts the thread.
  void start();
  // Ends the thread after the request it is answering; handlers are not called any more. Idempotent.
  void stop();

 private:
  struct Connection;
  ControlServer(ControlServerOptions options, UniqueFd lock, UniqueFd listener, UniqueFd wake);

  void run();
  void accept_one();
  bool is_allowed(uid_t uid) const;
  // Both return false when the connection is to be closed.
  bool receive(Connection& connection);
  bool flush(Connection& connection);
  std::string answer(std::string_view line);

  ControlServerOptions options_;
  UniqueFd lock_;  // held as long as the server lives: says that the socket is not stale
  UniqueFd listener_;
  UniqueFd wake_;  // eventfd: stop
  std::map<std::string, ControlHandler, std::less<>> handlers_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::thread thread_;
};

}  // namespace understudy
