// SPDX-License-Identifier: Apache-2.0
// The agent's link to its receiver: one TLS connection, kept up for as long as the object lives.
//
// Threads: as Link says; everything happens on threads of the link's own (one for the network, some for encoding), name
// look-ups included, so no call here waits for the network. A batch's payload is read, and its keepalives are released,
// on an encoder thread. When poll() has returned LinkDown or LinkRefused, no memory of any batch sent before is
// referenced any more.
//
// Retries: after 0.2 s, doubling up to 10 s; after a refusal, 30 s; each up to a quarter longer. The TLS files are read
// anew for each attempt, so renewed certificates need no restart.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "daemon/replicate/link.h"
#include "daemon/wire/bandwidth.h"
#include "daemon/wire/frame_codec.h"
#include "daemon/wire/tls_context.h"

namespace understudy {

struct TlsLinkOptions {
  std::string host;  // name or address of the receiver
  std::uint16_t port = 7600;
  std::string receiver_name;  // what its certificate must say
  TlsFiles tls;
  Compression compression;
  bool adaptive_compression = true;  // do less for a batch while that is what slows the stream down
  std::uint64_t delta_cache_bytes = 0;  // memory for byte-level deltas here, and as much at the receiver; 0 = none
  BandwidthPlan bandwidth;
  unsigned encoder_threads = 1;
  // Server, names, epoch, disks and software; `instance` and `boot_id` are filled in when nil.
  Hello hello;

  // For tests; nanoseconds.
  std::uint64_t retry_ns_min = 200'000'000;
  std::uint64_t retry_ns_max = 10'000'000'000;
  std::uint64_t refused_retry_ns = 30'000'000'000;
};

class TlsLink : public Link {
 public:
  // Starts connecting. kInvalidArgument when a name or number in the options cannot be.
  static Result<std::unique_ptr<TlsLink>> start(TlsLinkOptions options);
  // Says goodbye and closes. Batches not yet written are dropped: wait for their acks first.
  ~TlsLink() override;

  void set_waker(std::function<void()> waker) override;
  std::optional<LinkEvent> poll() override;
  void send(std::unique_ptr<OutgoingBatch> batch) override;
  LinkStatistics statistics() const override;
  void ask_digest(const DigestQuestion& question) override;

  // From the next batch on.
  void set_compression(const Compression& compression, bool adaptive);
  // From the next batch on: the caches at both ends begin anew with this size, or the receiver's bound. 0 = no deltas.
  void set_delta_cache_bytes(std::uint64_t bytes);
  // From now on, for what is sent to the socket, TLS included.
  void set_bandwidth(const BandwidthPlan& plan);
  // For the next session: epoch or disks have changed. Thread-safe.
  void set_hello(const Hello& hello);

 private:
  class Connection;
  explicit TlsLink(std::unique_ptr<Connection> connection);
  std::unique_ptr<Connection> connection_;
};

}  // namespace understudy
