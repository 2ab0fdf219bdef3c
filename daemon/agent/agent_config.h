// SPDX-License-Identifier: Apache-2.0
// /etc/understudy/agent.yaml (and agent.yaml.d/*.yaml): what the agent protects, and where it ships it.
// config/agent.yaml is the commented example.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/log.h"
#include "daemon/base/result.h"
#include "daemon/disk_io/read_engine.h"
#include "daemon/marks/mark_policy.h"
#include "daemon/node/node_client.h"
#include "daemon/record/batch.h"
#include "daemon/tracker/open_capture.h"
#include "daemon/wire/bandwidth.h"
#include "daemon/wire/tls_context.h"

namespace understudy {

struct AgentConfig {
  std::string server;
  OrchestratorAddress orchestrator;  // without an address: there is none
  std::vector<std::string> disks;    // paths of whole disks; with an orchestrator they may be empty: it says
  std::string receiver_address;      // empty, with an orchestrator: it says
  std::uint16_t receiver_port = 7600;
  std::string receiver_name;        // of its certificate
  TlsFiles tls;
  CaptureMethod capture_method = CaptureMethod::kAuto;
  std::uint64_t ring_bytes = 256ull << 20;
  std::uint32_t granule_bytes = 64u << 10;
  ReadEngineChoice engine = ReadEngineChoice::kAuto;
  std::uint32_t buffer_bytes = 1u << 20;
  std::uint32_t buffers = 16;
  bool existing_data_only = true;   // a full copy leaves out free space
  bool leave_out_swap = false;
  bool scrub = true;                // compare disks and replica all the time, at a limited rate
  std::uint64_t scrub_period_ns = 24ull * 3600 * 1'000'000'000;  // wanted for a round over all disks
  std::uint64_t scrub_bytes_per_second = 20ull << 20;            // but at most so fast
  Compression compression;
  std::uint64_t collapse_after_ns = 0;  // a backlog older than this is collapsed; 0 = never
  std::uint64_t delta_cache_bytes = 64ull << 20;  // here, and at most as much at the receiver; 0 = no deltas
  BandwidthPlan bandwidth;
  std::string state_directory = "/var/lib/understudy/agent";
  std::string control_socket = "/run/understudy/agent.sock";
  std::string bpffs = "/sys/fs/bpf";
  bool auto_resume = true;          // after an interruption; else replication is in error until somebody decides
  std::uint64_t stop_timeout_ns = 5'000'000'000;  // how long a stop waits for acknowledgements
  LogLevel log_level = LogLevel::kInfo;
  MarkPolicy marks;
};

// kInvalidConfig with one "file:line:column: message" a line; kNotFound or kPermission when the file cannot be read.
// `printed` gets the merged result with its defaults; may be null.
Result<AgentConfig> load_agent_config(const std::string& path, std::string* printed = nullptr);
// The same from memory, for tests.
Result<AgentConfig> parse_agent_config(std::string_view text, const std::string& file_name);

// Names of the settings that differ and take effect at the next start only.
std::vector<std::string> settings_needing_restart(const AgentConfig& running, const AgentConfig& wanted);

}  // namespace understudy
