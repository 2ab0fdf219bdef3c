// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "daemon/base/yaml_config.h"
#include "daemon/node/node_client.h"

namespace understudy {

// The map `orchestrator:` of a node's configuration; without it, a node that has none. Mistakes stay in the reader.
OrchestratorAddress read_orchestrator_address(ConfigMap& root);

}  // namespace understudy
