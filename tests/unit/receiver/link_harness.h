// SPDX-License-Identifier: Apache-2.0
// A link and a receiver in one process, over real TLS on the loopback: an agent that sends a stream everybody can
// compute, certificates for both, and a proxy that cuts and stalls connections between them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "daemon/base/unique_fd.h"
#include "daemon/receiver/receiver_server.h"
#include "daemon/wire/pki.h"
#include "daemon/wire/tls_link.h"
#include "tests/unit/temporary_directory.h"

namespace understudy {

// Certificates below `directory`/pki.
class TestPki {
 public:
  explicit TestPki(const std::string& directory);
  // Issues the certificate when it is first asked for.
  TlsFiles files(WireRole role, const std::string& name);

 private:
  std::string directory_;
};

// Record n of the stream has the same content whenever it is made. Batch 0 is GEOMETRY, GAP, COPY of zeros, HEAL; each
// further one has writes_per_batch WRITEs: anywhere and all new, or, with `rewrites`, to few places, of which each time
// a few bytes change.
class TestStream {
 public:
  static constexpr std::uint64_t kDiskBytes = 8ull << 20;

  TestStream(Uuid server, unsigned writes_per_batch, std::uint32_t write_bytes, bool rewrites = false);

  const Uuid& server() const { return server_; }
  Seq last_seq_of(std::uint64_t batch) const { return 4 + batch * writes_per_batch_; }
  // The batch that begins behind `seq`; seq must end a batch.
  std::uint64_t batch_behind(Seq seq) const;
  std::unique_ptr<OutgoingBatch> make(std::uint64_t batch, std::uint64_t epoch) const;
  // The disk after that batch.
  std::vector<std::byte> disk_after(std::uint64_t batch) const;

 private:
  struct Write {
    std::uint64_t offset_bytes = 0;
    std::vector<std::byte> payload;
  };
  Write write_of(Seq seq) const;

  Uuid server_;
  Uuid capture_id_;
  unsigned writes_per_batch_;
  std::uint32_t write_bytes_;
  bool rewrites_;
};

// Drives a TlsLink through a TestStream as an agent would: continues where the receiver says, never sends more than it
// may queue.
class TestAgent {
 public:
  TestAgent(const TestStream& stream, TlsLinkOptions options);

  // Polls and sends until `done` or the time is over; returns whether it was done. Batches up to `last_batch` are sent.
  bool run(std::uint64_t last_batch, const std::function<bool()>& done,
           std::chrono::milliseconds timeout = std::chrono::seconds(30));
  bool run_until_acked(std::uint64_t last_batch, std::chrono::milliseconds timeout = std::chrono::seconds(60));

  TlsLink& link() { return *link_; }
  bool up = false;
  unsigned ups = 0;
  unsigned downs = 0;
  Seq acked = 0;
  std::optional<LinkUp> last_up;
  std::string last_down;
  std::vector<std::string> down_reasons;  // of every LinkDown, oldest first
  // Whether any LinkDown so far names `text`: behind a goodbye there may be failed attempts to connect again.
  bool was_down_for(std::string_view text) const;
  std::vector<std::string> refusals;
  std::vector<LinkNotice> notices;

 private:
  void take(const LinkEvent& event);

  const TestStream& stream_;
  const std::uint64_t epoch_;
  std::unique_ptr<TlsLink> link_;
  std::uint64_t next_batch_ = 0;
};

// Forwards connections to a port of this machine.
class TestProxy {
 public:
  explicit TestProxy(std::uint16_t target_port);
  ~TestProxy();

  std::uint16_t port() const { return port_; }
  // Cuts each connection after so many bytes, counted over both directions; 0 = never.
  std::atomic<std::uint64_t> cut_after_bytes{0};
  // While set, nothing is forwarded and closing is not passed on: a cut cable.
  std::atomic<bool> stalled{false};
  std::atomic<unsigned> connections{0};
  std::atomic<std::uint64_t> bytes{0};

 private:
  void accept_loop();
  void forward(UniqueFd client);

  std::uint16_t target_port_;
  std::uint16_t port_ = 0;
  UniqueFd listener_;
  std::atomic<bool> stop_{false};
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<std::thread> forwarders_;
};

// Everything a test needs in one place: pki, a receiver "dr-1" with a store for "web-1", options for its agent.
class LinkFixture {
 public:
  LinkFixture();

  ReceiverConfig config();
  std::unique_ptr<ReceiverServer> start_receiver(std::uint16_t port = 0, std::size_t queue_bytes_max = 0);
  TlsLinkOptions agent_options(const TestStream& stream, std::uint16_t port);
  std::string store_path() const { return directory.file("store"); }
  // Whether the store's disk after `batch` is what the stream says, and the whole journal is sound.
  void check_store(const TestStream& stream, std::uint64_t batch);

  TemporaryDirectory directory;
  TestPki pki;
  SessionTimes times{.proof_ns = 500'000'000};  // of receivers that start
};

}  // namespace understudy
