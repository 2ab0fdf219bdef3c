// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/receiver_config.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <map>
#include <utility>

#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/base/yaml_config.h"
#include "daemon/node/node_config.h"
#include "daemon/service/log_level.h"

namespace understudy {

namespace {

constexpr ConfigRange kStoreCount{1, 4096};
constexpr ConfigRange kQueueBytes{1ull << 20, 4ull << 30};
constexpr std::uint64_t kRateMin = 64ull << 10;
constexpr std::uint64_t kRateMax = 1ull << 40;
constexpr ConfigRange kSegmentBytes{32ull << 20, 16ull << 30};
constexpr ConfigRange kScrubEveryNs{1'000'000'000, 365ull * 24 * 3600 * 1'000'000'000};
constexpr ConfigRange kMergeMemoryBytes{16ull << 20, 16ull << 30};
constexpr ConfigRange kMergeFiles{2, 64};
constexpr ConfigRange kMergeRunBytes{256ull << 20, 24ull << 30};
constexpr ConfigRange kDeltaCacheBytes{0, kDeltaCacheBytesMax};

bool is_numeric_address(const std::string& text) {
  in6_addr buffer;
  return ::inet_pton(AF_INET, text.c_str(), &buffer) == 1 || ::inet_pton(AF_INET6, text.c_str(), &buffer) == 1;
}

// Two stores must not share a directory, nor one lie inside the other.
bool is_inside(const std::string& inner, const std::string& outer) {
  return inner == outer || inner.starts_with(outer + "/");
}

// "20MiB/s", or "none" for 0; `fallback` in the same form.
std::uint64_t read_rate(ConfigMap& map, std::string_view key, const std::string& fallback = "none") {
  const std::string text = map.text(key, fallback);
  if (text == "none") return 0;
  const bool per_second = text.ends_with("/s");
  const auto rate = per_second ? parse_bytes(std::string_view(text).substr(0, text.size() - 2)) : std::nullopt;
  if (rate && *rate >= kRateMin && *rate <= kRateMax) return *rate;
  map.mistake(key, quote(text) + " is no rate; allowed is " + format_bytes_exact(kRateMin) + "/s to " +
                       format_bytes_exact(kRateMax) + "/s, for example 20MiB/s, or none");
  return 0;
}

void read_stores(ConfigMap root, ReceiverConfig& config) {
  const std::uint64_t delta_cache_bytes_max = config.delta_cache_bytes_max =
      root.bytes("delta_cache_bytes_max", config.delta_cache_bytes_max, kDeltaCacheBytes);
  const bool required = config.orchestrator.address.empty();
  std::map<std::string, std::string> directories;  // -> server
  for (ConfigItem& item : root.list("stores", kStoreCount, required)) {
    ConfigMap map = item.map();
    ReceiverStoreConfig store;
    store.server = map.name("server");
    store.path = map.path("path");
    store.base_path = map.path("base_path", "");
    store.rate_limit = read_rate(map, "rate_limit");
    if (map.has("queue_bytes")) store.queue_bytes = map.bytes("queue_bytes", kQueueBytes);
    store.delta_cache_bytes_max = map.bytes("delta_cache_bytes_max", delta_cache_bytes_max, kDeltaCacheBytes);
    for (const ReceiverStoreConfig& other : config.stores) {
      if (!store.server.empty() && other.server == store.server) {
        map.mistake("server", "server '" + store.server + "' has a store already");
      }
    }
    for (const auto& [key, directory] : {std::pair("path", store.path), std::pair("base_path", store.base_path)}) {
      if (directory.empty()) continue;
      for (const auto& [other, server] : directories) {
        if (is_inside(directory, other) || is_inside(other, directory)) {
          map.mistake(key, "'" + directory + "' overlaps '" + other + "' of server '" + server + "'");
        }
      }
    }
    if (!store.path.empty()) directories.emplace(store.path, store.server);
    if (!store.base_path.empty()) directories.emplace(store.base_path, store.server);
    config.stores.push_back(std::move(store));
  }
}

Result<ReceiverConfig> read_config(ConfigReader& reader) {
  ReceiverConfig config;
  ConfigMap root = reader.root();
  config.name = root.name("name");
  ConfigMap listen = root.map("listen");
  config.listen_address = listen.text("address", config.listen_address);
  if (!is_numeric_address(config.listen_address)) {
    listen.mistake("address", "'" + config.listen_address + "' is no IPv4 or IPv6 address; allowed is one of this " +
                                  "machine's, or 0.0.0.0 or :: for all of them");
  }
  config.listen_port = static_cast<std::uint16_t>(listen.integer("port", config.listen_port, {1, 65535}));
  ConfigMap tls = root.map("tls");
  config.tls.authority = tls.path("authority");
  config.tls.certificate = tls.path("certificate");
  config.tls.key = tls.path("key");
  config.orchestrator = read_orchestrator_address(root);
  config.stores_directory = root.path("stores_directory", "/var/lib/understudy/stores");
  read_stores(root, config);
  config.segment_bytes = root.bytes("segment_bytes", config.segment_bytes, kSegmentBytes);
  ConfigMap scrub = root.map("scrub");
  config.scrub.bytes_per_second = read_rate(scrub, "rate", format_bytes_exact(config.scrub.bytes_per_second) + "/s");
  config.scrub.every_ns = scrub.duration_ns("every", config.scrub.every_ns, kScrubEveryNs);
  ConfigMap merge = root.map("merge");
  config.merge.bytes_per_second = read_rate(merge, "rate", format_bytes_exact(config.merge.bytes_per_second) + "/s");
  config.merge.memory_bytes = merge.bytes("memory", config.merge.memory_bytes, kMergeMemoryBytes);
  config.merge.files = merge.integer("files", config.merge.files, kMergeFiles);
  config.merge.run_bytes_max = merge.bytes("run_bytes", config.merge.run_bytes_max, kMergeRunBytes);
  config.control_socket = root.path("control_socket", config.control_socket);
  config.log_level = read_log_level(root, config.log_level);
  RETURN_IF_ERROR(reader.finish());
  return config;
}

}  // namespace

Result<ReceiverConfig> load_receiver_config(const std::string& path, std::string* printed) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ConfigReader> reader, ConfigReader::load(path));
  ASSIGN_OR_RETURN(ReceiverConfig config, read_config(*reader));
  if (printed != nullptr) *printed = reader->print();
  return config;
}

Result<ReceiverConfig> parse_receiver_config(std::string_view text, const std::string& file_name) {
  const std::unique_ptr<ConfigReader> reader = ConfigReader::parse(text, file_name);
  return read_config(*reader);
}

}  // namespace understudy
