// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent_config.h"

#include <algorithm>
#include <bit>

#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/base/yaml_config.h"
#include "daemon/node/node_config.h"
#include "daemon/service/log_level.h"

namespace understudy {
namespace {

constexpr ConfigRange kRingBytes{1ull << 20, 2ull << 30};
constexpr ConfigRange kGranuleBytes{4ull << 10, 1ull << 20};
constexpr ConfigRange kBufferBytes{64ull << 10, 8ull << 20};
constexpr ConfigRange kBuffers{1, 256};
constexpr ConfigRange kScrubRate{64ull << 10, 16ull << 30};
constexpr ConfigRange kScrubPeriodNs{1'000'000'000, 365ull * 24 * 3600 * 1'000'000'000};
constexpr ConfigRange kDeltaCacheBytes{1ull << 20, kDeltaCacheBytesMax};
constexpr ConfigRange kBandwidth{64ull << 10, 100ull << 30};  // less would not even carry a database at rest
constexpr ConfigRange kBandwidthWindows{1, 32};
constexpr ConfigRange kCollapseAfterNs{1'000'000'000, 7ull * 24 * 3600 * 1'000'000'000};
constexpr ConfigRange kStopTimeoutNs{0, 60'000'000'000};

bool is_server_name(const std::string& name) {  // it names a directory of a bpffs, which allows no dots
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
  });
}

void read_disks(ConfigMap root, AgentConfig& config) {
  const bool required = config.orchestrator.address.empty();
  for (ConfigItem& item : root.list("disks", {1, kDisksMax}, required)) {
    const std::string path = item.is_map() ? item.map().path("path") : item.path();
    if (!path.empty() && std::find(config.disks.begin(), config.disks.end(), path) != config.disks.end()) {
      item.mistake("disk '" + path + "' stands here twice");
    }
    config.disks.push_back(path);
  }
}

void require_power_of_two(ConfigMap& map, std::string_view key, std::uint64_t value) {
  if (std::has_single_bit(value)) return;
  map.mistake(key, format_bytes_exact(value) + " is no power of two; the next ones are " +
                       format_bytes_exact(std::bit_floor(value)) + " and " + format_bytes_exact(std::bit_ceil(value)));
}

void read_capture_and_copy(ConfigMap root, AgentConfig& config) {
  ConfigMap capture = root.map("capture");
  config.capture_method = capture.choice<CaptureMethod>(
      "method", config.capture_method,
      {{"auto", CaptureMethod::kAuto}, {"bpf", CaptureMethod::kBpf}, {"module", CaptureMethod::kModule}});
  config.ring_bytes = capture.bytes("ring_bytes", config.ring_bytes, kRingBytes);
  require_power_of_two(capture, "ring_bytes", config.ring_bytes);
  config.granule_bytes =
      static_cast<std::uint32_t>(capture.bytes("granule_bytes", config.granule_bytes, kGranuleBytes));
  require_power_of_two(capture, "granule_bytes", config.granule_bytes);

  ConfigMap copy = root.map("copy");
  config.engine = copy.choice<ReadEngineChoice>("engine", config.engine,
                                                {{"auto", ReadEngineChoice::kAuto},
                                                 {"io_uring", ReadEngineChoice::kUring},
                                                 {"threads", ReadEngineChoice::kThreads}});
  config.buffer_bytes = static_cast<std::uint32_t>(copy.bytes("buffer_bytes", config.buffer_bytes, kBufferBytes));
  require_power_of_two(copy, "buffer_bytes", config.buffer_bytes);
  config.buffers = static_cast<std::uint32_t>(copy.integer("buffers", config.buffers, kBuffers));
  config.existing_data_only = copy.boolean("existing_data_only", config.existing_data_only);
  config.leave_out_swap = copy.boolean("leave_out_swap", config.leave_out_swap);
  if (config.leave_out_swap && !config.existing_data_only) {
    copy.mistake("leave_out_swap", "needs existing_data_only: true; without, everything is copied");
  }
  if (config.buffer_bytes < config.granule_bytes) {
    copy.mistake("buffer_bytes", "a buffer of " + format_bytes_exact(config.buffer_bytes) +
                                     " cannot hold a granule of " + format_bytes_exact(config.granule_bytes) +
                                     "; make it larger or capture.granule_bytes smaller");
  }
}

constexpr std::string_view kDays[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

// Bits as BandwidthWindow::days.
unsigned read_days(ConfigMap window) {
  if (!window.has("days")) return BandwidthWindow().days;
  unsigned days = 0;
  for (ConfigItem& item : window.list("days", {1, std::size(kDays)})) {
    const std::string day = item.text();
    const auto found = std::find(std::begin(kDays), std::end(kDays), day);
    if (found == std::end(kDays)) {
      item.mistake("'" + day + "' is no day; allowed: mon, tue, wed, thu, fri, sat, sun");
      continue;
    }
    days |= 1u << (found - std::begin(kDays));
  }
  return days;
}

void read_bandwidth(ConfigMap wire, BandwidthPlan& plan) {
  ConfigMap bandwidth = wire.map("bandwidth");
  if (bandwidth.has("limit")) plan.limit = bandwidth.rate("limit", kBandwidth);
  if (!bandwidth.has("windows")) return;
  for (ConfigItem& item : bandwidth.list("windows", kBandwidthWindows)) {
    ConfigMap map = item.map();
    BandwidthWindow window;
    window.from_minute = static_cast<unsigned>(map.time_of_day("from"));
    window.to_minute = static_cast<unsigned>(map.time_of_day("to"));
    window.limit = map.rate("limit", kBandwidth);
    window.days = read_days(map);
    if (window.from_minute == window.to_minute && map.has("from") && map.has("to")) {
      map.mistake("to", "the window ends when it begins; for the whole day write from '00:00' to '24:00'");
    }
    plan.windows.push_back(window);
  }
}

void read_wire(ConfigMap root, AgentConfig& config) {
  ConfigMap wire = root.map("wire");
  config.compression.codec = wire.choice<Codec>(
      "compression", config.compression.codec, {{"zstd", Codec::kZstd}, {"lz4", Codec::kLz4}, {"none", Codec::kNone}});
  config.compression.level =
      static_cast<int>(wire.integer("level", static_cast<std::uint64_t>(config.compression.level), {1, 19}));
  const bool deltas = wire.choice<bool>("deltas", true, {{"on", true}, {"off", false}});
  config.delta_cache_bytes = wire.bytes("delta_cache_bytes", config.delta_cache_bytes, kDeltaCacheBytes);
  if (!deltas) config.delta_cache_bytes = 0;
  read_bandwidth(wire, config.bandwidth);
}

Result<AgentConfig> read_config(ConfigReader& reader) {
  AgentConfig config;
  ConfigMap root = reader.root();
  config.server = root.name("server");
  if (!config.server.empty() && !is_server_name(config.server)) {
    root.mistake("server", "'" + config.server + "': allowed are 1 to 64 letters, digits, '-' and '_'");
  }
  config.orchestrator = read_orchestrator_address(root);
  read_disks(root, config);
  if (config.orchestrator.address.empty() || root.has("receiver")) {
    ConfigMap receiver = root.map("receiver");
    config.receiver_address = receiver.text("address");
    config.receiver_port = static_cast<std::uint16_t>(receiver.integer("port", config.receiver_port, {1, 65535}));
    config.receiver_name = receiver.name("name");
  }
  ConfigMap tls = root.map("tls");
  config.tls.authority = tls.path("authority");
  config.tls.certificate = tls.path("certificate");
  config.tls.key = tls.path("key");
  read_capture_and_copy(root, config);
  ConfigMap scrub = root.map("scrub");
  config.scrub = scrub.boolean("enabled", config.scrub);
  config.scrub_period_ns = scrub.duration_ns("period", config.scrub_period_ns, kScrubPeriodNs);
  config.scrub_bytes_per_second = scrub.bytes("rate", config.scrub_bytes_per_second, kScrubRate);
  read_wire(root, config);
  ConfigMap backlog = root.map("backlog");
  if (backlog.has("collapse_after")) config.collapse_after_ns = backlog.duration_ns("collapse_after", kCollapseAfterNs);
  ConfigMap policy = root.map("policy");
  config.auto_resume = policy.choice<bool>("auto_resume", config.auto_resume, {{"true", true}, {"false", false}});
  config.state_directory = root.path("state_directory", config.state_directory);
  config.control_socket = root.path("control_socket", config.control_socket);
  config.bpffs = root.path("bpffs", config.bpffs);
  config.stop_timeout_ns = root.duration_ns("stop_timeout", config.stop_timeout_ns, kStopTimeoutNs);
  config.log_level = read_log_level(root, config.log_level);
  config.marks = read_mark_policy(root.map("marks"));
  RETURN_IF_ERROR(reader.finish());
  return config;
}

}  // namespace

Result<AgentConfig> load_agent_config(const std::string& path, std::string* printed) {
  ASSIGN_OR_RETURN(const auto reader, ConfigReader::load(path));
  auto config = read_config(*reader);
  if (config.ok() && printed != nullptr) *printed = reader->print();
  return config;
}

Result<AgentConfig> parse_agent_config(std::string_view text, const std::string& file_name) {
  const auto reader = ConfigReader::parse(text, file_name);
  return read_config(*reader);
}

std::vector<std::string> settings_needing_restart(const AgentConfig& running, const AgentConfig& wanted) {
  std::vector<std::string> names;
  const auto compare = [&names](bool equal, const char* name) {
    if (!equal) names.emplace_back(name);
  };
  compare(running.server == wanted.server, "server");
  compare(running.receiver_address == wanted.receiver_address && running.receiver_port == wanted.receiver_port &&
              running.receiver_name == wanted.receiver_name,
          "receiver");
  compare(running.tls == wanted.tls, "tls");
  compare(running.orchestrator == wanted.orchestrator, "orchestrator");
  compare(running.capture_method == wanted.capture_method && running.ring_bytes == wanted.ring_bytes &&
              running.granule_bytes == wanted.granule_bytes,
          "capture");
  compare(running.engine == wanted.engine, "copy.engine");
  compare(running.buffer_bytes == wanted.buffer_bytes, "copy.buffer_bytes");
  compare(wanted.buffers <= running.buffers, "copy.buffers");
  compare(running.existing_data_only == wanted.existing_data_only && running.leave_out_swap == wanted.leave_out_swap,
          "copy.existing_data_only or copy.leave_out_swap");
  compare(running.collapse_after_ns == wanted.collapse_after_ns, "backlog");
  compare(running.state_directory == wanted.state_directory, "state_directory");
  compare(running.control_socket == wanted.control_socket, "control_socket");
  compare(running.bpffs == wanted.bpffs, "bpffs");
  return names;
}

}  // namespace understudy
