// SPDX-License-Identifier: Apache-2.0
// The nodes, put together for the program: who may come in, the listener, the driver behind which they stand, and what
// operators ask about them.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/base/result.h"
#include "daemon/control/json.h"
#include "orchestrator/api/orchestrator_config.h"
#include "orchestrator/nodes/node_directory.h"
#include "orchestrator/nodes/node_driver.h"
#include "orchestrator/nodes/node_server.h"

namespace understudy {

class NodeService {
 public:
  // `mutex` guards the database, and is taken on the listener's thread: the caller holds it for all calls but the
  // destructor, which must not hold it. `on_news` (on that thread): something is worth a round of the reconciler.
  static Result<std::unique_ptr<NodeService>> start(const OrchestratorConfig::Nodes& config, OrchestratorState& state,
                                                    std::mutex& mutex, std::string software,
                                                    std::function<void()> on_news);

  NodeDriver& driver() { return *driver_; }
  const NodeServer& server() const { return *server_; }
  Status reload(const OrchestratorConfig::Nodes& config) { return server_->reload_tls(config.tls); }

  // "role", "name", "lifetime_ns", "by" -> {"token","expires_time_ns"}
  Result<Json> token_answer(const Json& request);
  // All nodes that were heard of since the start.
  Json nodes_answer() const;
  // "role", "name"
  Result<Json> forget_answer(const Json& request);

 private:
  std::unique_ptr<NodeDirectory> directory_;
  std::unique_ptr<NodeServer> server_;
  std::unique_ptr<NodeDriver> driver_;
};

}  // namespace understudy
