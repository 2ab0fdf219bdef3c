// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/group_reader.h"

#include <algorithm>

#include "daemon/base/text.h"
#include "orchestrator/spec/group_rules.h"
#include "tests/unit/orchestrator/group_text.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

using namespace understudy;

namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// The right file with one thing exchanged.
std::string with(const std::string& from, const std::string& to) {
  return mistakes_in({source_of("g", replaced(group_text(server_text("web-1", 5)), from, to))});
}
std::string with_server(const std::string& more) {
  return mistakes_in({source_of("g", group_text(server_text("web-1", 5, more)))});
}
std::string with_group(const std::string& more) {
  return mistakes_in({source_of("g", group_text(server_text("web-1", 5), more))});
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("group file: a right one is read, defaults and all") {
  DeclaredState state;
  REQUIRE(mistakes_in({source_of("g", group_text(server_text("web-1", 5, "drill: {}")))}, &state) == "");
  REQUIRE(state.groups.size() == 1);
  const GroupSpec& group = state.groups[0];
  CHECK(group.id == "g");
  CHECK(group.name == "site-a-site-b");
  CHECK(group.region == "east");
  CHECK(group.production.subnet->to_string() == "10.1.0.0/24");
  CHECK(group.policy.point_interval_ns == 6 * kHourNs);
  CHECK(group.policy.retention_ns == 7 * 24 * kHourNs);
  CHECK(group.policy.rpo_max_ns == 5 * kMinuteNs);
  CHECK(group.policy.auto_resume);
  CHECK(group.operations.auto_rollback_ns == 0);
  REQUIRE(group.servers.size() == 1);
  const ServerSpec& server = group.servers[0];
  CHECK(server.phase == Phase::kReplicating);
  CHECK(server.flavor == FlavorSpec{2, 4ull << 30});
  REQUIRE(server.drill);
  CHECK(server.drill->name == "web-1");
  CHECK(server.drill->flavor == server.flavor);
  CHECK(server.drill->point == "latest");
  CHECK(server.failover.host.address == "dhcp");
  CHECK(state.warnings.empty());
  CHECK(state.group_of("web-1") == &group);
}

TEST_CASE("group file: a group may be empty") { CHECK(mistakes_in({source_of("g", group_text(""))}) == ""); }

TEST_CASE("group file: names of sites, groups and hosts") {
  CHECK(with("site-a", "a") ==
        "g.yaml:2:9: 'production.name': 'a' is no name for it; allowed: 2 to 60 letters, digits or '-', beginning with "
        "a letter and ending with a letter or digit");
  for (const char* name : {"1site", "site-", "-site", "si_te", "si te"}) {
    CHECK(has(with("site-b", name), "g.yaml:8:9:"));
  }
  CHECK(with("site-a", std::string(60, 'x')) == "");
  CHECK(has(with("site-a", std::string(61, 'x')), "g.yaml:2:9:"));
  // The longest names still make a name for the group.
  CHECK(kGroupNameRule.allows(std::string(60, 'x') + "-" + std::string(60, 'y')));
  CHECK(with_group("name: " + std::string(121, 'x') + "\n") == "");
  CHECK(has(with_group("name: " + std::string(122, 'x') + "\n"), "g.yaml:12:7: 'name': "));
  CHECK(with_server("drill: {host: abcdefghijklmno}") == "");
  CHECK(has(with_server("drill: {host: abcdefghijklmnop}"), "allowed: 2 to 15 letters"));
}

TEST_CASE("group file: a server's name that no host can have needs another for its host") {
  DeclaredState state;
  const auto text = [](const std::string& more) { return group_text(server_text("web_1.example.com", 5, more)); };
  CHECK(mistakes_in({source_of("g", text(""))}, &state) == "");
  REQUIRE(state.warnings.size() == 2);  // failover and failback
  CHECK(has(state.warnings[0], "cannot be the host's"));
  CHECK(has(mistakes_in({source_of("g", text("phase: failed-over"))}), "'servers[0].failover.host'"));
  CHECK(mistakes_in({source_of("g", text("phase: failed-over\n    failover: {host: web-1}"))}) == "");
}

TEST_CASE("group file: sites are two zones of one region") {
  CHECK(with("zone: z2", "zone: z1") ==
        "g.yaml:9:9: 'recovery.zone': 'z1' is the production site's zone, too; one failure would take both; name "
        "another zone");
  CHECK(has(with("zone: z2", "zone: z2\n  region: west"), "g.yaml:10:11: 'recovery.region': a group recovers within"));
  CHECK(has(with_group("type: region-to-region\n"), "'region-to-region' is no type of group; allowed: zone-to-zone"));
}

TEST_CASE("group file: no subnet of one VPC overlaps one of the other") {
  CHECK(with("10.2.0.0/24]", "10.2.0.0/24, 10.1.0.128/25]") ==
        "g.yaml:10:31: 'recovery.vpc.subnets': subnet '10.1.0.128/25' of VPC 'net-b' overlaps '10.1.0.0/24' of the "
        "production VPC 'net-a'; the two are peered, so no subnet may");
  CHECK(has(with("10.1.0.0/24]", "10.1.0.0/24, 10.0.0.0/8]"), "overlaps '10.1.0.0/24' of the same VPC"));
  CHECK(has(with("subnet: 10.2.0.0/24", "subnet: 10.2.1.0/24"), "is no subnet of VPC 'net-b'; it has '10.2.0.0/24'"));
  CHECK(has(with("[10.2.0.0/24]", "[10.2.0.7/24]"), "an address inside the subnet '10.2.0.0/24'"));
  CHECK(has(with("[10.2.0.0/24]", "[10.2.0.0/33]"), "not a subnet; use address/bits"));
  // The same VPC at both sites is not looked at, as long as it is the same.
  std::string one = replaced(group_text(""), "{name: net-b, subnets: [10.2.0.0/24]}",
                             "{name: net-a, subnets: [10.1.0.0/24]}");
  one = replaced(one, "  subnet: 10.2.0.0/24\n", "  subnet: 10.1.0.0/24\n");
  CHECK(mistakes_in({source_of("g", one)}) == "");
  CHECK(has(with("net-b", "net-a"), "its subnets are not the same in both places"));
}

TEST_CASE("group file: what cannot be protected is refused with its rule") {
  CHECK(with("vcpus: 2", "vcpus: 1") ==
        "g.yaml:16:21: 'servers[0].flavor.vcpus' is '1', out of range; allowed: 2 to 4096");
  CHECK(has(with("memory: 4GiB", "memory: 3GiB"), "'servers[0].flavor.memory' is '3GiB', out of range; allowed: 4GiB"));
  CHECK(has(with_server("machine: physical"), "physical machines cannot be protected"));
  CHECK(has(with_server("architecture: i686"), "only 64-bit systems are"));
  CHECK(has(with("family: debian", "family: windows"), "'windows' is an unknown family of systems; known: 'alma"));
  CHECK(has(with("[/dev/vda]", "[{path: /dev/vda, type: XSSD-1}]"), "disks of the X series cannot be protected"));
  CHECK(has(with("[/dev/vda]", "[{path: /dev/vda, file_system: btrfs}]"), "'btrfs' cannot be protected"));
  CHECK(has(with("[/dev/vda]", "[{path: /dev/vda, mounts: [/boot]}, {path: /dev/vdb, mounts: [/]}]"),
            "'/boot' is on '/dev/vda' and '/' on '/dev/vdb'"));
  CHECK(with("[/dev/vda]", "[{path: /dev/vda, mounts: [/boot, /]}, /dev/vdb]") == "");
  CHECK(has(with("[/dev/vda]", "[/dev/vda, /dev/vda]"), "names '/dev/vda' a second time"));
  CHECK(has(with("[/dev/vda]", "[vda]"), "no device; use a path below /dev"));
  CHECK(has(with("10.1.0.5", "10.9.0.5"), "is in no subnet of the production VPC 'net-a'"));
  CHECK(has(with("10.1.0.5", "10.1.0.500"), "neither an IP address nor a host's name"));
  CHECK(with("10.1.0.5", "web-1.example.com") == "");
}

TEST_CASE("group file: systems that were not tested are taken with a warning") {
  DeclaredState state;
  CHECK(mistakes_in({source_of("g", replaced(group_text(server_text("web-1", 5)), "\"12\"", "\"11\""))}, &state) == "");
  REQUIRE(state.warnings.size() == 1);
  CHECK(has(state.warnings[0], "g.yaml:15:35: version: 'debian 11' is not among the tested systems"));
}

TEST_CASE("group file: policy") {
  CHECK(has(with_group("policy: {recovery_point_interval: 90min}\n"), "90min are no whole hours; allowed: 1h to 24h"));
  CHECK(has(with_group("policy: {recovery_point_interval: 25h}\n"), "out of range; allowed: 1h to 1d"));
  CHECK(has(with_group("policy: {window: 3d, retention: 2d}\n"), "shorter than the window of 3d"));
  CHECK(with_group("policy: {window: 10d}\n") == "");  // the default of the retention follows
  CHECK(has(with_group("policy: {throttle: 20MiB}\n"), "is no rate; allowed is 64KiB/s to 100GiB/s"));
  CHECK(has(with_group("policy: {strict: true, isolated_drills: true}\n"), "strict mode knows only drills in"));
  CHECK(has(with_group("policy: {strict: true}\noperations: {auto_rollback: 2h}\n"), "no way back from a failover"));
  CHECK(has(with("  subnet: 10.2.0.0/24", "  disk_types: [ssd]\n  subnet: 10.2.0.0/24\npolicy: {disk_type: gold}"),
            "'gold' is none of the recovery site's; it has 'ssd'"));
}

TEST_CASE("group file: phases that contradict the rest") {
  for (const char* phase : {"initialized", "failed-over", "confirmed", "reverse-replicating", "failed-back"}) {
    CHECK(has(with_server("phase: " + std::string(phase) + "\n    drill: {}"), "g.yaml:19:12: 'servers[0].drill': "
                                                                                 "contradicts phase '"));
  }
  CHECK(with_server("phase: stopped\n    drill: {}") == "");
  CHECK(has(with_server("phase: stoped"), "'stoped', not allowed; use initialized, replicating, stopped"));
  CHECK(has(with_server("reverse: {original_machine: true}\n    failback: {address: dhcp}"),
            "is that of the production server when the original machine is recovered"));
  CHECK(has(with_server("failover: {address: 10.1.0.9}"), "'10.1.0.9' is not in the subnet '10.2.0.0/24' of site"));
}

TEST_CASE("group file: boot order") {
  const auto three = [](const std::string& a, const std::string& b, const std::string& c) {
    return mistakes_in({source_of("g", group_text(server_text("aa", 1, a) + server_text("bb", 2, b) +
                                                  server_text("cc", 3, c)))});
  };
  CHECK(three("", "boot_after: [aa]", "boot_after: [aa, bb]") == "");
  CHECK(has(three("boot_after: [cc]", "boot_after: [aa]", "boot_after: [bb]"),
            "nothing could come up first: 'aa' after 'cc' after 'bb' after 'aa'"));
  CHECK(has(three("boot_after: [aa]", "", ""), "nothing could come up first: 'aa' after 'aa'"));
  CHECK(has(three("boot_after: [zz]", "", ""), "'zz' is no server of this group"));
  CHECK(has(three("", "health: [{check: udp, port: 53}]", ""), "not allowed; use tcp or http"));
}

TEST_CASE("group file: all mistakes at once, in their order") {
  const std::string text = mistakes_in({source_of(
      "g", replaced(replaced(group_text(server_text("web-1", 5, "colour: red"), "policy: {window: soon}\n"), "zone: z2",
                             "zone: z1"),
                    "vcpus: 2", "vcpus: two"))});
  CHECK(std::count(text.begin(), text.end(), '\n') == 3);
  CHECK(text.find("g.yaml:9:9: ") < text.find("g.yaml:12:18: "));
  CHECK(has(text, "unknown key 'servers[0].colour'"));
  CHECK(has(text, "'servers[0].flavor.vcpus' is 'two', not an integer"));
}
