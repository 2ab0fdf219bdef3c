// SPDX-License-Identifier: Apache-2.0
// One connection between agent and receiver, both ends, as pure state machines: no socket, clock or store inside.
// The caller feeds events, and does what the actions say, in their order. Times are of one steady clock.
//
//   agent (ClientSession)                        receiver (ServerSession)
//   idle --connected--> expect-welcome           expect-hello --hello--> attaching --attached--> streaming
//        --welcome--> streaming                      |                      |                        |
//   any  --refuse, bye, error, stop--> closed        +------ error, refuse, bye, stop --> closed <---+
//
// Rules both keep: a side that has sent nothing for kWirePingIntervalNs sends PING; a side that is reading and has got
// nothing for kWireSilenceNsMax gives the peer up. BATCH is accepted only while streaming. ACK goes up only, and never
// beyond what was sent.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/wire/frame_codec.h"
#include "daemon/wire/identity.h"

namespace understudy {

inline constexpr std::uint64_t kWirePingIntervalNs = 4'000'000'000;
inline constexpr std::uint64_t kWireSilenceNsMax = 15'000'000'000;
// From the connection to a complete HELLO.
inline constexpr std::uint64_t kWireHandshakeNsMax = 10'000'000'000;

// --- actions ---
struct SendMessage {
  Message message;
};
// Receiver: find the store of this server; answer with Attached or AttachRefused.
struct AttachStore {
  Hello hello;
};
// Receiver: hand the batch that was just received to the store.
struct DeliverBatch {};
// Receiver: hand the question to the store, behind the batches before it.
struct DeliverDigestQuestion {
  DigestQuestion question;
};
// Receiver: rebuild the batch that was just received as a delta, and hand it to the store.
struct DeliverDelta {};
// Receiver: empty the cache for deltas; from now on it is so large.
struct ResizeDeltaCache {
  std::uint64_t bytes = 0;
};
// Agent: the receiver accepted; its answer.
struct SessionUp {
  Welcome welcome;
};
struct SessionAck {
  Seq seq = 0;
};
struct SessionNotice {
  Notice notice;
};
struct SessionDigestAnswer {
  DigestAnswer answer;
};
// Send what is queued, close, and report. `refused`: one of the two will not have the other; not worth an early retry.
struct CloseSession {
  Error error;
  bool refused = false;
};
using SessionAction =
    std::variant<SendMessage, AttachStore, DeliverBatch, DeliverDelta, ResizeDeltaCache, DeliverDigestQuestion,
                 SessionUp, SessionAck, SessionNotice, SessionDigestAnswer, CloseSession>;

// --- events ---
// TLS is up and the peer's certificate is proved.
struct PeerConnected {
  PeerIdentity peer;
};
struct FrameReceived {
  Message message;
};
// Bytes came or went, not necessarily whole frames.
struct BytesReceived {};
struct BytesSent {};
struct ClockTick {
  bool reading = true;          // false while the caller does not read: silence then proves nothing
  bool output_pending = false;  // bytes wait to be written: no PING on top
};
// Agent: a batch is about to be written.
struct BatchSent {
  Seq last_seq = 0;
};
// Receiver: answers to AttachStore.
struct Attached {
  Welcome welcome;
};
struct AttachRefused {
  RefuseCode code = RefuseCode::kStoreFailed;
  std::string text;
};
// Receiver: durable up to seq.
struct Committed {
  Seq seq = 0;
};
// Receiver: what the store says to a question.
struct DigestAnswered {
  DigestAnswer answer;
};
struct NoticeChanged {
  Notice notice;
};
// Ends the session on purpose.
struct StopSession {
  ByeCode code = ByeCode::kShutdown;
  std::string text;
};
using SessionEvent = std::variant<PeerConnected, FrameReceived, BytesReceived, BytesSent, ClockTick, BatchSent,
                                  Attached, AttachRefused, Committed, DigestAnswered, NoticeChanged, StopSession>;

// What is the same at both ends: signs of life, and how a session ends.
class SessionBase {
 protected:
  explicit SessionBase(std::uint64_t now_ns) : received_ns_(now_ns), sent_ns_(now_ns) {}

