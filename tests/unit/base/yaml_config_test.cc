// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/yaml_config.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/temporary_directory.h"

using namespace understudy;

namespace {

enum class Engine { kAuto, kUring, kThreads };

// Reads the keys of a small configuration and returns what finish() says, one line a mistake; "" = no mistake.
struct Example {
  std::string server;
  std::vector<std::string> disks;
  std::string key_path;
  std::uint64_t port = 0;
  std::uint64_t ring_bytes = 0;
  std::uint64_t pause_ns = 0;
  Engine engine = Engine::kAuto;
  bool drain = false;

  std::string read(ConfigReader& reader) {
    ConfigMap root = reader.root();
    server = root.name("server");
    for (ConfigItem& item : root.list("disks", {1, 3})) {
      disks.push_back(item.is_map() ? item.map().path("path") : item.path());
    }
    key_path = root.map("tls").path("key", "/default/key");
    port = root.map("receiver").integer("port", 7600, {1, 65535});
    ConfigMap capture = root.map("capture");
    ring_bytes = capture.bytes("ring_bytes", 256ull << 20, {1ull << 20, 64ull << 30});
    pause_ns = capture.duration_ns("pause", 5'000'000'000, {1'000'000, 60'000'000'000});
    engine =
        capture.choice<Engine>("engine", Engine::kAuto,
                               {{"auto", Engine::kAuto}, {"io_uring", Engine::kUring}, {"threads", Engine::kThreads}});
    drain = capture.boolean("drain", true);
    const Status status = reader.finish();
    if (status.ok()) return "";
    CHECK(status.error().kind() == ErrorKind::kInvalidConfig);
    return status.error().message();
  }
  std::string read(std::string_view text) { return read(*ConfigReader::parse(text, "/etc/agent.yaml")); }
};

void write(const std::string& path, std::string_view text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

}  // namespace

TEST_CASE("values are read, defaults stand in for what is absent") {
  Example example;
  CHECK(example.read("server: web-1\n"
                     "disks:\n"
                     "  - /dev/vdb\n"
                     "  - path: /dev/vdc\n"
                     "tls: {key: keys/agent.key}\n"
                     "capture:\n"
                     "  ring_bytes: 64MiB\n"
                     "  engine: threads\n"
                     "  drain: false\n") == "");
  CHECK(example.server == "web-1");
  CHECK(example.disks == std::vector<std::string>{"/dev/vdb", "/dev/vdc"});
  CHECK(example.key_path == "/etc/keys/agent.key");
  CHECK(example.port == 7600);
  CHECK(example.ring_bytes == 64ull << 20);
  CHECK(example.pause_ns == 5'000'000'000);
  CHECK(example.engine == Engine::kThreads);
  CHECK_FALSE(example.drain);
}

TEST_CASE("all mistakes are reported at once, each where it stands") {
  CHECK(Example().read("server: web 1\n"
                       "disks: []\n"
                       "receiver:\n"
                       "  port: 70000\n"
                       "capture:\n"
                       "  ring_bytes: 3TB\n"
                       "  pause: 5\n"
                       "  engine: fast\n"
                       "  drain: yes\n"
                       "  rign_bytes: 1\n") ==
        "/etc/agent.yaml:1:9: 'server' is 'web 1', not a name; use 1 to 64 letters, digits, '.', '_' or '-', beginning "
        "with a letter or digit\n"
        "/etc/agent.yaml:2:8: 'disks' has 0 items; allowed: 1 to 3\n"
        "/etc/agent.yaml:4:9: 'receiver.port' is '70000', out of range; allowed: 1 to 65535\n"
        "/etc/agent.yaml:6:15: 'capture.ring_bytes' is '3TB', not an integer with optional KiB, MiB, GiB or TiB; "
        "allowed: 1MiB to 64GiB\n"
        "/etc/agent.yaml:7:10: 'capture.pause' is '5', not an integer with ns, us, ms, s, min, h or d; allowed: 1ms to "
        "1min\n"
        "/etc/agent.yaml:8:11: 'capture.engine' is 'fast', not allowed; use auto, io_uring or threads\n"
        "/etc/agent.yaml:9:10: 'capture.drain' is 'yes', not allowed; use false or true\n"
        "/etc/agent.yaml:10:3: unknown key 'capture.rign_bytes'; did you mean 'ring_bytes'?");
}

TEST_CASE("missing and empty required keys are named") {
  CHECK(Example().read("") ==
        "/etc/agent.yaml:1:1: missing required key 'server'\n"
        "/etc/agent.yaml:1:1: missing required key 'disks'");
  CHECK(Example().read("server:\ndisks: /dev/vdb\n") ==
        "/etc/agent.yaml:1:1: 'server' is without a value; give one value\n"
        "/etc/agent.yaml:2:8: 'disks' is a single value; give a list");
}

TEST_CASE("duplicate keys are refused with the place of the first") {
  CHECK(Example().read("server: a\ndisks: [/dev/vdb]\nserver: b\n") ==
        "/etc/agent.yaml:3:1: duplicate key 'server': already set in line 1; remove one of the two");
  CHECK(Example().read("server: a\ndisks: [/dev/vdb]\ncapture: {drain: true}\ncapture: {x: [1, {y: 2}]}\n") ==
        "/etc/agent.yaml:4:1: duplicate key 'capture': already set in line 3; remove one of the two");
}

TEST_CASE("keys under an unknown key are not reported beside it") {
  CHECK(Example().read("server: a\ndisks: [{path: /dev/vdb, sice: 1}]\nquotas:\n  a: {b: 1}\n") ==
        "/etc/agent.yaml:2:26: unknown key 'disks[0].sice'; known here: 'path'\n"
        "/etc/agent.yaml:3:1: unknown key 'quotas'; known here: 'server', 'disks', 'tls', 'receiver' and 'capture'");
}

TEST_CASE("a syntax error is one mistake with its place") {
  const std::string message = Example().read("server: a\ndisks: [/dev/vdb\ncapture: {\n");
  CHECK(message.find("/etc/agent.yaml:3:") == 0);
  CHECK(message.find("not valid YAML: ") != std::string::npos);
}

TEST_CASE("what configurations do not need is refused") {
  CHECK(Example().read("- a\n- b\n").find("/etc/agent.yaml:1:1: the file must consist of 'key: value' lines") == 0);
  CHECK(Example().read("server: &x a\n").find("/etc/agent.yaml:1:9: anchors (&name) are not allowed") !=
        std::string::npos);
  CHECK(Example().read("server: a\n---\nserver: b\n").find("more than one YAML document") != std::string::npos);
  CHECK(Example().read("? [a, b]\n: c\n").find("a key must be a plain word") != std::string::npos);
  CHECK(Example().read(std::string(200, '[') + std::string(200, ']')).find("nested more than 16 deep") !=
        std::string::npos);
  CHECK(Example().read(std::string("\x00\x01\xff", 3)) != "");
}

TEST_CASE("mistakes beyond the bound are counted") {
  std::string text = "server: a\ndisks: [/dev/vdb]\n";
  for (int i = 0; i < 60; ++i) text += "unknown_" + std::to_string(i) + ": 1\n";
  const std::string message = Example().read(text);
  CHECK(message.substr(message.size() - 16) == "\n... and 10 more");
}

TEST_CASE("drop-ins are merged in order of their names and keep their own positions") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("agent.yaml");
  write(path, "server: a\ndisks: [/dev/vdb]\ncapture: {ring_bytes: 1MiB, drain: false}\n");
  write(path + ".d/20-more.yaml", "capture:\n  ring_bytes: 2MiB\ndisks: [/dev/vdc, disks/d]\n");
  write(path + ".d/60-admin.yaml", "# nothing\n\ncapture:\n  ring_bytes: 4MiB\nreceiver: {port: 0}\n");
  write(path + ".d/ignored.conf", "nonsense: 1\n");
  auto reader = ConfigReader::load(path);
  REQUIRE(reader.ok());
  CHECK((*reader)->files().size() == 3);
  Example example;
  CHECK(example.read(**reader) ==
        path + ".d/60-admin.yaml:5:18: 'receiver.port' is '0', out of range; allowed: 1 to 65535");
  CHECK(example.ring_bytes == 4ull << 20);
  CHECK_FALSE(example.drain);
  CHECK(example.disks == std::vector<std::string>{"/dev/vdc", path + ".d/disks/d"});
}

