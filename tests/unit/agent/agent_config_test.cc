// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent_config.h"

#include <algorithm>

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

const std::string kGood = R"(
server: web-1
disks: [{path: /dev/vdb}, /dev/vdc]
receiver: {address: dr.example, port: 7601, name: dr-1}
tls: {authority: /etc/ca.crt, certificate: /etc/web-1.crt, key: /etc/web-1.key}
)";

std::string mistakes(const std::string& text) {
  const auto config = parse_agent_config(text, "agent.yaml");
  REQUIRE_FALSE(config.ok());
  CHECK(config.error().kind() == ErrorKind::kInvalidConfig);
  return config.error().message();
}

std::size_t lines(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + (text.ends_with('\n') ? 0 : 1);
}

}  // namespace

TEST_CASE("agent config: required keys and defaults") {
  const auto config = parse_agent_config(kGood, "agent.yaml");
  REQUIRE_MESSAGE(config.ok(), (config.ok() ? "" : config.error().message()));
  CHECK(config->server == "web-1");
  CHECK(config->disks == std::vector<std::string>{"/dev/vdb", "/dev/vdc"});
  CHECK(config->receiver_address == "dr.example");
  CHECK(config->receiver_port == 7601);
  CHECK(config->receiver_name == "dr-1");
  CHECK(config->ring_bytes == 256u << 20);
  CHECK(config->granule_bytes == 64u << 10);
  CHECK(config->engine == ReadEngineChoice::kAuto);
  CHECK(config->buffers == 16);
  CHECK(config->compression.codec == Codec::kZstd);
  CHECK(config->state_directory == "/var/lib/understudy/agent");
  CHECK(config->control_socket == "/run/understudy/agent.sock");
  CHECK(config->stop_timeout_ns == 5'000'000'000);
}

TEST_CASE("agent config: everything can be said") {
  const auto config = parse_agent_config(kGood + R"(
capture: {ring_bytes: 64MiB, granule_bytes: 128KiB}
copy: {engine: threads, buffer_bytes: 512KiB, buffers: 4}
wire: {compression: lz4, level: 3}
state_directory: /srv/state
control_socket: /run/a.sock
bpffs: /mnt/bpf
stop_timeout: 2s
log_level: debug
)",
                                         "agent.yaml");
  REQUIRE_MESSAGE(config.ok(), (config.ok() ? "" : config.error().message()));
  CHECK(config->ring_bytes == 64u << 20);
  CHECK(config->granule_bytes == 128u << 10);
  CHECK(config->engine == ReadEngineChoice::kThreads);
  CHECK(config->buffer_bytes == 512u << 10);
  CHECK(config->buffers == 4);
  CHECK(config->compression.codec == Codec::kLz4);
  CHECK(config->bpffs == "/mnt/bpf");
  CHECK(config->stop_timeout_ns == 2'000'000'000);
  CHECK(config->log_level == LogLevel::kDebug);
}

TEST_CASE("agent config: all mistakes of a file at once, each with its place") {
  const std::string said = mistakes(R"(server: web.1
disks: [/dev/vdb, {path: /dev/vdb}]
receiver: {address: dr, name: dr-1, prot: 1}
tls: {authority: a, certificate: b}
capture: {ring_bytes: 100MiB}
copy: {engine: uring, buffer_bytes: 64KiB}
wire: {compression: gzip}
)");
  INFO(said);
  CHECK(said.find("agent.yaml:1:") != std::string::npos);
  CHECK(said.find("stands here twice") != std::string::npos);
  CHECK(said.find("unknown key 'receiver.prot'") != std::string::npos);
  CHECK(said.find("'tls.key'") != std::string::npos);
  CHECK(said.find("no power of two; the next ones are 64MiB and 128MiB") != std::string::npos);
  CHECK(said.find("uring") != std::string::npos);
  CHECK(said.find("gzip") != std::string::npos);
  CHECK(lines(said) == 7);
}

TEST_CASE("agent config: a granule must fit into a buffer") {
  const std::string said = mistakes(kGood + "capture: {granule_bytes: 1MiB}\ncopy: {buffer_bytes: 512KiB}\n");
  CHECK(said.find("cannot hold a granule of 1MiB") != std::string::npos);
}

TEST_CASE("agent config: auto-resume is on unless it is switched off, by a word that says so") {
  CHECK(parse_agent_config(kGood, "agent.yaml")->auto_resume);
  const auto off = parse_agent_config(kGood + "policy: {auto_resume: false}\n", "agent.yaml");
  REQUIRE(off.ok());
  CHECK_FALSE(off->auto_resume);
  CHECK(mistakes(kGood + "policy: {auto_resume: maybe}\n").find("auto_resume") != std::string::npos);
}

TEST_CASE("agent config: what a reload cannot change is named") {
  const auto running = parse_agent_config(kGood, "agent.yaml");
  REQUIRE(running.ok());
  AgentConfig wanted = *running;
  wanted.log_level = LogLevel::kDebug;
  wanted.compression.codec = Codec::kNone;
  wanted.buffers = 2;
  CHECK(settings_needing_restart(*running, wanted).empty());
  wanted.disks.push_back("/dev/vdd");
  CHECK(settings_needing_restart(*running, wanted).empty());
  wanted.buffers = 99;
  wanted.receiver_port = 1;
  CHECK(settings_needing_restart(*running, wanted) == std::vector<std::string>{"receiver", "copy.buffers"});
}

}  // namespace understudy
