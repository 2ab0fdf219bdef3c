// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/api/orchestrator_config.h"

#include "daemon/base/text.h"
#include "daemon/base/yaml_config.h"
#include "daemon/service/log_level.h"
#include "orchestrator/spec/group_rules.h"

namespace understudy {

namespace {

constexpr ConfigRange kQuotaCount{0, 1000};

Result<OrchestratorConfig> read_config(ConfigReader& reader) {
  OrchestratorConfig config;
  ConfigMap root = reader.root();
  config.groups_directory = root.path("groups_directory", config.groups_directory);
  config.state_directory = root.path("state_directory", config.state_directory);
  config.control_socket = root.path("control_socket", config.control_socket);
  for (ConfigItem& item : root.list("quotas", kQuotaCount, /* required= */ false)) {
    ConfigMap quota = item.map();
    const std::string region = quota.name("region");
    const auto clients = static_cast<std::uint32_t>(quota.integer("clients", kQuotaDefault, kQuota));
    if (!region.empty() && !config.declared.quotas.emplace(region, clients).second) {
      quota.mistake("region", quote(region) + " has a quota already");
    }
  }
  config.log_level = read_log_level(root, config.log_level);
  RETURN_IF_ERROR(reader.finish());
  return config;
}

}  // namespace

Result<OrchestratorConfig> load_orchestrator_config(const std::string& path, std::string* printed) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ConfigReader> reader, ConfigReader::load(path));
  ASSIGN_OR_RETURN(OrchestratorConfig config, read_config(*reader));
  if (printed != nullptr) *printed = reader->print();
  return config;
}

}  // namespace understudy