  // Takes events that only tell that bytes moved; notes the time of those that bring some. True = it was such a one.
  bool take_traffic(const SessionEvent& event, std::uint64_t now_ns);
  // Gives a silent peer up ("no sign of life from the agent ..."), or says something when nothing was said for long.
  void keep_alive(const ClockTick& tick, std::uint64_t now_ns, const char* peer, std::vector<SessionAction>& actions);
  void refuse(RefuseCode code, std::string text, std::vector<SessionAction>& actions);
  // Says goodbye because of what the peer sent.
  void say_bad_data(const Error& error, std::vector<SessionAction>& actions);
  void stop(StopSession stop, bool say_so, std::vector<SessionAction>& actions);
  void close(Error error, bool refused, std::vector<SessionAction>& actions);
  static Error unexpected_message(const Message& message);
  bool closed() const { return closed_; }

 private:
  bool closed_ = false;
  std::uint64_t received_ns_;
  std::uint64_t sent_ns_;
  std::uint64_t ping_token_ = 0;
};

struct ServerSessionOptions {
  std::string receiver_name;
  std::uint64_t handshake_ns_max = kWireHandshakeNsMax;
};

class ServerSession : private SessionBase {
 public:
  enum class State : std::uint8_t { kConnecting, kExpectHello, kAttaching, kStreaming, kClosed };

  // `now_ns`: when the connection was accepted.
  ServerSession(ServerSessionOptions options, std::uint64_t now_ns);

  // May this frame come now? Asked before anything is allocated for its payload.
  Status admit(const FrameHeader& header) const;
  // Appends to `actions`. After CloseSession every event is ignored.
  void step(SessionEvent event, std::uint64_t now_ns, std::vector<SessionAction>& actions);
  // A frame or header could not be decoded.
  void broken(const Error& error, std::vector<SessionAction>& actions);

  State state() const { return closed() ? State::kClosed : state_; }
  const PeerIdentity& peer() const { return peer_; }

 private:
  void received(Message message, std::vector<SessionAction>& actions);
  void hello(Hello hello, std::vector<SessionAction>& actions);
  void resize_delta_cache(std::uint64_t bytes, std::vector<SessionAction>& actions);
  void tick(const ClockTick& tick, std::uint64_t now_ns, std::vector<SessionAction>& actions);

  ServerSessionOptions options_;
  State state_ = State::kConnecting;
  PeerIdentity peer_;
  std::uint64_t accepted_ns_;
  std::uint64_t delta_cache_bytes_max_ = 0;  // as granted in WELCOME
  Seq acked_seq_ = 0;
};

struct ClientSessionOptions {
  std::string receiver_name;  // the certificate must say so
  Hello hello;
};

class ClientSession : private SessionBase {
 public:
  enum class State : std::uint8_t { kIdle, kExpectWelcome, kStreaming, kClosed };

  ClientSession(ClientSessionOptions options, std::uint64_t now_ns);

  Status admit(const FrameHeader& header) const;
  void step(SessionEvent event, std::uint64_t now_ns, std::vector<SessionAction>& actions);
  void broken(const Error& error, std::vector<SessionAction>& actions);

  State state() const { return closed() ? State::kClosed : state_; }

 private:
  void connected(const PeerIdentity& peer, std::vector<SessionAction>& actions);
  void received(Message message, std::vector<SessionAction>& actions);
  void welcome(Welcome welcome, std::vector<SessionAction>& actions);
  void ack(Seq seq, std::vector<SessionAction>& actions);

  ClientSessionOptions options_;
  State state_ = State::kIdle;
  Seq sent_seq_ = 0;
  Seq acked_seq_ = 0;
};

}  // namespace understudy
