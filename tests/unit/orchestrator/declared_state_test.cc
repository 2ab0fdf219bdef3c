// SPDX-License-Identifier: Apache-2.0
// gcc 12 with sanitizers takes the moved-from states of <regex> for uninitialised (GCC bug 105562).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <regex>

#include "orchestrator/spec/declared_state.h"

#include <filesystem>
#include <fstream>
#include <set>

#include "daemon/base/yaml_config.h"
#include "orchestrator/spec/group_reader.h"
#include "orchestrator/spec/group_rules.h"
#include "orchestrator/spec/group_schema.h"
#include "tests/unit/orchestrator/group_text.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

using namespace understudy;

namespace {

std::string many_servers(int first, int count) {
  std::string text;
  for (int i = first; i < first + count; ++i) text += server_text("web-" + std::to_string(i), i);
  return text;
}

DeclaredState state_of(const std::vector<DeclaredSource>& sources, const DeclaredOptions& options = {}) {
  DeclaredState state;
  REQUIRE(mistakes_in(sources, &state, options) == "");
  return state;
}

std::string change(const DeclaredState& before, const KnownServers& known, const DeclaredState& next) {
  const Status status = check_declared_change(before, known, next);
  return status.ok() ? "" : status.error().message();
}

// Every key of a schema as "servers[].name".
void schema_keys(const Json& schema, const std::string& path, std::set<std::string>& keys) {
  for (const auto& [key, value] : schema.at("properties").members()) {
    const std::string full = path.empty() ? key : path + "." + key;
    keys.insert(full);
    schema_keys(value, full, keys);
  }
  if (!schema.at("items").is_null()) schema_keys(schema.at("items"), path + "[]", keys);
  for (const Json& other : schema.at("anyOf").items()) schema_keys(other, path, keys);
}

constexpr const char* kEverything =
    "drill: {flavor: {vcpus: 2, memory: 4GiB}}\n"
    "    failover: {flavor: {vcpus: 2, memory: 4GiB}}\n"
    "    failback: {flavor: {vcpus: 2, memory: 4GiB}}\n"
    "    health: [{check: http, port: 80}]";

}  // namespace

TEST_CASE("declared state: rules between files name both places") {
  const std::string text = mistakes_in(
      {source_of("a", group_text(server_text("web-1", 5))), source_of("b", group_text(server_text("web-1", 6)))});
  CHECK(text ==
        "b.yaml:1:1: 'site-a-site-b' is the name of another group, at a.yaml:1:1\n"
        "b.yaml:13:11: server 'web-1' is in group 'a', too, at a.yaml:13:11; a server can be in one group only");
  CHECK(mistakes_in({source_of("a", group_text(server_text("web-1", 5))),
                     source_of("b", group_text(server_text("web-2", 5), "name: other\n"))}) ==
        "b.yaml:14:11: '10.1.0.5' is the address of another server, at a.yaml:13:11");
  std::string other_subnets = group_text("", "name: other\n");
  other_subnets.replace(other_subnets.find("[10.2.0.0/24]"), 13, "[10.2.0.0/24, 10.3.0.0/24]");
  CHECK(mistakes_in({source_of("a", group_text("")), source_of("b", other_subnets)})
            .starts_with("b.yaml:10:15: VPC 'net-b' has other subnets at a.yaml:10:15"));
}

TEST_CASE("declared state: the quota of a region counts all groups") {
  std::vector<DeclaredSource> sources{source_of("a", group_text(many_servers(1, 12))),
                                      source_of("b", group_text(many_servers(101, 8), "name: other\n"))};
  CHECK(mistakes_in(sources) == "");
  sources[1] = source_of("b", group_text(many_servers(101, 9), "name: other\n"));
  CHECK(mistakes_in(sources).find("server 'web-109' would be client number 21 of region 'east'; its quota is 20") !=
        std::string::npos);
  DeclaredOptions more;
  more.quotas["east"] = 21;
  CHECK(mistakes_in(sources, nullptr, more) == "");
}

