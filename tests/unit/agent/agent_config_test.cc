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
  CHECK(config->capture_method == CaptureMethod::kAuto);
  CHECK(config->ring_bytes == 256u << 20);
  CHECK(config->granule_bytes == 64u << 10);
  CHECK(config->engine == ReadEngineChoice::kAuto);
  CHECK(config->buffers == 16);
  CHECK(config->compression.codec == Codec::kZstd);
  CHECK(config->state_directory == "/var/lib/understudy/agent");
  CHECK(config->control_socket == "/run/understudy/agent.sock");
  CHECK(config->stop_timeout_ns == 5'000'000'000);
  CHECK(config->collapse_after_ns == 0);
  CHECK(config->existing_data_only);
  CHECK_FALSE(config->leave_out_swap);
}

TEST_CASE("agent config: everything can be said") {
  const auto config = parse_agent_config(kGood + R"(
capture: {method: module, ring_bytes: 64MiB, granule_bytes: 128KiB}
copy: {engine: threads, buffer_bytes: 512KiB, buffers: 4, existing_data_only: true, leave_out_swap: true}
wire: {compression: lz4, level: 3, deltas: on, delta_cache_bytes: 8MiB}
state_directory: /srv/state
control_socket: /run/a.sock
bpffs: /mnt/bpf
stop_timeout: 2s
backlog:
  collapse_after: 5min
log_level: debug
)",
                                         "agent.yaml");
  REQUIRE_MESSAGE(config.ok(), (config.ok() ? "" : config.error().message()));
  CHECK(config->capture_method == CaptureMethod::kModule);
  CHECK(config->ring_bytes == 64u << 20);
  CHECK(config->granule_bytes == 128u << 10);
  CHECK(config->engine == ReadEngineChoice::kThreads);
  CHECK(config->buffer_bytes == 512u << 10);
  CHECK(config->buffers == 4);
  CHECK(config->compression.codec == Codec::kLz4);
  CHECK(config->delta_cache_bytes == 8u << 20);
  CHECK(config->bpffs == "/mnt/bpf");
  CHECK(config->stop_timeout_ns == 2'000'000'000);
  CHECK(config->collapse_after_ns == 300'000'000'000);
  CHECK(config->log_level == LogLevel::kDebug);
}

TEST_CASE("agent config: all mistakes of a file at once, each with its place") {
  const std::string said = mistakes(R"(server: web.1
disks: [/dev/vdb, {path: /dev/vdb}]
receiver: {address: dr, name: dr-1, prot: 1}
tls: {authority: a, certificate: b}
capture: {ring_bytes: 100MiB, method: dkms}
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
  CHECK(said.find("dkms") != std::string::npos);
  CHECK(said.find("gzip") != std::string::npos);
  CHECK(lines(said) == 8);
}

TEST_CASE("agent config: deltas are on, can be off, and have bounds") {
  CHECK(parse_agent_config(kGood, "agent.yaml")->delta_cache_bytes == 64u << 20);
  CHECK(parse_agent_config(kGood + "wire: {deltas: off}\n", "agent.yaml")->delta_cache_bytes == 0);
  const std::string said = mistakes(kGood + "wire: {delta_cache_bytes: 4KiB}\n");
  CHECK(said.find("agent.yaml:6:27: ") != std::string::npos);
  CHECK(said.find("1MiB") != std::string::npos);
  CHECK(said.find("4GiB") != std::string::npos);
  CHECK(mistakes(kGood + "wire: {deltas: maybe}\n").find("maybe") != std::string::npos);
}

TEST_CASE("agent config: bandwidth, and windows by time of day") {
  const auto config = parse_agent_config(kGood + R"(
wire:
  bandwidth:
    limit: 10MiB/s
    windows:
      - {from: "08:00", to: "18:30", limit: 2MiB/s, days: [mon, fri]}
      - {from: "22:00", to: "06:00", limit: 1GiB/s}
)",
                                         "agent.yaml");
  REQUIRE_MESSAGE(config.ok(), (config.ok() ? "" : config.error().message()));
  CHECK(config->bandwidth == BandwidthPlan{10u << 20, {{480, 1110, 0x11, 2u << 20}, {1320, 360, 0x7f, 1u << 30}}});
  CHECK(parse_agent_config(kGood, "agent.yaml")->bandwidth == BandwidthPlan{});
  CHECK(settings_needing_restart(*parse_agent_config(kGood, "agent.yaml"), *config).empty());
}

TEST_CASE("agent config: bandwidth that cannot be is refused with its place and what may be") {
  const auto said = [](const std::string& bandwidth) {
    return mistakes(kGood + "wire:\n  bandwidth: " + bandwidth + "\n");
  };
  CHECK(said("{limit: 0}").starts_with("agent.yaml:7:22: 'wire.bandwidth.limit' is '0', not an integer with "));
  CHECK(said("{limit: 0MiB/s}") ==
        "agent.yaml:7:22: 'wire.bandwidth.limit' is '0MiB/s', out of range; allowed: 64KiB/s to 100GiB/s");
  CHECK(said("{limit: 1KiB/s}").find("out of range") != std::string::npos);
  CHECK(said("{limit: 10MiB}").find("64KiB/s to 100GiB/s") != std::string::npos);
  CHECK(said("{limit: fast/s}").find("'fast/s'") != std::string::npos);
  CHECK(said("{windows: []}").find("agent.yaml:7:") == 0);
  CHECK(said("{windows: [{from: '08:00', to: '08:00', limit: 1MiB/s}]}").find("ends when it begins") !=
        std::string::npos);
  for (const char* time : {"8:00", "24:01", "08:60", "8am", "-1:00", "08-00"}) {
    CAPTURE(time);
    const std::string text = said("{windows: [{from: '" + std::string(time) + "', to: '24:00', limit: 1MiB/s}]}");
    CHECK(text.find("agent.yaml:7:32: ") == 0);
    CHECK(text.find("00:00 to 24:00") != std::string::npos);
  }
  CHECK(said("{windows: [{from: '08:00', to: '09:00', limit: 1MiB/s, days: [monday]}]}").find("'monday' is no day") !=
        std::string::npos);
  CHECK(lines(said("{windows: [{}]}")) == 3);
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
