// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "daemon/base/log.h"
#include "daemon/base/result.h"
#include "daemon/wire/tls_context.h"
#include "orchestrator/spec/declared_state.h"

namespace understudy {

// orchestrator.yaml; config/orchestrator.yaml is the commented example.
struct OrchestratorConfig {
  std::string groups_directory = "/etc/understudy/groups.d";
  std::string state_directory = "/var/lib/understudy/orchestrator";
  std::string control_socket = "/run/understudy/orchestrator.sock";
  struct Nodes {
    bool listens = false;  // without `nodes` in the file, nobody dials in
    std::string address = "0.0.0.0";
    std::uint16_t port = 7601;
    TlsFiles tls;
    std::string authority_directory;  // of ca.crt and ca.key; empty = nobody can enrol
  } nodes;
  DeclaredOptions declared;  // quotas
  LogLevel log_level = LogLevel::kInfo;

  std::string database() const { return state_directory + "/orchestrator.db"; }
};

// Reads `path` and its drop-ins. kInvalidConfig with a line "file:line:column: message" for every mistake. `printed`,
// when given, gets the merged configuration as YAML.
Result<OrchestratorConfig> load_orchestrator_config(const std::string& path, std::string* printed = nullptr);

}  // namespace understudy
