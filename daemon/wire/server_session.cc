// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "daemon/base/check.h"
#include "daemon/base/text.h"
#include "daemon/wire/session.h"

namespace understudy {

ServerSession::ServerSession(ServerSessionOptions options, std::uint64_t now_ns)
    : SessionBase(now_ns), options_(std::move(options)), accepted_ns_(now_ns) {}

Status ServerSession::admit(const FrameHeader& header) const {
  const auto unexpected = [&](std::string_view when) {
    return Status(Error(ErrorKind::kCorrupt, "unexpected " + std::string(frame_type_name(header.type)) + " frame of " +
                                                 std::to_string(header.payload_bytes) + " bytes " + std::string(when)));
  };
  switch (state()) {
    case State::kConnecting:
    case State::kClosed: return unexpected("outside a session");
    case State::kExpectHello:
      if (header.type == FrameType::kHello || header.type == FrameType::kRefuse || header.type == FrameType::kBye) {
        return ok_status();
      }
      return unexpected("before hello");
    case State::kAttaching:
    case State::kStreaming: break;
  }
  switch (header.type) {
    case FrameType::kPing:
    case FrameType::kPong:
    case FrameType::kRefuse:
    case FrameType::kBye: return ok_status();
    case FrameType::kDigestQuestion:
    case FrameType::kBatch:
      if (state_ == State::kStreaming) return ok_status();
      return unexpected("before welcome");
    case FrameType::kDeltaCache:
    case FrameType::kDeltaBatch:
      if (state_ == State::kStreaming && delta_cache_bytes_max_ != 0) return ok_status();
      return unexpected("in a session without deltas");
    default: return unexpected("from an agent");
  }
}

void ServerSession::step(SessionEvent event, std::uint64_t now_ns, std::vector<SessionAction>& actions) {
  if (closed() || take_traffic(event, now_ns)) return;
  if (auto* connected = std::get_if<PeerConnected>(&event)) {
    CHECK(state_ == State::kConnecting);
    peer_ = std::move(connected->peer);
    state_ = State::kExpectHello;
    if (peer_.identity.role != WireRole::kAgent) {
      refuse(RefuseCode::kIdentity,
             "certificate says " + peer_.identity.to_text() + ", only an agent may connect to receiver '" +
                 options_.receiver_name + "'",
             actions);
    }
  } else if (auto* frame = std::get_if<FrameReceived>(&event)) {
    received(std::move(frame->message), actions);
  } else if (auto* clock = std::get_if<ClockTick>(&event)) {
    tick(*clock, now_ns, actions);
  } else if (auto* attached = std::get_if<Attached>(&event)) {
    CHECK(state_ == State::kAttaching);
    acked_seq_ = attached->welcome.position.seq;
    delta_cache_bytes_max_ = attached->welcome.delta_cache_bytes_max;
    attached->welcome.receiver_name = options_.receiver_name;
    state_ = State::kStreaming;
    actions.emplace_back(SendMessage{std::move(attached->welcome)});
  } else if (auto* refused = std::get_if<AttachRefused>(&event)) {
    CHECK(state_ == State::kAttaching);
    refuse(refused->code, std::move(refused->text), actions);
  } else if (auto* committed = std::get_if<Committed>(&event)) {
    if (state_ != State::kStreaming || committed->seq <= acked_seq_) return;
    acked_seq_ = committed->seq;
    actions.emplace_back(SendMessage{Ack{acked_seq_}});
  } else if (auto* answered = std::get_if<DigestAnswered>(&event)) {
    if (state_ != State::kStreaming) return;
    actions.emplace_back(SendMessage{std::move(answered->answer)});
  } else if (auto* notice = std::get_if<NoticeChanged>(&event)) {
    if (state_ != State::kAttaching && state_ != State::kStreaming) return;
    actions.emplace_back(SendMessage{std::move(notice->notice)});
  } else if (auto* stopped = std::get_if<StopSession>(&event)) {
    stop(std::move(*stopped), true, actions);
  }
}

void ServerSession::broken(const Error& error, std::vector<SessionAction>& actions) {
  if (closed()) return;
  if (state_ == State::kStreaming) {
    say_bad_data(error, actions);
  } else {
    refuse(RefuseCode::kProtocol, error.message(), actions);
  }
}

void ServerSession::received(Message message, std::vector<SessionAction>& actions) {
  if (auto* first = std::get_if<Hello>(&message); first != nullptr && state_ == State::kExpectHello) {
    hello(std::move(*first), actions);
  } else if (std::holds_alternative<BatchFrame>(message) && state_ == State::kStreaming) {
    actions.emplace_back(DeliverBatch{});
  } else if (auto* question = std::get_if<DigestQuestion>(&message);
             question != nullptr && state_ == State::kStreaming) {
    actions.emplace_back(DeliverDigestQuestion{std::move(*question)});
  } else if (std::holds_alternative<DeltaBatchFrame>(message) && state_ == State::kStreaming) {
    actions.emplace_back(DeliverDelta{});
  } else if (const auto* size = std::get_if<DeltaCacheSize>(&message); size != nullptr && state_ == State::kStreaming) {
    resize_delta_cache(size->bytes, actions);
  } else if (const auto* ping = std::get_if<Ping>(&message); ping != nullptr && state_ != State::kExpectHello) {
    actions.emplace_back(SendMessage{Pong{ping->token}});
  } else if (std::holds_alternative<Pong>(message) && state_ != State::kExpectHello) {
    return;
  } else if (auto* refused = std::get_if<Refuse>(&message)) {
    close(Error(ErrorKind::kRefused,
                "agent refused us (" + std::string(refuse_code_name(refused->code)) + "): " + refused->text),
          true, actions);
  } else if (auto* bye = std::get_if<Bye>(&message)) {
    close(Error(ErrorKind::kClosed, "agent said goodbye: " + bye->text), false, actions);
  } else {
    broken(unexpected_message(message), actions);
  }
}

void ServerSession::hello(Hello hello, std::vector<SessionAction>& actions) {
  if (hello.features.version != kWireVersion) {
    refuse(RefuseCode::kVersion,
           "agent speaks protocol version " + std::to_string(hello.features.version) + " (" + hello.software +
               "), this receiver speaks version " + std::to_string(kWireVersion),
           actions);
  } else if (const std::string feature = unknown_incompatible_feature(hello.features); !feature.empty()) {
    refuse(RefuseCode::kIncompatible,
           "agent uses the incompatible feature " + feature + ", which this receiver does not know", actions);
  } else if (hello.server_name != peer_.identity.name) {
    refuse(RefuseCode::kIdentity,
           "agent says it is server '" + hello.server_name + "', its certificate is for " + peer_.identity.to_text(),
           actions);
  } else if (hello.server.is_nil() || hello.epoch == 0) {
    refuse(RefuseCode::kProtocol, "hello without a server id or epoch", actions);
  } else {
    state_ = State::kAttaching;
    actions.emplace_back(AttachStore{std::move(hello)});
  }
}

void ServerSession::resize_delta_cache(std::uint64_t bytes, std::vector<SessionAction>& actions) {
  if (bytes > delta_cache_bytes_max_) {
    broken(Error(ErrorKind::kCorrupt, "delta-cache frame asks for " + std::to_string(bytes) +
                                          " bytes, this session was granted " + std::to_string(delta_cache_bytes_max_)),
           actions);
    return;
  }
  actions.emplace_back(ResizeDeltaCache{bytes});
}

void ServerSession::tick(const ClockTick& tick, std::uint64_t now_ns, std::vector<SessionAction>& actions) {
  if (state_ != State::kConnecting && state_ != State::kExpectHello) {
    keep_alive(tick, now_ns, "the agent", actions);
  } else if (now_ns - accepted_ns_ >= options_.handshake_ns_max) {
    close(Error(ErrorKind::kTimeout, "no hello within " + format_duration_ns(options_.handshake_ns_max)), true,
          actions);
  }
}

}  // namespace understudy
