// SPDX-License-Identifier: Apache-2.0
// fleet_load PKI CERTIFICATES PORT AGENTS BYTES_PER_SECOND SECONDS [--greedy]
//
// AGENTS agents of the servers fleet-0, fleet-1 ... on one receiver of this machine: the production link (TLS, encoder,
// session) and stream writer, without capture and disks. Each "writes" 16 KiB blocks that compress to about half at a
// steady rate; a write is outstanding from then until it is acknowledged, which means durable. After a warm-up of a
// quarter of SECONDS, ages are integrated as the agent does (RpoMeter). With --greedy, fleet-0 sends as fast as it is
// let, and is left out of the figures.
//
// Prints one line of JSON. Certificates are issued into CERTIFICATES by the authority in PKI.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <thread>

#include "daemon/base/clock.h"
#include "daemon/replicate/rpo_meter.h"
#include "daemon/replicate/stream_writer.h"
#include "daemon/wire/pki.h"
#include "daemon/wire/tls_link.h"

namespace understudy {
namespace {

constexpr std::uint64_t kWriteBytes = 16 << 10;
constexpr std::uint64_t kDiskBytes = 1ull << 30;
constexpr std::uint64_t kGreedyWindowBytes = 64u << 20;
constexpr std::uint64_t kConnectNsMax = 60'000'000'000;

struct Load {
  std::string pki;
  std::string certificates;
  std::uint16_t port = 0;
  std::uint64_t agents = 0;
  std::uint64_t bytes_per_second = 0;
  std::uint64_t seconds = 0;
  bool greedy = false;
};

// Half noise, half text; shared by all.
std::vector<std::byte> make_blocks() {
  std::mt19937_64 random(7);
  std::vector<std::byte> blocks(64 * kWriteBytes);
  for (std::size_t at = 0; at < blocks.size(); at += 8) {
    const std::uint64_t word = at / 512 % 2 == 0 ? random() : 0x2074756f20656e6full;
    std::memcpy(blocks.data() + at, &word, 8);
  }
  return blocks;
}

class FleetAgent {
 public:
  FleetAgent(const Load& load, std::uint64_t number, const std::vector<std::byte>& blocks)
      : blocks_(blocks),
        server_(uuid_of(number)),
        capture_id_(Uuid::random()),
        greedy_(load.greedy && number == 0),
        pause_ns_(kWriteBytes * 1'000'000'000 / load.bytes_per_second),
        random_(number + 1),
        writer_(stream_options(server_), system_clock()) {
    name_ = "fleet-" + std::to_string(number);
  }

  Status start(const Load& load) {
    RETURN_IF_ERROR(pki_issue(load.pki, WireRole::kAgent, name_, load.certificates));
    TlsLinkOptions options;
    options.host = "127.0.0.1";
    options.port = load.port;
    options.receiver_name = "dr-1";
    options.tls.authority = pki_authority_certificate_path(load.certificates);
    options.tls.certificate = pki_certificate_path(load.certificates, name_);
    options.tls.key = pki_key_path(load.certificates, name_);
    options.hello.server = server_;
    options.hello.server_name = name_;
    options.hello.software = "fleet_load";
    ASSIGN_OR_RETURN(link_, TlsLink::start(std::move(options)));
    return ok_status();
  }

  Status turn(std::uint64_t now_ns) {
    if (measured_) meter_.advance(now_ns, outstanding_.empty() ? 0 : outstanding_.front().second);
    while (const auto event = link_->poll()) {
      if (const auto* up = std::get_if<LinkUp>(&*event)) {
        begin(up->position, now_ns);
      } else if (const auto* ack = std::get_if<LinkAck>(&*event)) {
        while (!outstanding_.empty() && outstanding_.front().first <= ack->seq) outstanding_.pop_front();
      } else if (const auto* down = std::get_if<LinkDown>(&*event)) {
        if (up_) return down->error;
      } else if (const auto* refused = std::get_if<LinkRefused>(&*event)) {
        return refused->error;
      }
    }
    if (!up_) return ok_status();
    const std::uint64_t window = greedy_ ? kGreedyWindowBytes : ~std::uint64_t{0};
    for (int i = 0; i < 256 && (greedy_ || now_ns >= next_write_ns_); ++i) {
      if (link_->statistics().queued_bytes + writer_batch_bytes_ >= window) break;
      write(now_ns);
    }
    if (!writer_.empty() && writer_.due(system_clock().boot_ns())) send();
    return ok_status();
  }

  void measure() { measured_ = true; }
  bool up() const { return up_; }
  bool greedy() const { return greedy_; }
  std::uint64_t written_bytes() const { return written_bytes_; }
  double p99_ms() const { return static_cast<double>(meter_.percentile_ns(0.99).value_or(0)) / 1e6; }
  double p50_ms() const { return static_cast<double>(meter_.percentile_ns(0.50).value_or(0)) / 1e6; }

 private:
  static Uuid uuid_of(std::uint64_t number) {
    Uuid uuid;
    uuid.bytes[0] = std::byte{0xf1};
    std::memcpy(uuid.bytes.data() + 8, &number, 8);
    return uuid;
  }

  static StreamWriterOptions stream_options(const Uuid& server) {
    StreamWriterOptions options;
    options.server = server;
    return options;
  }

  // Each run is a capture of its own; what an earlier one left in the store stands before its gap.
  void begin(const StreamPosition& position, std::uint64_t now_ns) {
    writer_.resume(position.seq, position.generation + 1, CaptureCursor{capture_id_, 0, 0}, position.last_time_ns);
    DiskGeometry disk;
    disk.id = server_;
    disk.name = "/dev/fleet";
    disk.size_bytes = kDiskBytes;
    writer_.add_geometry(std::vector<DiskGeometry>{disk});
    writer_.add_gap(position.seq == 0 ? GapReason::kInitialCopy : GapReason::kNewCapture);
    send();
    next_write_ns_ = now_ns + random_() % pause_ns_;
    up_ = true;
  }

  void write(std::uint64_t now_ns) {
    CaptureEvent event;
    event.offset_bytes = random_() % (kDiskBytes / kWriteBytes) * kWriteBytes;
    event.length_bytes = kWriteBytes;
    event.data = std::span(blocks_).subspan(random_() % 63 * kWriteBytes + random_() % 32 * 512, kWriteBytes);
    // When it should have been written, not when this program got round to it: its own lateness counts.
    event.boot_time_ns = greedy_ ? now_ns : next_write_ns_;
    event.position = position_ += kWriteBytes + 56;
    next_write_ns_ += pause_ns_;
    if (!writer_.fits(kWriteBytes)) send();
    outstanding_.emplace_back(writer_.add_event(event), event.boot_time_ns);
    writer_batch_bytes_ += kWriteBytes;
    written_bytes_ += kWriteBytes;
  }

  void send() {
    link_->send(writer_.close().batch);
    writer_batch_bytes_ = 0;
  }

  const std::vector<std::byte>& blocks_;
  Uuid server_;
  Uuid capture_id_;
  std::string name_;
  bool greedy_;
  std::uint64_t pause_ns_;
  std::mt19937_64 random_;
  StreamWriter writer_;
  std::uint64_t writer_batch_bytes_ = 0;
  std::unique_ptr<TlsLink> link_;
  RpoMeter meter_{3'600'000'000'000};
  std::deque<std::pair<Seq, std::uint64_t>> outstanding_;  // last record, when written
  std::uint64_t next_write_ns_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t written_bytes_ = 0;
  bool measured_ = false;
  bool up_ = false;
};

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

Status run(const Load& load) {
  const std::vector<std::byte> blocks = make_blocks();
  std::vector<std::unique_ptr<FleetAgent>> agents;
  for (std::uint64_t i = 0; i < load.agents; ++i) {
    agents.push_back(std::make_unique<FleetAgent>(load, i, blocks));
    RETURN_IF_ERROR(agents.back()->start(load));
  }
  const std::uint64_t began_ns = system_clock().boot_ns();
  std::uint64_t all_up_ns = 0;
  std::uint64_t written_before = 0;
  std::uint64_t measured_from_ns = 0;
  while (true) {
    const std::uint64_t now_ns = system_clock().boot_ns();
    if (all_up_ns == 0) {
      if (std::all_of(agents.begin(), agents.end(), [](const auto& agent) { return agent->up(); })) all_up_ns = now_ns;
      if (now_ns - began_ns > kConnectNsMax) return Error(ErrorKind::kTimeout, "not all agents could connect in 60 s");
    } else if (measured_from_ns == 0 && now_ns - all_up_ns >= load.seconds * 250'000'000) {
      measured_from_ns = now_ns;
      for (const auto& agent : agents) {
        agent->measure();
        if (!agent->greedy()) written_before += agent->written_bytes();
      }
    } else if (now_ns - all_up_ns >= load.seconds * 1'000'000'000) {
      break;
    }
    for (const auto& agent : agents) RETURN_IF_ERROR(agent->turn(system_clock().boot_ns()));
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  const double seconds = static_cast<double>(system_clock().boot_ns() - measured_from_ns) / 1e9;
  std::vector<double> p50;
  std::vector<double> p99;
  double steady = -static_cast<double>(written_before);
  double greedy = 0;
  for (const auto& agent : agents) {
    if (agent->greedy()) {
      greedy = static_cast<double>(agent->written_bytes());
      continue;
    }
    p50.push_back(agent->p50_ms());
    p99.push_back(agent->p99_ms());
    steady += static_cast<double>(agent->written_bytes());
  }
  std::printf("{\"p50_ms\": %.2f, \"p99_ms\": %.2f, \"worst_p99_ms\": %.2f, \"bytes_per_second\": %.0f, "
              "\"greedy_bytes_per_second\": %.0f}\n",
              percentile(p50, 0.5), percentile(p99, 0.99), percentile(p99, 1.0), steady / seconds,
              greedy / (seconds * 4 / 3));
  return ok_status();
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  using namespace understudy;
  if (argc < 7 || argc > 8 || (argc == 8 && std::strcmp(argv[7], "--greedy") != 0)) {
    std::fprintf(stderr, "usage: fleet_load PKI CERTIFICATES PORT AGENTS BYTES_PER_SECOND SECONDS [--greedy]\n");
    return 2;
  }
  const auto number = [&](int at) { return std::strtoull(argv[at], nullptr, 10); };
  const Load load{argv[1], argv[2], static_cast<std::uint16_t>(number(3)), number(4), number(5), number(6), argc == 8};
  if (load.port == 0 || load.agents == 0 || load.bytes_per_second == 0 || load.seconds == 0) {
    std::fprintf(stderr, "fleet_load: port, agents, rate and seconds must be above 0\n");
    return 2;
  }
  if (const Status status = run(load); !status.ok()) {
    std::fprintf(stderr, "fleet_load: %s\n", status.error().message().c_str());
    return 1;
  }
  return 0;
}
