// SPDX-License-Identifier: Apache-2.0
#include "daemon/node/node_config.h"

namespace understudy {

OrchestratorAddress read_orchestrator_address(ConfigMap& root) {
  OrchestratorAddress orchestrator;
  if (!root.has("orchestrator")) return orchestrator;
  ConfigMap map = root.map("orchestrator");
  orchestrator.address = map.text("address");
  orchestrator.port = static_cast<std::uint16_t>(map.integer("port", orchestrator.port, {1, 65535}));
  orchestrator.name = map.name("name");
  return orchestrator;
}

}  // namespace understudy