TEST_CASE("declared state: at most ten servers are added by one change") {
  const DeclaredState none;
  const DeclaredState ten = state_of({source_of("a", group_text(many_servers(1, 10)))});
  const DeclaredState eleven = state_of({source_of("a", group_text(many_servers(1, 11)))});
  CHECK(change(none, {}, ten) == "");
  CHECK(change(none, {}, eleven).starts_with("a.yaml:1:1: this change adds 11 servers to group 'a'; allowed are 1 to"));
  CHECK(change(ten, {}, eleven) == "");
  // What is known from before a restart is not added again.
  KnownServers known;
  for (const ServerSpec& server : ten.groups[0].servers) known.group_of[server.name] = "a";
  CHECK(change(none, known, eleven) == "");
}

TEST_CASE("declared state: groups with servers stay, and stay where they are") {
  const DeclaredState before = state_of({source_of("a", group_text(server_text("web-1", 5)))});
  KnownServers known;
  known.group_of["web-1"] = "a";
  CHECK(change(before, known, state_of({})) ==
        "a.yaml:1:1: group 'a' cannot be deleted: it still has 'web-1'; put the file back and remove the servers from "
        "it first");
  const DeclaredState empty = state_of({source_of("a", group_text(""))});
  CHECK(change(before, known, empty) == "");  // that is how they are removed
  CHECK(change(empty, {}, state_of({})) == "");
  // A server goes from one group to another only when it has left the first.
  const DeclaredState moved = state_of(
      {source_of("a", group_text("")), source_of("b", group_text(server_text("web-1", 5), "name: other\n"))});
  CHECK(change(before, known, moved).starts_with("b.yaml:14:11: server 'web-1' is still in group 'a'; remove it"));
  CHECK(change(empty, {}, moved) == "");
  std::string text = group_text(server_text("web-1", 5));
  text.replace(text.find("zone: z2"), 8, "zone: z3");
  CHECK(change(before, known, state_of({source_of("a", text)})).find("the sites of group 'a' cannot change") !=
        std::string::npos);
  CHECK(change(before, known, state_of({source_of("a", group_text(server_text("web-1", 5), "name: other\n"))})) == "");
}

TEST_CASE("declared state: directories, drop-ins and files that are none") {
  TemporaryDirectory directory;
  const std::string path = directory.path();
  const auto write = [&](const std::string& name, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path + "/" + name).parent_path());
    std::ofstream(path + "/" + name) << text;
  };
  write("shop.yaml", group_text(server_text("web-1", 5)));
  write("shop.yaml.d/50-policy.yaml", "policy: {window: 2d}\n");
  write("shop.yaml.d/60-policy.yaml", "policy: {window: 3d}\n");
  write("README", "not a group");
  write(".hidden.yaml", "neither");
  auto sources = read_declared_sources(path);
  REQUIRE(sources.ok());
  REQUIRE(sources->size() == 1);
  const DeclaredState state = state_of(*sources);
  CHECK(state.groups[0].id == "shop");
  CHECK(state.groups[0].policy.window_ns == 72 * kHourNs);

  write("shop.yaml.d/60-policy.yaml", "policy: {window: 0d}\n");
  write("old.yml", "");
  write("gone.yaml.d/x.yaml", "");
  write("bad name.yaml", "");
  sources = read_declared_sources(path);
  REQUIRE(sources.ok());
  const std::string text = mistakes_in(*sources);
  CHECK(text.find(path + "/shop.yaml.d/60-policy.yaml:1:18: 'policy.window' is '0d', out of range") !=
        std::string::npos);
  CHECK(text.find(path + "/old.yml:1:1: would not be read; call it 'old.yaml'") != std::string::npos);
  CHECK(text.find(path + "/gone.yaml.d:1:1: holds drop-ins for 'gone.yaml', which is not there") != std::string::npos);
  CHECK(text.find(path + "/bad name.yaml:1:1: the file's name is what the group is known by") != std::string::npos);
  CHECK(read_declared_sources(path + "/nowhere").error().kind() == ErrorKind::kNotFound);
}

