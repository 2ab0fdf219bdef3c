// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/api/orchestrator_config.h"

#include "daemon/base/text.h"
#include "daemon/base/yaml_config.h"
#include "daemon/service/log_level.h"
#include "orchestrator/spec/group_rules.h"

namespace understudy {

namespace {

constexpr ConfigRange kQuotaCount{0, 1000};

void read_nodes(ConfigMap map, OrchestratorConfig::Nodes& nodes) {
  nodes.listens = true;
  ConfigMap listen = map.map("listen");
  nodes.address = listen.text("address", nodes.address);
  nodes.port = static_cast<std::uint16_t>(listen.integer("port", nodes.port, kPort));
  ConfigMap tls = map.map("tls");
  nodes.tls.authority = tls.path("authority");
  nodes.tls.certificate = tls.path("certificate");
  nodes.tls.key = tls.path("key");
  nodes.authority_directory = map.path("authority_directory", "");
}

Result<OrchestratorConfig> read_config(ConfigReader& reader) {
  OrchestratorConfig config;
  ConfigMap root = reader.root();
  config.groups_directory = root.path("groups_directory", config.groups_directory);
  config.state_directory = root.path("state_directory", config.state_directory);
  config.control_socket = root.path("control_socket", config.control_socket);
  if (root.has("nodes")) read_nodes(root.map("nodes"), config.nodes);
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
