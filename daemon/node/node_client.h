// SPDX-License-Identifier: Apache-2.0
// A node's connection to its orchestrator: dials out, says who it is, takes what it should do, reports once a second
// how it stands. It dials again for ever, later each time, up to kRetryLastNs: with the orchestrator gone, a node goes
// on with what it was told last.
//
// Threads: one of its own, on which all callbacks run; report_soon() and status() by any. It never blocks the caller.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"
#include "daemon/control/json.h"
#include "daemon/wire/identity.h"
#include "daemon/wire/tls_context.h"

namespace understudy {

// `orchestrator:` of a node's configuration. An empty address = there is none.
struct OrchestratorAddress {
  std::string address;
  std::uint16_t port = 7601;
  std::string name;  // of its certificate
  bool operator==(const OrchestratorAddress&) const = default;
};

struct NodeClientOptions {
  OrchestratorAddress orchestrator;
  WireIdentity identity;  // this node
  TlsFiles tls;           // read again for each connection
  std::string software;
  // Members of the hello besides those of every node; may be empty.
  std::function<void(Json& hello)> hello;
  std::function<Json()> report;
  std::function<void(const Json& desired)> desired;
  // "connected with orchestrator 'main'", or the error that ended the connection or kept it from coming about; the same
  // error is told once.
  std::function<void(const Status&, const std::string& text)> on_change;
};

class NodeClient {
 public:
  static Result<std::unique_ptr<NodeClient>> start(NodeClientOptions options);
  // Ends the thread; no callback runs any more. Waits for the one that does.
  ~NodeClient();
  NodeClient(const NodeClient&) = delete;
  NodeClient& operator=(const NodeClient&) = delete;

  // A report now, instead of at the next second.
  void report_soon();
  // {"name","address","connected","since_time_ns","last_error"}: for the node's own status.
  Json status() const;

 private:
  NodeClient(NodeClientOptions options, UniqueFd stop, UniqueFd soon);
  void run();
  Status session();
  Status converse(class NodeChannel& channel, int fd);
  Status hear(const Json& message);
  Json hello() const;
  void note(const Status& status);

  const NodeClientOptions options_;
  UniqueFd stop_;               // eventfd
  UniqueFd soon_;               // eventfd
  bool welcome_ = false;        // thread only
  std::uint64_t heard_ns_ = 0;  // thread only; boot clock
  mutable std::mutex mutex_;    // guards the next three
  bool connected_ = false;
  std::uint64_t since_wall_ns_ = 0;
  std::string last_error_;
  std::thread thread_;
};

}  // namespace understudy
