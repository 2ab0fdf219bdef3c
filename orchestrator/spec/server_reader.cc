// SPDX-License-Identifier: Apache-2.0
// The servers of a group file.
#include <algorithm>
#include <map>
#include <set>

#include "daemon/base/text.h"
#include "orchestrator/spec/group_reader_impl.h"
#include "orchestrator/spec/group_rules.h"

namespace understudy::group_reading {
namespace {

const std::vector<std::pair<std::string_view, Phase>>& phase_words() {
  static const std::vector<std::pair<std::string_view, Phase>> kWords = [] {
    std::vector<std::pair<std::string_view, Phase>> words;
    for (std::size_t i = 0; i < kPhases; ++i) {
      words.emplace_back(phase_name(static_cast<Phase>(i)), static_cast<Phase>(i));
    }
    return words;
  }();
  return kWords;
}

bool is_host_name(const std::string& text) {
  if (text.empty() || text.size() > 253 || text.front() == '-' || text.front() == '.') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

void read_address(Context& context, ConfigMap& map, ServerSpec& server) {
  server.address = map.text("address");
  if (server.address.empty()) return;
  const auto address = parse_ip_address(server.address);
  if (!address) {
    // Digits and dots alone are a mistyped address, not a name.
    const bool numeric = server.address.find_first_not_of("0123456789.") == std::string::npos;
    if (numeric || !is_host_name(server.address)) {
      map.mistake("address", quote(server.address) + " is neither an IP address nor a host's name");
    }
    return;
  }
  const VpcSpec& vpc = context.group.production.vpc;
  const bool inside = std::any_of(vpc.subnets.begin(), vpc.subnets.end(),
                                  [&](const IpNetwork& subnet) { return subnet.contains(*address); });
  if (!inside && !vpc.subnets.empty()) {
    map.mistake("address", quote(server.address) + " is in no subnet of the production VPC " + quote(vpc.name) +
                               "; servers of another VPC need a group of their own");
  }
}

void read_system(Context& context, ConfigMap& map, ServerSpec& server) {
  const std::string machine = map.text("machine", "virtual");
  if (machine != "virtual") {
    map.mistake("machine", quote(machine) + (machine == "physical" ? ": physical machines cannot be protected"
                                                                   : " is no kind of machine; allowed: virtual"));
  }
  const std::string architecture = map.text("architecture", "x86_64");
  if (architecture != "x86_64" && architecture != "aarch64") {
    map.mistake("architecture", quote(architecture) + " is not allowed; only 64-bit systems are: x86_64 or aarch64");
  }
  ConfigMap os = map.map("os");
  server.os_family = os.text("family");
  server.os_version = os.text("version", "");
  const auto& families = os_families();
  if (!server.os_family.empty() && std::find(families.begin(), families.end(), server.os_family) == families.end()) {
    os.mistake("family", quote(server.os_family) + " is an unknown family of systems; known: " +
                             quoted_list({families.begin(), families.end()}));
  } else if (!server.os_version.empty() && !is_tested_os(server.os_family, server.os_version)) {
    context.warn(os, "version", quote(server.os_family + " " + server.os_version) +
                                    " is not among the tested systems; it will be taken if its kernel can be used");
  }
}

void read_disk(ConfigMap map, DiskSpec& disk) {
  disk.path = map.text("path");
  disk.type = map.text("type", "");
  if (!disk.type.empty() && (disk.type.front() == 'X' || disk.type.front() == 'x')) {
    map.mistake("type", "disks of the X series cannot be protected, and this is " + quote(disk.type));
  }
  disk.file_system = map.text("file_system", "");
  if (!disk.file_system.empty() && disk.file_system != "ext4" && disk.file_system != "xfs") {
    map.mistake("file_system", quote(disk.file_system) + " cannot be protected; allowed: ext4 or xfs");
  }
  for (ConfigItem& item : map.list("mounts", kMountCount, /* required= */ false)) disk.mounts.push_back(item.text());
}

void read_disks(ConfigMap& map, ServerSpec& server) {
  std::map<std::string, std::string> mounts;  // -> disk
  for (ConfigItem& item : map.list("disks", kDiskCount)) {
    DiskSpec disk;
    if (item.is_map()) {
      read_disk(item.map(), disk);
    } else {
      disk.path = item.text();
    }
    if (!disk.path.empty() && !disk.path.starts_with("/dev/")) {
      item.mistake("names " + quote(disk.path) + ", which is no device; use a path below /dev");
    }
    for (const DiskSpec& other : server.disks) {
      if (!disk.path.empty() && other.path == disk.path) item.mistake("names " + quote(disk.path) + " a second time");
    }
    for (const std::string& mount : disk.mounts) {
      if (!mounts.emplace(mount, disk.path).second) item.mistake("has " + quote(mount) + ", as another disk has");
    }
    server.disks.push_back(std::move(disk));
  }
  if (mounts.count("/") != 0 && mounts.count("/boot") != 0 && mounts["/"] != mounts["/boot"]) {
    map.mistake("disks", "'/boot' is on " + quote(mounts["/boot"]) + " and '/' on " + quote(mounts["/"]) +
                             "; a host can only be brought up when both are on the same disk");
  }
}

void read_health(ConfigMap& map, ServerSpec& server) {
  for (ConfigItem& item : map.list("health", kHealthCount, /* required= */ false)) {
    ConfigMap check = item.map();
    HealthCheck health;
    health.kind = check.choice<HealthCheck::Kind>(
        "check", HealthCheck::Kind::kTcp, {{"tcp", HealthCheck::Kind::kTcp}, {"http", HealthCheck::Kind::kHttp}});
    health.port = static_cast<std::uint16_t>(check.integer("port", kPort));
    if (health.kind == HealthCheck::Kind::kHttp) {
      health.path = check.text("path", "/");
      if (!health.path.starts_with('/')) check.mistake("path", quote(health.path) + " does not begin with '/'");
    }
    health.timeout_ns = check.duration_ns("timeout", kHealthTimeoutDefault, kHealthTimeout);
    server.health.push_back(std::move(health));
  }
}

void read_server(Context& context, ConfigMap map, ServerSpec& server) {
  server.name = map.name("name");
  server.where = map.where("name");
  read_address(context, map, server);
  read_system(context, map, server);
  server.flavor = read_flavor(map.map("flavor"));
  read_disks(map, server);
  server.phase = map.choice<Phase>("phase", Phase::kReplicating, phase_words());
  read_server_hosts(context, map, server);
  server.client_version = map.text("client_version", "");
  for (ConfigItem& item : map.list("boot_after", kBootAfterCount, /* required= */ false)) {
    server.boot_after.push_back(item.text());
  }
  read_health(map, server);
  server.repair_order = map.integer("repair_order", 0, kOrders);
  server.restart_order = map.integer("restart_order", 0, kOrders);
}

// A way through boot_after that comes back to where it began, or nothing.
bool finds_cycle(const GroupSpec& group, const std::string& server, std::vector<std::string>& path,
                 std::set<std::string>& done) {
  if (std::find(path.begin(), path.end(), server) != path.end()) {
    path.push_back(server);
    return true;
  }
  if (done.count(server) != 0) return false;
  path.push_back(server);
  const ServerSpec* spec = group.find_server(server);
  if (spec != nullptr) {
    for (const std::string& other : spec->boot_after) {
      if (finds_cycle(group, other, path, done)) return true;
    }
  }
  path.pop_back();
  done.insert(server);
  return false;
}

void check_boot_order(const GroupSpec& group, std::vector<ConfigMap>& maps) {
  std::set<std::string> done;
  for (std::size_t i = 0; i < group.servers.size(); ++i) {
    const ServerSpec& server = group.servers[i];
    for (const std::string& other : server.boot_after) {
      if (!other.empty() && group.find_server(other) == nullptr) {
        maps[i].mistake("boot_after", quote(other) + " is no server of this group");
      }
    }
    std::vector<std::string> path;
    if (!finds_cycle(group, server.name, path, done)) continue;
    path.erase(path.begin(), std::find(path.begin(), path.end(), path.back()));
    std::string text;
    for (const std::string& name : path) text += (text.empty() ? "" : " after ") + quote(name);
    maps[i].mistake("boot_after", "nothing could come up first: " + text);
    return;
  }
}

}  // namespace

void read_servers(Context& context, ConfigMap root) {
  GroupSpec& group = context.group;
  std::vector<ConfigMap> maps;
  for (ConfigItem& item : root.list("servers", kServerCount, /* required= */ false)) {
    ServerSpec server;
    maps.push_back(item.map());
    read_server(context, maps.back(), server);
    if (!server.name.empty() && group.find_server(server.name) != nullptr) {
      maps.back().mistake("name", quote(server.name) + " is a server of this group already; names are unique");
    }
    for (const ServerSpec& other : group.servers) {
      if (!server.address.empty() && other.address == server.address) {
        maps.back().mistake("address", quote(server.address) + " is the address of server " + quote(other.name));
      }
    }
    group.servers.push_back(std::move(server));
  }
  check_boot_order(group, maps);
}

}  // namespace understudy::group_reading
