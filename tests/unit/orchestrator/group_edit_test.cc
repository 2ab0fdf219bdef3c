// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/group_edit.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

// Comments and odd spacing everywhere: none of it may move.
const std::string kText =
    "# Kept by hand.\n"
    "name: old   # what people see\n"
    "\n"
    "recovery: {zone: z2}\n"
    "servers:\n"
    "  # The first.\n"
    "  - name: web-1   # east\n"
    "    phase:   replicating  # since June\n"
    "    failover:\n"
    "      host: web-1-r\n"
    "      # as fresh as can be\n"
    "\n"
    "  # The second.\n"
    "  - {name: web-2, phase: 'stopped', disks: [/dev/vda]}\n"
    "  - name: web-3\n"
    "    drill: {point: noon}\n"
    "    disks: [/dev/vda]\n"
    "\n"
    "# The end.\n"
    "operations:\n"
    "  parallel: 2\n";

std::string edited(const Result<std::string>& result) { return result.ok() ? *result : result.error().message(); }

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), by);
}

}  // namespace

TEST_CASE("group edit: a value changes and nothing else does") {
  CHECK(edited(set_group_key(kText, "g", {"name"}, "new")) == replaced(kText, "name: old ", "name: new "));
  CHECK(edited(set_server_key(kText, "g", "web-1", {"phase"}, "stopped")) ==
        replaced(kText, "phase:   replicating", "phase:   stopped"));
  CHECK(edited(set_server_key(kText, "g", "web-2", {"phase"}, "replicating")) ==
        replaced(kText, "phase: 'stopped'", "phase: replicating"));
  CHECK(edited(set_server_key(kText, "g", "web-3", {"drill", "point"}, "latest")) ==
        replaced(kText, "{point: noon}", "{point: latest}"));
  CHECK(edited(set_server_key(kText, "g", "web-1", {"failover", "host"}, "b")) ==
        replaced(kText, "host: web-1-r", "host: b"));
}

TEST_CASE("group edit: a key that is not there is made where it belongs") {
  CHECK(edited(set_server_key(kText, "g", "web-1", {"repair_order"}, "1")) ==
        replaced(kText, "      host: web-1-r\n", "      host: web-1-r\n    repair_order: 1\n"));
  CHECK(edited(set_server_key(kText, "g", "web-1", {"failover", "point"}, "noon")) ==
        replaced(kText, "      host: web-1-r\n", "      host: web-1-r\n      point: noon\n"));
  CHECK(edited(set_server_key(kText, "g", "web-2", {"failover", "point"}, "noon")) ==
        replaced(kText, "{name: web-2", "{failover: {point: noon}, name: web-2"));
  CHECK(edited(set_server_key(kText, "g", "web-3", {"phase"}, "stopped")) ==
        replaced(kText, "    disks: [/dev/vda]\n", "    disks: [/dev/vda]\n    phase: stopped\n"));
  CHECK(edited(set_group_key(kText, "g", {"mark", "label"}, "noon")) == kText + "mark: {label: noon}\n");
}

TEST_CASE("group edit: a key is taken out with what is below it") {
  CHECK(edited(remove_server_key(kText, "g", "web-3", "drill")) == replaced(kText, "    drill: {point: noon}\n", ""));
  CHECK(edited(remove_server_key(kText, "g", "web-1", "drill")) == kText);
  CHECK(edited(remove_server_key(kText, "g", "web-1", "failover")) ==
        replaced(kText, "    failover:\n      host: web-1-r\n", ""));
  CHECK(edited(remove_server_key(kText, "g", "web-2", "phase")).find("by hand") != std::string::npos);
}

TEST_CASE("group edit: servers come and go") {
  const std::vector<std::pair<std::string, YamlText>> four{{"name", "web-4"}, {"disks", "[/dev/vdb]"}};
  CHECK(edited(add_server(kText, "g", four)) ==
        replaced(kText, "    disks: [/dev/vda]\n", "    disks: [/dev/vda]\n  - name: web-4\n    disks: [/dev/vdb]\n"));
  const std::string item = "  - name: web-4\n    disks: [/dev/vdb]\n";
  CHECK(edited(add_server("name: a\n", "g", four)) == "name: a\nservers:\n" + item);
  CHECK(edited(add_server("servers: []\nname: a\n", "g", four)) == "servers:\n" + item + "name: a\n");
  CHECK(edited(add_server("servers: []  # none\n", "g", four)) == "servers:  # none\n" + item);
  CHECK(edited(add_server("servers:\n- name: b\n", "g", four)) ==
        "servers:\n- name: b\n- name: web-4\n  disks: [/dev/vdb]\n");
  CHECK(edited(add_server("servers: [{name: b}]\n", "g", four)).find("by hand") != std::string::npos);
  CHECK(edited(remove_server(kText, "g", "web-2")) ==
        replaced(kText, "  - {name: web-2, phase: 'stopped', disks: [/dev/vda]}\n", ""));
  CHECK(edited(remove_server("servers:\n" + item + "name: a\n", "g", "web-4")) == "servers: []\nname: a\n");
  CHECK(edited(remove_server("servers:  # ours\n" + item, "g", "web-4")) == "servers: []  # ours\n");
  CHECK(edited(remove_server(kText, "g", "web-12")) == "no server 'web-12' in g; did you mean 'web-1'?");
}

TEST_CASE("group edit: what would come out otherwise than meant is refused") {
  for (const std::string& text :
       {std::string("servers:\n  - name: a\n    phase: |\n      stopped\n"),
        std::string("servers:\n  - name: a\n    phase: \"st\\x6fpped\"\n"), std::string("servers: [\n"),
        std::string("- name: a\n"), std::string("servers:\n  - name: a\n    phase: [stopped]\n")}) {
    const auto refused = set_server_key(text, "g.yaml", "a", {"phase"}, "replicating");
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().message().find("g.yaml") != std::string::npos);
  }
  CHECK_FALSE(set_server_key(kText, "g", "web-1", {"phase"}, "a: b: c").ok());
  CHECK_FALSE(set_server_key(kText, "g", "web-1", {"phase", "deeper"}, "x").ok());
}

TEST_CASE("group edit: scalars are quoted when they need it") {
  CHECK(yaml_text("replicating") == "replicating");
  CHECK(yaml_text("2026-03-01T12:03:17Z") == "'2026-03-01T12:03:17Z'");
  CHECK(yaml_text("/dev/vda") == "/dev/vda");
  CHECK(yaml_text("12") == "'12'");
  CHECK(yaml_text("true") == "'true'");
  CHECK(yaml_text("it's") == "'it''s'");
  CHECK(yaml_text("") == "''");
  CHECK(*read_group_key(kText, "g", "web-2", {"phase"}) == "stopped");
  CHECK(*read_group_key(kText, "g", "", {"operations", "parallel"}) == "2");
  CHECK(*read_group_key(kText, "g", "web-1", {"repair_order"}) == "");
  CHECK(*group_servers(kText, "g") == std::vector<std::string>{"web-1", "web-2", "web-3"});
}

}  // namespace understudy