TEST_CASE("a missing file is an invalid configuration that names it") {
  const auto reader = ConfigReader::load("/nonexistent/agent.yaml");
  REQUIRE_FALSE(reader.ok());
  CHECK(reader.error().kind() == ErrorKind::kInvalidConfig);
  CHECK(reader.error().message() == "read configuration: open '/nonexistent/agent.yaml': No such file or directory");
}

TEST_CASE("the merged result is printed with its defaults and can be read back") {
  auto reader =
      ConfigReader::parse("disks: [{path: /dev/vdb}, \"/dev/disk/by-id/a: b\"]\nserver: 'true'\n", "/etc/a.yaml");
  Example first;
  REQUIRE(first.read(*reader) == "");
  const std::string printed = reader->print();
  CHECK(printed ==
        "server: \"true\"\n"
        "disks:\n"
        "  - path: /dev/vdb\n"
        "  - \"/dev/disk/by-id/a: b\"\n"
        "tls:\n"
        "  key: /default/key  # default\n"
        "receiver:\n"
        "  port: 7600  # default\n"
        "capture:\n"
        "  ring_bytes: 256MiB  # default\n"
        "  pause: 5s  # default\n"
        "  engine: auto  # default\n"
        "  drain: true  # default\n");
  Example second;
  CHECK(second.read(printed) == "");
  CHECK(second.disks == first.disks);
  CHECK(second.server == "true");
}

TEST_CASE("rules across values can be reported at a value") {
  auto reader = ConfigReader::parse("low: 5\nhigh: 3\n", "/etc/a.yaml");
  ConfigMap root = reader->root();
  if (root.integer("low", {0, 9}) > root.integer("high", {0, 9})) root.mistake("high", "must not be below 'low'");
  CHECK(reader->finish().error().message() == "/etc/a.yaml:2:7: 'high': must not be below 'low'");
}
