// SPDX-License-Identifier: Apache-2.0
// The receiver: listens, lets agents in, and brings each together with the store of its server.
//
// One session per server. A newcomer of the same agent process takes over at once (its old connection is cut off, or it
// would not call again); another one only after the old connection has proved dead: two hosts with the same
// certificate, say a clone beside its original, must not take the stream from each other in turns.
//
// Threads: start(), reload() and stop() by one thread; status functions by any.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/limits.h"
#include "daemon/base/result.h"
#include "daemon/receiver/receiver_config.h"
#include "daemon/receiver/receiver_session.h"

namespace understudy {

struct StoreReport {
  StoreStatus store;
  ScrubStatus scrub;
  bool connected = false;
  SessionStatus session;  // when connected
};

class ReceiverServer {
 public:
  struct Options {
    std::string software;  // "understudy-receiver 0.1.0"
    unsigned network_threads = 2;
    unsigned store_threads = kStoreThreads;  // for all stores together
    std::size_t session_queue_bytes_max = 0;  // 0 = kSessionQueueBytesMax
    SessionTimes times;
  };

  // Reads the certificates, opens the stores and listens. An error is one of certificates or of listening; a store that
  // cannot be opened only refuses its agent.
  static Result<std::unique_ptr<ReceiverServer>> start(const ReceiverConfig& config, const Options& options);
  // stop().
  ~ReceiverServer();

  // Stores that are new, gone or moved; certificates for new connections. An error changes nothing. Returns the
  // settings that changed but need a restart.
  Result<std::vector<std::string>> reload(const ReceiverConfig& config);

  // Takes what was received, commits and acknowledges it, says goodbye to all agents.
  void stop();

  std::uint16_t port() const;               // that is listened on
  std::vector<StoreReport> report() const;  // in the order of the configuration
  std::string status_line() const;          // for the service manager

 private:
  class Impl;
  explicit ReceiverServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace understudy