TEST_CASE("declared state: the examples are right, also with every commented setting switched on") {
  auto sources = read_declared_sources(UNDERSTUDY_EXAMPLE_GROUPS);
  REQUIRE(sources.ok());
  CHECK(sources->size() >= 4);
  CHECK(mistakes_in(*sources) == "");
  const std::regex setting("(^|\\n)( *)# ((?:  )*(?:- )?(?:[a-z_]+:(?: [^\\n]*)?|- [^\\n]*))(?=\\n)");
  for (DeclaredSource& source : *sources) {
    std::string& text = source.files[0].second;
    std::string switched;
    while ((switched = std::regex_replace(text, setting, "$1$2$3")) != text) text = switched;
  }
  CHECK(mistakes_in(*sources) == "");
}

TEST_CASE("group schema: knows exactly the keys that the reader asks for") {
  std::string text = group_text(server_text("web-1", 5, kEverything), "  receiver: {name: dr-1, address: a}\n");
  text.replace(text.find("[/dev/vda]"), 10, "[{path: /dev/vda}]");
  text += "operations: {auto_rollback: 1h}\nmark: {label: noon}\n";
  const auto reader = ConfigReader::parse(text, "g.yaml");
  const GroupReading reading = read_group(*reader, "g");
  CHECK(reading.status.ok());
  std::set<std::string> asked;
  const std::regex index("\\[[0-9]+\\]");
  for (const std::string& key : reader->asked()) asked.insert(std::regex_replace(key, index, "[]"));
  asked.erase("recovery.region");  // asked for only to say why it is refused
  std::set<std::string> known;
  schema_keys(group_schema(), "", known);
  CHECK(asked == known);
}

namespace {

// A text of the wanted length that the pattern of a name rule takes.
std::string name_of_length(std::size_t length) { return std::string(length, 'n'); }

std::string recovery_named(const std::string& name) {
  std::string text = group_text("", "name: fixed\n");
  return text.replace(text.find("site-b"), 6, name);
}

}  // namespace

TEST_CASE("group schema: its bounds are those of the reader") {
  const Json schema = group_schema();
  const Json& server = schema.at("properties").at("servers").at("items").at("properties");
  const auto takes = [](const std::string& more) {
    return mistakes_in({source_of("g", group_text(server_text("web-1", 5, more)))}) == "";
  };
  const Json& port = server.at("health").at("items").at("properties").at("port");
  const std::uint64_t port_max = port.at("maximum").as_unsigned(0);
  CHECK(takes("health: [{port: " + std::to_string(port_max) + "}]"));
  CHECK(!takes("health: [{port: " + std::to_string(port_max + 1) + "}]"));
  CHECK(!takes("health: [{port: " + std::to_string(port.at("minimum").as_unsigned(9) - 1) + "}]"));
  const Json& orders = server.at("repair_order");
  CHECK(takes("repair_order: " + std::to_string(orders.at("maximum").as_unsigned(0))));
  CHECK(!takes("repair_order: " + std::to_string(orders.at("maximum").as_unsigned(0) + 1)));
  for (const Json& phase : server.at("phase").at("enum").items()) CHECK(takes("phase: " + phase.as_string("")));
  CHECK(server.at("phase").at("enum").items().size() == kPhases);
  for (const Json& check : server.at("health").at("items").at("properties").at("check").at("enum").items()) {
    CHECK(takes("health: [{check: " + check.as_string("") + ", port: 1}]"));
  }
  const std::regex site(schema.at("properties").at("recovery").at("properties").at("name").at("pattern").as_string(""));
  for (const std::string& name : {name_of_length(1), name_of_length(2), name_of_length(60), name_of_length(61),
                                  std::string("a-"), std::string("1a"), std::string("a_b"), std::string("a-b")}) {
    CAPTURE(name);
    CHECK(std::regex_match(name, site) == (mistakes_in({source_of("g", recovery_named(name))}) == ""));
  }
}
