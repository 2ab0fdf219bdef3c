// SPDX-License-Identifier: Apache-2.0
// The receiver as a node of an orchestrator: keeps the stores it is told to keep, beside those of its own
// configuration, removes those it is told by name to remove, reports how they stand. What it was told is in
// `<stores directory>/orders.json`: without an orchestrator, it goes on.
//
// A store is removed because an order names it, never because it is no longer listed. One that the configuration lists
// is its administrator's, and is kept.
//
// Threads: one, that of the event loop, but for report().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "daemon/base/event_loop.h"
#include "daemon/base/result.h"
#include "daemon/node/node_client.h"
#include "daemon/receiver/receiver_config.h"
#include "daemon/receiver/receiver_server.h"

namespace understudy {

class ReceiverNode {
 public:
  // Reads what was ordered last. kCorrupt when it cannot be understood.
  static Result<std::unique_ptr<ReceiverNode>> open(const ReceiverConfig& config);

  // The configuration with the ordered stores in it.
  ReceiverConfig with_orders(ReceiverConfig config) const;
  // A configuration that was read again; with_orders() of it is then in force.
  void set_config(const ReceiverConfig& config) { config_ = config; }
  // Dials out. `server` and `loop` must outlive this.
  Status start(ReceiverServer& server, EventLoop& loop, const std::string& software);
  // For the receiver's own status; null before start().
  Json status() const { return client_ ? client_->status() : Json(); }

  // Carries out what `desired` says (daemon/node/FORMAT.md).
  Status take(const Json& desired);

 private:
  explicit ReceiverNode(const ReceiverConfig& config) : config_(config) {}
  std::string orders_path() const { return config_.stores_directory + "/orders.json"; }
  Status save() const;
  Status remove_store(const std::string& server);
  Json report() const;

  ReceiverConfig config_;  // of the file
  std::map<std::string, std::uint64_t> stores_;  // ordered: server -> epoch
  ReceiverServer* server_ = nullptr;
  mutable std::mutex mutex_;                      // guards removed_
  std::map<std::string, std::uint64_t> removed_;  // server -> the order that its store was removed by
  std::unique_ptr<NodeClient> client_;            // goes first: its thread asks for reports
};

}  // namespace understudy
