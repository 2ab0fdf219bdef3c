// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/group_schema.h"

#include <string>
#include <utility>
#include <vector>

#include "daemon/base/text.h"
#include "orchestrator/spec/group_rules.h"
#include "orchestrator/spec/group_spec.h"

namespace understudy {
namespace {

constexpr const char* kName = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
constexpr const char* kDuration = "^[0-9]+(ns|us|ms|s|min|h|d)$";
constexpr const char* kBytes = "^[0-9]+(KiB|MiB|GiB|TiB)?$";

using Properties = std::vector<std::pair<const char*, Json>>;

Json described(Json schema, std::string description) {
  schema["description"] = std::move(description);
  return schema;
}

Json text(std::string description) {
  Json schema;
  schema["type"] = "string";
  schema["minLength"] = 1;
  return described(std::move(schema), std::move(description));
}

Json matching(const std::string& pattern, std::string description) {
  Json schema;
  schema["type"] = "string";
  schema["pattern"] = pattern;
  return described(std::move(schema), std::move(description));
}

Json number(ConfigRange range, std::string description) {
  Json schema;
  schema["type"] = "integer";
  schema["minimum"] = range.min;
  schema["maximum"] = range.max;
  return described(std::move(schema), std::move(description));
}

// Bytes are written as a number or with a unit.
Json bytes(ConfigRange range, const std::string& description) {
  Json schema;
  schema["type"].push_back("string");
  schema["type"].push_back("integer");
  schema["pattern"] = kBytes;
  return described(std::move(schema), description + " (" + format_bytes_exact(range.min) + " to " +
                                          format_bytes_exact(range.max) + ")");
}

Json duration(ConfigRange range, const std::string& description) {
  return matching(kDuration, description + " (" + format_duration_exact_ns(range.min) + " to " +
                                 format_duration_exact_ns(range.max) + ")");
}

Json boolean(std::string description) {
  Json schema;
  schema["type"] = "boolean";
  return described(std::move(schema), std::move(description));
}

Json choice(const std::vector<std::string_view>& words, std::string description) {
  Json schema;
  schema["type"] = "string";
  for (const std::string_view word : words) schema["enum"].push_back(word);
  return described(std::move(schema), std::move(description));
}

Json list(Json items, ConfigRange count, std::string description) {
  Json schema;
  schema["type"] = "array";
  schema["items"] = std::move(items);
  schema["minItems"] = count.min;
  schema["maxItems"] = count.max;
  return described(std::move(schema), std::move(description));
}

Json map(Properties properties, const std::vector<std::string_view>& required, std::string description) {
  Json schema;
  schema["type"] = "object";
  schema["additionalProperties"] = false;
  for (auto& [key, value] : properties) schema["properties"][key] = std::move(value);
  for (const std::string_view key : required) schema["required"].push_back(key);
  return described(std::move(schema), std::move(description));
}

Properties site_properties() {
  return {{"name", matching(kSiteNameRule.pattern(), "name of the site")},
          {"zone", matching(kName, "availability zone; the two sites are in different ones")},
          {"vpc", map({{"name", matching(kName, "name of the VPC")},
                       {"subnets", list(text("subnet, as 10.0.1.0/24"), kSubnetCount, "all subnets of the VPC")}},
                      {"name", "subnets"}, "the network; it exists already")},
          {"subnet", text("the VPC's subnet in which hosts are brought up")},
          {"disk_types", list(text("type of disk"), kDiskTypeCount, "types of disk that the site has")}};
}

Json production_site() {
  Properties properties = site_properties();
  properties.insert(properties.begin() + 1, {"region", matching(kName, "region of both sites")});
  return map(std::move(properties), {"name", "region", "zone", "vpc", "subnet"}, "where the servers are");
}

Json policy() {
  return map(
      {{"recovery_point_interval", duration(kPointInterval, "how often a recovery point is kept; whole hours")},
       {"window", duration(kWindow, "how far back every second is a point")},
       {"retention", duration(kRetention, "how long recovery points are kept; at least the window")},
       {"disk_type", text("type of the replica's disks; one of the recovery site's")},
       {"auto_resume", boolean("go on by itself after an interruption")},
       {"throttle", text("bandwidth of each server's replication, as 20MiB/s, or none")},
       {"rpo_max", duration(kRpoMax, "beyond it a server's health is 'RPO too high'")},
       {"strict", boolean("only the operations of the literal guide")},
       {"isolated_drills", boolean("drills run on a network of their own")}},
      {}, "how the servers are replicated");
}

Json operations() {
  return map({{"parallel", number(kParallel, "servers that a group operation works on at a time")},
              {"on_failure", choice({"stop", "continue"}, "what a group operation does when a server fails")},
              {"auto_rollback", text("undo a failover that nobody confirmed for so long, or none")}},
             {}, "how operations on the whole group run");
}

Json flavor() {
  return map({{"vcpus", number(kVcpus, "processors")}, {"memory", bytes(kMemoryBytes, "memory")}},
             {"vcpus", "memory"}, "size of a host");
}

Properties host_properties(bool with_point) {
  Properties properties{{"host", matching(kHostNameRule.pattern(), "name of the host (default: the server's)")},
                        {"flavor", flavor()},
                        {"address", text("dhcp, or an IP address of the site's subnet")},
                        {"disk_type", text("type of the host's disks; one of the site's")},
                        {"elastic_address", text("public IP address")}};
  if (with_point) {
    properties.emplace_back(
        "point", text("latest, latest-processed, a time (2026-03-01T12:03:17Z) or the label of a marked point"));
  }
  return properties;
}

Json server() {
  std::vector<std::string_view> phases;
  for (std::size_t i = 0; i < kPhases; ++i) phases.push_back(phase_name(static_cast<Phase>(i)));
  Properties failover = host_properties(true);
  failover.emplace_back("planned", boolean("stop the source first, and take over everything it wrote"));
  Json disk_map = map({{"path", matching("^/dev/", "the whole disk")},
                       {"type", matching("^[^Xx]", "type of the disk; the X series cannot be protected")},
                       {"file_system", choice({"ext4", "xfs"}, "what is on it")},
                       {"mounts", list(text("where its file systems are mounted"), kMountCount, "mount points")}},
                      {"path"}, "a disk");
  Json disk;
  disk["anyOf"].push_back(matching("^/dev/", "the whole disk"));
  disk["anyOf"].push_back(std::move(disk_map));
  Json check = map({{"check", choice({"tcp", "http"}, "what is tried")},
                    {"port", number(kPort, "port of the host")},
                    {"path", matching("^/", "what an http check asks for; 2xx and 3xx are healthy")},
                    {"timeout", duration(kHealthTimeout, "how long it may take until the check is good")}},
                   {"port"}, "a check that is good once the server can be used");
  return map(
      {{"name", matching(kName, "name of the server; the one in its certificate")},
       {"address", text("IP address in the production VPC, or host name")},
       {"machine", choice({"virtual"}, "physical machines cannot be protected")},
       {"architecture", choice({"x86_64", "aarch64"}, "64-bit systems only")},
       {"os", map({{"family", choice(os_families(), "family of the system")},
                   {"version", text("release, as 7.9")}},
                  {"family"}, "its system")},
       {"flavor", flavor()},
       {"disks", list(std::move(disk), kDiskCount, "what is protected")},
       {"phase", choice(phases, "the state the server should be in (default: replicating)")},
       {"drill", map(host_properties(true), {}, "there = a drill is wanted; taken away = it is cleaned")},
       {"failover", map(std::move(failover), {}, "what a failover brings up")},
       {"reverse", map({{"original_machine", boolean("copy back onto the old server; ITS DISKS ARE ERASED")},
                        {"disk_type", text("type of the disks at the production site")}},
                       {}, "how data comes back")},
       {"failback", map(host_properties(false), {}, "what a failback brings up, unless it is the original machine")},
       {"client_version", text("version of the client that is wanted")},
       {"boot_after", list(text("a server of the group"), kBootAfterCount, "up and healthy before this one")},
       {"health", list(std::move(check), kHealthCount, "when the server counts as healthy")},
       {"repair_order", number(kOrders, "raise it: what failed is repaired, or tried again, once")},
       {"restart_order", number(kOrders, "raise it: replication in error is begun anew, once")}},
      {"name", "address", "os", "flavor", "disks"}, "a protected server");
}

}  // namespace

Json group_schema() {
  Properties site = site_properties();
  site.emplace_back("receiver", map({{"name", matching(kName, "name of the receiver; the one in its certificate")},
                                     {"address", text("where the agents reach it")},
                                     {"port", number(kPort, "its port (default: 7600)")}},
                                    {"name", "address"}, "the node that keeps the replicas"));
  Json recovery = map(std::move(site), {"name", "zone", "vpc", "subnet"}, "where they are brought up");
  Json schema;
  schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  schema["title"] = "Understudy protection group";
  Json root = map({{"name", matching(kGroupNameRule.pattern(), "name that people see (default: <site>-<site>)")},
                   {"type", choice({kGroupType}, "kind of group")},
                   {"production", production_site()},
                   {"recovery", std::move(recovery)},
                   {"policy", policy()},
                   {"operations", operations()},
                   {"mark", map({{"label", text("name of the point")},
                                 {"consistency", choice({"crash", "application"}, "whether applications rest for it")}},
                                {"label"}, "a point marked on all servers, once for each new label")},
                   {"servers", list(server(), kServerCount, "servers that are replicated together")}},
                  {"production", "recovery"}, "A file of /etc/understudy/groups.d.");
  for (const auto& [key, value] : root.members()) schema[key] = value;
  return schema;
}

}  // namespace understudy
