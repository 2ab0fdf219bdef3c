// SPDX-License-Identifier: Apache-2.0
// What a server's file says of the hosts that are brought up for it.
#include <algorithm>

#include "daemon/base/text.h"
#include "orchestrator/spec/group_reader_impl.h"
#include "orchestrator/spec/group_rules.h"

namespace understudy::group_reading {
namespace {

// A host with less than this part of the production server's flavor is warned of.
constexpr std::uint64_t kSmallerPart = 2;

struct HostPlace {
  const SiteSpec& site;
  bool with_point;   // a point can be chosen
  bool needed;       // it is wanted now: what is missing is a mistake, not only advice
};

void read_host_name(Context& context, ConfigMap& map, const ServerSpec& server, const HostPlace& place,
                    HostSpec& host) {
  const bool usable = kHostNameRule.allows(server.name);
  if (map.has("host") || usable) {
    host.name = read_ruled_name(map, "host", kHostNameRule, usable ? server.name : "");
    return;
  }
  const std::string text = "the server's own name " + quote(server.name) + " cannot be the host's; give one of " +
                           kHostNameRule.text();
  if (server.name.empty()) return;
  place.needed ? map.mistake("host", text) : context.warn(map, "host", text);
}

void read_host_flavor(Context& context, ConfigMap& map, const ServerSpec& server, HostSpec& host) {
  host.flavor = map.has("flavor") ? read_flavor(map.map("flavor")) : server.flavor;
  if (host.flavor.vcpus * kSmallerPart < server.flavor.vcpus ||
      host.flavor.memory_bytes * kSmallerPart < server.flavor.memory_bytes) {
    context.warn(map, "flavor",
                 "much smaller than the server's " + std::to_string(server.flavor.vcpus) + " vCPU and " +
                     format_bytes(server.flavor.memory_bytes) + "; the business may not run on it");
  }
}

void read_host_address(ConfigMap& map, const SiteSpec& site, HostSpec& host) {
  host.address = map.text("address", host.address);
  if (host.address == "dhcp") return;
  const auto address = parse_ip_address(host.address);
  if (!address) {
    map.mistake("address", quote(host.address) + " is not allowed; use dhcp or an IP address of the site's subnet");
  } else if (site.subnet && !site.subnet->contains(*address)) {
    map.mistake("address", quote(host.address) + " is not in the subnet " + quote(site.subnet->to_string()) +
                               " of site " + quote(site.name));
  }
}

HostSpec read_host(Context& context, ConfigMap& map, const ServerSpec& server, const HostPlace& place) {
  HostSpec host;
  read_host_name(context, map, server, place, host);
  read_host_flavor(context, map, server, host);
  read_host_address(map, place.site, host);
  host.disk_type = map.text("disk_type", "");
  const std::vector<std::string>& types = place.site.disk_types;
  if (!host.disk_type.empty() && !types.empty() &&
      std::find(types.begin(), types.end(), host.disk_type) == types.end()) {
    map.mistake("disk_type", quote(host.disk_type) + " is none of site " + quote(place.site.name) + "; it has " +
                                 quoted_list(types));
  }
  if (place.with_point) host.point = map.text("point", host.point);
  host.elastic_address = map.text("elastic_address", "");
  if (!host.elastic_address.empty() && !parse_ip_address(host.elastic_address)) {
    map.mistake("elastic_address", quote(host.elastic_address) + " is no IP address");
  }
  return host;
}

bool is_before_failover(Phase phase) { return phase == Phase::kReplicating || phase == Phase::kStopped; }

void read_drill(Context& context, ConfigMap& map, ServerSpec& server) {
  if (!map.has("drill")) return;
  if (!is_before_failover(server.phase)) {
    map.mistake("drill", "contradicts phase " + quote(phase_name(server.phase)) +
                             ": a drill runs beside replication, before a failover; remove it, or use phase "
                             "'replicating' or 'stopped'");
  }
  ConfigMap drill = map.map("drill");
  server.drill = read_host(context, drill, server, {context.group.recovery, true, true});
}

void read_failback(Context& context, ConfigMap& map, ServerSpec& server) {
  ConfigMap failback = map.map("failback");
  const bool needed = server.phase == Phase::kFailedBack;
  if (!server.reverse.original_machine) {
    server.failback = read_host(context, failback, server, {context.group.production, false, needed});
    return;
  }
  read_host_name(context, failback, server, {context.group.production, false, needed}, server.failback);
  server.failback.flavor = server.flavor;
  server.failback.address = server.address;
  for (const char* key : {"flavor", "address", "disk_type", "elastic_address"}) {
    if (failback.has(key)) {
      failback.mistake(key, "is that of the production server when the original machine is recovered; remove it");
    }
  }
}

}  // namespace

void read_server_hosts(Context& context, ConfigMap& map, ServerSpec& server) {
  read_drill(context, map, server);
  ConfigMap failover = map.map("failover");
  const bool needed = !is_before_failover(server.phase) && server.phase != Phase::kInitialized;
  server.failover.host = read_host(context, failover, server, {context.group.recovery, true, needed});
  server.failover.planned = failover.boolean("planned", false);
  ConfigMap reverse = map.map("reverse");
  server.reverse.original_machine = reverse.boolean("original_machine", false);
  server.reverse.disk_type = reverse.text("disk_type", "");
  const std::vector<std::string>& types = context.group.production.disk_types;
  if (!server.reverse.disk_type.empty() && !types.empty() &&
      std::find(types.begin(), types.end(), server.reverse.disk_type) == types.end()) {
    reverse.mistake("disk_type", quote(server.reverse.disk_type) + " is none of the production site's; it has " +
                                     quoted_list(types));
  }
  read_failback(context, map, server);
}

}  // namespace understudy::group_reading
