// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/group_reader.h"

#include <algorithm>

#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "orchestrator/spec/group_reader_impl.h"
#include "orchestrator/spec/group_rules.h"

namespace understudy {
namespace group_reading {

std::string read_ruled_name(ConfigMap& map, std::string_view key, const NameRule& rule, const std::string& fallback) {
  const std::string name = fallback.empty() ? map.text(key) : map.text(key, fallback);
  if (map.has(key) && !name.empty() && !rule.allows(name)) {
    map.mistake(key, quote(name) + " is no name for it; allowed: " + rule.text());
  }
  return name;
}

FlavorSpec read_flavor(ConfigMap map) {
  FlavorSpec flavor;
  flavor.vcpus = static_cast<std::uint32_t>(map.integer("vcpus", kVcpus));
  flavor.memory_bytes = map.bytes("memory", kMemoryBytes);
  return flavor;
}

}  // namespace group_reading

namespace {

using namespace group_reading;

VpcSpec read_vpc(ConfigMap map) {
  VpcSpec vpc;
  vpc.name = map.name("name");
  vpc.where = map.where("name");
  for (ConfigItem& item : map.list("subnets", kSubnetCount)) {
    const std::string text = item.text();
    if (text.empty()) continue;
    auto subnet = IpNetwork::parse(text);
    if (!subnet.ok()) {
      item.mistake("is " + quote(text) + ", " + subnet.error().message());
      continue;
    }
    for (const IpNetwork& other : vpc.subnets) {
      if (!other.overlaps(*subnet)) continue;
      item.mistake("is " + quote(text) + ", which overlaps " + quote(other.to_string()) + " of the same VPC");
    }
    vpc.subnets.push_back(*subnet);
  }
  return vpc;
}

SiteSpec read_site(ConfigMap map) {
  SiteSpec site;
  site.name = read_ruled_name(map, "name", kSiteNameRule, "");
  site.zone = map.name("zone");
  site.vpc = read_vpc(map.map("vpc"));
  const std::string subnet = map.text("subnet");
  for (ConfigItem& item : map.list("disk_types", kDiskTypeCount, /* required= */ false)) {
    site.disk_types.push_back(item.text());
  }
  if (subnet.empty()) return site;
  auto parsed = IpNetwork::parse(subnet);
  if (!parsed.ok()) {
    map.mistake("subnet", quote(subnet) + " is " + parsed.error().message());
    return site;
  }
  site.subnet = *parsed;
  if (std::find(site.vpc.subnets.begin(), site.vpc.subnets.end(), *parsed) == site.vpc.subnets.end()) {
    std::vector<std::string> known;
    for (const IpNetwork& other : site.vpc.subnets) known.push_back(other.to_string());
    map.mistake("subnet", quote(subnet) + " is no subnet of VPC " + quote(site.vpc.name) +
                              (known.empty() ? "" : "; it has " + quoted_list(known)));
  }
  return site;
}

void check_sites(ConfigMap root, const GroupSpec& group) {
  const SiteSpec& production = group.production;
  const SiteSpec& recovery = group.recovery;
  ConfigMap map = root.map("recovery");
  if (!recovery.zone.empty() && recovery.zone == production.zone) {
    map.mistake("zone", quote(recovery.zone) +
                            " is the production site's zone, too; one failure would take both; name another zone");
  }
  if (production.vpc.name == recovery.vpc.name) {
    if (production.vpc.subnets != recovery.vpc.subnets) {
      map.mistake("vpc", "both sites are in VPC " + quote(recovery.vpc.name) + ", but its subnets are not the same "
                             "in both places; give the same list");
    }
    return;
  }
  for (const IpNetwork& ours : recovery.vpc.subnets) {
    for (const IpNetwork& theirs : production.vpc.subnets) {
      if (!ours.overlaps(theirs)) continue;
      map.map("vpc").mistake("subnets", "subnet " + quote(ours.to_string()) + " of VPC " + quote(recovery.vpc.name) +
                                            " overlaps " + quote(theirs.to_string()) + " of the production VPC " +
                                            quote(production.vpc.name) + "; the two are peered, so no subnet may");
    }
  }
}

// "20MiB/s", or "none" for 0.
std::uint64_t read_throttle(ConfigMap& map) {
  const std::string text = map.text("throttle", "none");
  if (text == "none") return 0;
  const auto rate = text.ends_with("/s") ? parse_bytes(text.substr(0, text.size() - 2)) : std::nullopt;
  if (rate && *rate >= kThrottle.min && *rate <= kThrottle.max) return *rate;
  map.mistake("throttle", quote(text) + " is no rate; allowed is " + format_bytes_exact(kThrottle.min) + "/s to " +
                              format_bytes_exact(kThrottle.max) + "/s, for example 20MiB/s, or none");
  return 0;
}

PolicySpec read_policy(ConfigMap map, const SiteSpec& recovery) {
  PolicySpec policy;
  policy.point_interval_ns = map.duration_ns("recovery_point_interval", kPointIntervalDefault, kPointInterval);
  if (policy.point_interval_ns % kHourNs != 0) {
    map.mistake("recovery_point_interval",
                format_duration_exact_ns(policy.point_interval_ns) + " are no whole hours; allowed: 1h to 24h");
  }
  policy.window_ns = map.duration_ns("window", kWindowDefault, kWindow);
  policy.retention_ns = map.duration_ns("retention", std::max(kRetentionDefault, policy.window_ns), kRetention);
  if (policy.retention_ns < policy.window_ns) {
    map.mistake("retention", format_duration_exact_ns(policy.retention_ns) + " is shorter than the window of " +
                                 format_duration_exact_ns(policy.window_ns) +
                                 ", in which every second is kept; make it at least as long");
  }
  policy.disk_type = map.text("disk_type", "");
  if (!policy.disk_type.empty() && !recovery.disk_types.empty() &&
      std::find(recovery.disk_types.begin(), recovery.disk_types.end(), policy.disk_type) ==
          recovery.disk_types.end()) {
    map.mistake("disk_type", quote(policy.disk_type) + " is none of the recovery site's; it has " +
                                 quoted_list(recovery.disk_types));
  }
  policy.auto_resume = map.boolean("auto_resume", policy.auto_resume);
  policy.throttle_bytes_per_second = read_throttle(map);
  policy.rpo_max_ns = map.duration_ns("rpo_max", kRpoMaxDefault, kRpoMax);
  policy.strict = map.boolean("strict", policy.strict);
  policy.isolated_drills = map.boolean("isolated_drills", !policy.strict);
  if (policy.strict && policy.isolated_drills) {
    map.mistake("isolated_drills", "strict mode knows only drills in the recovery VPC; set it to false");
  }
  return policy;
}

OperationSpec read_operations(ConfigMap map, const PolicySpec& policy) {
  OperationSpec operations;
  operations.parallel_max = static_cast<std::uint32_t>(map.integer("parallel", kParallelDefault, kParallel));
  operations.on_failure = map.choice<OperationSpec::OnFailure>(
      "on_failure", OperationSpec::OnFailure::kStop,
      {{"stop", OperationSpec::OnFailure::kStop}, {"continue", OperationSpec::OnFailure::kContinue}});
  if (map.text("auto_rollback", "none") != "none") {
    operations.auto_rollback_ns = map.duration_ns("auto_rollback", kAutoRollback);
    if (policy.strict) map.mistake("auto_rollback", "strict mode has no way back from a failover; use none");
  }
  return operations;
}

ReceiverSpec read_receiver(ConfigMap map) {
  ReceiverSpec receiver;
  receiver.name = map.name("name");
  receiver.address = map.text("address");
  receiver.port = static_cast<std::uint16_t>(map.integer("port", receiver.port, kPort));
  return receiver;
}

MarkSpec read_mark(ConfigMap map) {
  MarkSpec mark;
  mark.label = map.text("label");
  if (mark.label.size() > kNameBytesMax) {
    map.mistake("label", "has " + std::to_string(mark.label.size()) + " bytes; allowed: 1 to " +
                             std::to_string(kNameBytesMax));
  }
  mark.application_consistent = map.choice<bool>("consistency", false, {{"crash", false}, {"application", true}});
  return mark;
}

}  // namespace

GroupReading read_group(ConfigReader& reader, const std::string& id) {
  GroupReading reading;
  GroupSpec& group = reading.group;
  group.id = id;
  ConfigMap root = reader.root();
  if (const std::string type = root.text("type", kGroupType); type != kGroupType) {
    root.mistake("type", quote(type) + " is no type of group; allowed: " + std::string(kGroupType));
  }
  ConfigMap production = root.map("production");
  group.region = production.name("region");
  group.production = read_site(production);
  ConfigMap recovery = root.map("recovery");
  group.recovery = read_site(recovery);
  if (recovery.has("region")) {
    recovery.mistake("region", "a group recovers within one region, that of its production site; remove it");
  }
  if (recovery.has("receiver")) group.receiver = read_receiver(recovery.map("receiver"));
  if (root.has("mark")) group.mark = read_mark(root.map("mark"));
  group.where = root.where("name");
  std::string name = group.production.name + "-" + group.recovery.name;
  if (name.size() < 2) name = "unnamed";  // the missing names are mistakes already
  group.name = read_ruled_name(root, "name", kGroupNameRule, name);
  check_sites(root, group);
  group.policy = read_policy(root.map("policy"), group.recovery);
  group.operations = read_operations(root.map("operations"), group.policy);
  Context context{group, reading.warnings};
  read_servers(context, root);
  reading.status = reader.finish();
  return reading;
}

}  // namespace understudy
