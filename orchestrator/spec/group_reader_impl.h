// SPDX-License-Identifier: Apache-2.0
// What the parts of the group reader share; included by them only.
#pragma once

#include <string>
#include <vector>

#include "daemon/base/yaml_config.h"
#include "orchestrator/spec/group_rules.h"
#include "orchestrator/spec/group_spec.h"

namespace understudy::group_reading {

// What is read so far, and who is told of what is only advice.
struct Context {
  GroupSpec& group;
  std::vector<std::string>& warnings;

  void warn(ConfigMap& map, std::string_view key, const std::string& text) {
    warnings.push_back(map.where(key) + ": " + std::string(key) + ": " + text);
  }
};

// A text under a name rule; `fallback` empty = required.
std::string read_ruled_name(ConfigMap& map, std::string_view key, const NameRule& rule, const std::string& fallback);
FlavorSpec read_flavor(ConfigMap map);

void read_servers(Context& context, ConfigMap root);
// drill, failover, reverse and failback of one server; its name, flavor and phase have been read.
void read_server_hosts(Context& context, ConfigMap& map, ServerSpec& server);

}  // namespace understudy::group_reading
