// SPDX-License-Identifier: Apache-2.0
// A session without its connection: what an agent's bytes lead to, and what is to be sent back. Frames are cut and
// decoded, deltas resolved, the state machine asked, batches handed over, acknowledgements merged, and the memory of
// batches that wait for the store is bounded. receiver_session.h puts it on TLS and a socket; the simulator on a
// simulated network.
//
// No socket, clock or thread inside. Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "daemon/receiver/buffer_pool.h"
#include "daemon/wire/delta_codec.h"
#include "daemon/wire/frame_reader.h"
#include "daemon/wire/session.h"

namespace understudy {

// What a session asks of whoever has its connection. Called inside the core's functions; must not call them back.
class SessionPort {
 public:
  virtual ~SessionPort() = default;
  // The agent said who it is: it is to get a store, or to be refused.
  virtual void session_greet(const Hello& hello) = 0;
  // A batch for the store.
  virtual void session_batch(Buffer batch) = 0;
  // A question about what the store holds behind the batches before it; to be answered by answered().
  virtual void session_question(DigestQuestion question) { (void)question; }
  // The session is over: send what output() has, then close. Called last, and once.
  virtual void session_finish(Error error, bool refused) = 0;
};

class SessionCore {
 public:
  // `pool` and `port` must outlive it. With `queue_bytes_max` waiting for the store nothing more is to be read.
  SessionCore(const std::string& receiver_name, std::size_t queue_bytes_max, BufferPool& pool, SessionPort& port,
              std::uint64_t now_ns, std::uint64_t handshake_ns_max = kWireHandshakeNsMax);

  // An event of the state machine; nothing once the session is over.
  void step(SessionEvent event, std::uint64_t now_ns);
  // Puts a frame into the output past the state machine.
  void say(const Message& message) { append_frame(message, output_); }

  // --- what came: read into space(), then received() ---
  std::span<std::byte> space() { return reader_.space(); }
  void received(std::size_t bytes, std::uint64_t now_ns);
  bool in_frame() const { return reader_.in_frame(); }
  // Too much waits for the store: nothing is to be read.
  bool paused() const { return paused_; }

  // --- what is to be sent: output(), then sent() ---
  std::span<const std::byte> output() const { return std::span(output_).subspan(output_done_); }
  void sent(std::size_t bytes);

  // --- what the store says ---
  // True = it is paused no longer.
  bool took(std::size_t bytes);
  // While `output_blocked`, only the newest acknowledgement is kept; flush_ack() sends it later.
  void committed(Seq seq, bool output_blocked, std::uint64_t now_ns);
  void flush_ack(std::uint64_t now_ns);

  // To a question of a digest scan.
  void answered(const DigestAnswer& answer, std::uint64_t now_ns);

  // Gives memory back early.
  void drop_buffers();

  bool over() const { return over_; }
  ServerSession::State state() const { return session_.state(); }
  const PeerIdentity& peer() const { return session_.peer(); }
  std::size_t queued_bytes() const { return queued_bytes_; }
  void set_queue_bytes_max(std::size_t bytes) { queue_bytes_max_ = bytes; }
  const DeltaCache& delta_cache() const { return decoder_.cache(); }
  std::uint64_t delta_batches() const { return delta_batches_; }

 private:
  void perform();
  void finish(Error error, bool refused);
  void broken(const Error& error);
  void deliver(Buffer batch);
  Status deliver_delta();

  std::size_t queue_bytes_max_;
  BufferPool& pool_;
  SessionPort& port_;
  ServerSession session_;
  std::vector<SessionAction> actions_;
  FrameReader reader_;
  std::vector<std::byte> payload_;
  Buffer batch_;  // being received
  DeltaDecoder decoder_;
  std::uint64_t delta_batches_ = 0;  // that were rebuilt
  std::size_t questions_ = 0;     // about digests, that wait for an answer
  std::size_t queued_bytes_ = 0;  // given to the store and not taken yet
  std::vector<std::byte> output_;
  std::size_t output_done_ = 0;
  Seq pending_ack_ = 0;
  bool paused_ = false;
  bool over_ = false;
};

}  // namespace understudy
