// SPDX-License-Identifier: Apache-2.0
// One connection of an agent: TLS, frames, the session state machine, and the hand-over of batches to the store's
// thread. Received memory is bounded: with kSessionQueueBytesMax waiting for the store the socket is not read any more,
// and TCP slows the agent down.
//
// When the agent closes or dies, everything it had sent is still read and given to the store: it may be all that is
// left of the server.
//
// Threads: public functions may be called from any thread; everything else runs on a strand of the network threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "daemon/base/unique_fd.h"
#include "daemon/receiver/store_worker.h"
#include "daemon/wire/frame_codec.h"
#include "daemon/wire/identity.h"
#include "daemon/wire/tls_context.h"

namespace boost::asio {
class io_context;
}

namespace understudy {

class ReceiverSession;

// What a session asks of the receiver. Called on the session's strand.
class SessionHost {
 public:
  virtual ~SessionHost() = default;
  // The agent said who it is: answer with attach() or refuse().
  virtual void session_hello(const std::shared_ptr<ReceiverSession>& session, const Hello& hello) = 0;
  // Called once; `reason` in words. `greeted` = session_hello() was called.
  virtual void session_ended(const std::shared_ptr<ReceiverSession>& session, bool greeted) = 0;
};

struct SessionStatus {
  std::string server_name;  // empty before hello
  std::string address;
  std::string software;
  std::string certificate_sha256;
  Uuid boot_id;  // of the agent's machine
  std::uint64_t connected_wall_ns = 0;
  std::uint64_t wire_bytes_in = 0;  // ciphertext
  std::uint64_t queued_bytes = 0;
  bool streaming = false;
  bool paused = false;  // not read, because the store is behind
  std::uint64_t delta_cache_bytes = 0;      // memory of the cache for deltas
  std::uint64_t delta_cache_bytes_max = 0;  // as the agent asked for, at most what the store's configuration allows
  std::uint64_t delta_batches = 0;          // that were rebuilt
};

// How long a peer has. Shorter ones are for tests.
struct SessionTimes {
  std::uint64_t handshake_ns = 10'000'000'000;  // to say who it is: kWireHandshakeNsMax
  std::uint64_t proof_ns = 3'000'000'000;       // to show that it is alive
  std::uint64_t linger_ns = 2'000'000'000;      // to take our last words
};

struct SessionOptions {
  std::string receiver_name;
  std::string software;
  Uuid boot_id;                     // of this machine
  std::size_t queue_bytes_max = 0;  // until attach() says it
  SessionTimes times;
};

// What one server's session may take from the others.
struct SessionLimits {
  std::size_t queue_bytes_max = 0;
  std::uint64_t bytes_per_second = 0;       // 0 = no limit
  std::uint64_t delta_cache_bytes_max = 0;  // memory the agent may make us use for deltas; 0 = no deltas
};

class ReceiverSession : public StoreClient {
 public:
  // `host` and `pool` must outlive the network threads.
  static std::shared_ptr<ReceiverSession> make(boost::asio::io_context& context, SessionHost& host, BufferPool& pool,
                                               const SessionOptions& options, std::shared_ptr<const TlsContext> tls,
                                               UniqueFd socket, std::string address);

  virtual void start() = 0;
  // Answers to session_hello().
  virtual void attach(std::shared_ptr<StoreWorker> worker, const Hello& hello, const SessionLimits& limits) = 0;
  virtual void set_limits(const SessionLimits& limits) = 0;
  virtual void refuse(RefuseCode code, std::string text) = 0;
  // Says goodbye and closes. What was received is still given to the store.
  virtual void stop(ByeCode code, std::string text) = 0;
  // Is there anybody at the other end? Asks the peer, and answers within a few seconds: it said something, or its
  // machine acknowledged what we sent.
  virtual void prove_alive(std::function<void(bool)> answer) = 0;
  virtual SessionStatus status() const = 0;
};

}  // namespace understudy
