// SPDX-License-Identifier: Apache-2.0
// A protection group as its file in groups.d declares it. Plain values; group_reader.h makes them and has checked them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "orchestrator/spec/ip_network.h"

namespace understudy {

// The state a server should be in. The order is that of a server's life.
enum class Phase : std::uint8_t {
  kInitialized,
  kReplicating,
  kStopped,
  kFailedOver,
  kConfirmed,
  kReverseInitialized,
  kReverseReplicating,
  kReverseStopped,
  kFailedBack,
};
inline constexpr std::size_t kPhases = 9;
std::string_view phase_name(Phase phase);  // "reverse-replicating"
Result<Phase> parse_phase(std::string_view name);

struct VpcSpec {
  std::string name;
  std::vector<IpNetwork> subnets;  // all of the VPC
  std::string where;               // file:line:column, as in all that follow
};

struct SiteSpec {
  std::string name;
  std::string zone;
  VpcSpec vpc;
  std::optional<IpNetwork> subnet;  // always there once the file was found to be right
  std::vector<std::string> disk_types;  // that the site has; empty = not said
};

struct FlavorSpec {
  std::uint32_t vcpus = 0;
  std::uint64_t memory_bytes = 0;
  bool operator==(const FlavorSpec&) const = default;
};

// A host that a drill, a failover or a failback brings up.
struct HostSpec {
  std::string name;
  FlavorSpec flavor;
  std::string address = "dhcp";     // or an IP address
  std::string disk_type;            // empty = that of the policy
  std::string point = "latest";     // latest, latest-processed, a time (RFC 3339), or the label of a mark
  std::string elastic_address;      // empty = none
  bool operator==(const HostSpec&) const = default;
};

struct FailoverSpec {
  HostSpec host;
  bool planned = false;  // stop the source first and take over everything it wrote
};

struct ReverseSpec {
  bool original_machine = false;  // the old production server receives the copy; what is on its disks is erased
  std::string disk_type;
};

struct DiskSpec {
  std::string path;
  std::string type;                 // of the cloud's disks; empty = not said
  std::string file_system;          // ext4 or xfs; empty = not said
  std::vector<std::string> mounts;  // "/", "/boot"
};

struct HealthCheck {
  enum class Kind : std::uint8_t { kTcp, kHttp };
  Kind kind = Kind::kTcp;
  std::uint16_t port = 0;
  std::string path;  // of kHttp
  std::uint64_t timeout_ns = 0;
};

struct ServerSpec {
  std::string name;
  std::string address;
  std::string os_family;
  std::string os_version;  // empty = not said
  FlavorSpec flavor;
  std::vector<DiskSpec> disks;
  Phase phase = Phase::kReplicating;
  std::optional<HostSpec> drill;  // there = a drill is wanted
  FailoverSpec failover;
  ReverseSpec reverse;
  HostSpec failback;
  std::string client_version;         // empty = whatever is installed
  std::vector<std::string> boot_after;  // servers of the group that must be up and healthy before
  std::vector<HealthCheck> health;
  // Orders that are carried out once for each new number: what the agent cannot decide by itself.
  std::uint64_t repair_order = 0;
  std::uint64_t restart_order = 0;
  std::string where;  // of its name
};

struct PolicySpec {
  std::uint64_t point_interval_ns = 0;  // whole hours
  std::uint64_t window_ns = 0;          // every second is a point
  std::uint64_t retention_ns = 0;
  std::string disk_type;                // of the recovery site; empty = its usual
  bool auto_resume = true;
  std::uint64_t throttle_bytes_per_second = 0;  // 0 = none
  std::uint64_t rpo_max_ns = 0;         // beyond it the server's health is "RPO too high"
  bool strict = false;                  // only the operations of the literal guide
  bool isolated_drills = true;
};

struct OperationSpec {
  enum class OnFailure : std::uint8_t { kStop, kContinue };
  std::uint32_t parallel_max = 4;
  OnFailure on_failure = OnFailure::kStop;
  std::uint64_t auto_rollback_ns = 0;  // after an unconfirmed failover; 0 = never
};

// The node that keeps the stores of the group, and where agents reach it.
struct ReceiverSpec {
  std::string name;  // of its certificate; empty = each agent's own configuration says
  std::string address;
  std::uint16_t port = 7600;
};

// A point that is marked on all servers of the group, once for each new label.
struct MarkSpec {
  std::string label;  // empty = none
  bool application_consistent = false;
};

struct GroupSpec {
  std::string id;    // the file's name without .yaml: what the group is known by
  std::string name;  // what people see; may change
  std::string region;
  SiteSpec production;
  SiteSpec recovery;
  PolicySpec policy;
  OperationSpec operations;
  ReceiverSpec receiver;
  MarkSpec mark;
  std::vector<ServerSpec> servers;
  std::string where;

  const ServerSpec* find_server(std::string_view server) const;
};

}  // namespace understudy
