// SPDX-License-Identifier: Apache-2.0
// Reads one group file: every rule that can be judged from this file alone. declared_state.h has the rest.
#pragma once

#include <string>
#include <vector>

#include "daemon/base/yaml_config.h"
#include "orchestrator/spec/group_spec.h"

namespace understudy {

struct GroupReading {
  GroupSpec group;                    // to be used only when `status` is ok, except to find further mistakes
  Status status;                      // kInvalidConfig, one line a mistake
  std::vector<std::string> warnings;  // "file:line:column: ..."
};

// `id` is the file's name without .yaml.
GroupReading read_group(ConfigReader& reader, const std::string& id);

}  // namespace understudy
