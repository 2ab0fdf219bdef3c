// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/log.h"
#include "daemon/base/result.h"
#include "daemon/node/node_client.h"
#include "daemon/receiver/store_jobs.h"
#include "daemon/receiver/store_scrubber.h"
#include "daemon/wire/tls_context.h"

namespace understudy {

struct ReceiverStoreConfig {
  std::string server;     // name in the agent's certificate
  std::string path;       // the store's directory
  std::string base_path;  // of the base images; empty = inside the store
  // How fast its agent is read, in bytes a second of TLS payload; 0 = as fast as it comes.
  std::uint64_t rate_limit = 0;
  // Received batches that may wait for the store; 0 = its share of kReceiverQueueBytesMax (limits.h).
  std::uint64_t queue_bytes = 0;
  std::uint64_t delta_cache_bytes_max = 64ull << 20;  // memory its agent may make us use for deltas; 0 = no deltas
  std::uint64_t epoch = 0;  // granted by an orchestrator: an agent of another one is refused; 0 = any
  bool operator==(const ReceiverStoreConfig&) const = default;
  // Limits may change while it is in use.
  bool is_same_store(const ReceiverStoreConfig& other) const {
    return server == other.server && path == other.path && base_path == other.base_path;
  }
};

// receiver.yaml; config/receiver.yaml is the commented example.
struct ReceiverConfig {
  std::string name;
  std::string listen_address = "0.0.0.0";
  std::uint16_t listen_port = 7600;
  TlsFiles tls;
  OrchestratorAddress orchestrator;  // without an address: there is none
  std::string stores_directory;      // where the stores lie that an orchestrator asks for
  std::uint64_t delta_cache_bytes_max = 64ull << 20;  // of stores that say nothing of their own
  std::vector<ReceiverStoreConfig> stores;
  std::uint64_t segment_bytes = 256ull << 20;
  ScrubSettings scrub;
  MergeSettings merge;
  std::string control_socket = "/run/understudy/receiver.sock";
  LogLevel log_level = LogLevel::kInfo;
};

// Reads `path` and its drop-ins. kInvalidConfig with a line "file:line:column: message" for every mistake. `printed`,
// when given, gets the merged configuration as YAML.
Result<ReceiverConfig> load_receiver_config(const std::string& path, std::string* printed = nullptr);
// From memory, for tests.
Result<ReceiverConfig> parse_receiver_config(std::string_view text, const std::string& file_name);

}  // namespace understudy
