// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "daemon/base/check.h"
#include "daemon/wire/session.h"

namespace understudy {

ClientSession::ClientSession(ClientSessionOptions options, std::uint64_t now_ns)
    : SessionBase(now_ns), options_(std::move(options)) {}

Status ClientSession::admit(const FrameHeader& header) const {
  bool expected = false;
  switch (header.type) {
    case FrameType::kWelcome: expected = state() == State::kExpectWelcome; break;
    case FrameType::kAck:
    case FrameType::kDigestAnswer: expected = state() == State::kStreaming; break;
    case FrameType::kRefuse:
    case FrameType::kNotice:
    case FrameType::kPing:
    case FrameType::kPong:
    case FrameType::kBye: expected = state() == State::kExpectWelcome || state() == State::kStreaming; break;
    case FrameType::kHello:
    case FrameType::kBatch:
    case FrameType::kDeltaCache:
    case FrameType::kDeltaBatch:
    case FrameType::kDigestQuestion: break;
  }
  if (expected) return ok_status();
  return Error(ErrorKind::kCorrupt,
               "unexpected " + std::string(frame_type_name(header.type)) + " frame from the receiver");
}

void ClientSession::step(SessionEvent event, std::uint64_t now_ns, std::vector<SessionAction>& actions) {
  if (closed() || take_traffic(event, now_ns)) return;
  if (const auto* peer = std::get_if<PeerConnected>(&event)) {
    CHECK(state_ == State::kIdle);
    connected(peer->peer, actions);
  } else if (auto* frame = std::get_if<FrameReceived>(&event)) {
    received(std::move(frame->message), actions);
  } else if (const auto* clock = std::get_if<ClockTick>(&event)) {
    // Before there is a session nobody owes anybody a sign of life, but waiting still has an end.
    const bool idle = state_ == State::kIdle;
    keep_alive(ClockTick{clock->reading, clock->output_pending || idle}, now_ns, "the receiver", actions);
  } else if (const auto* batch = std::get_if<BatchSent>(&event)) {
    CHECK(state_ == State::kStreaming);
    sent_seq_ = batch->last_seq;
  } else if (auto* stopped = std::get_if<StopSession>(&event)) {
    stop(std::move(*stopped), state_ != State::kIdle, actions);
  }
}

void ClientSession::broken(const Error& error, std::vector<SessionAction>& actions) {
  if (!closed()) say_bad_data(error, actions);
}

void ClientSession::connected(const PeerIdentity& peer, std::vector<SessionAction>& actions) {
  const WireIdentity expected{WireRole::kReceiver, options_.receiver_name};
  if (!(peer.identity == expected)) {
    refuse(RefuseCode::kIdentity,
           "certificate says " + peer.identity.to_text() + ", expected was " + expected.to_text(), actions);
    return;
  }
  state_ = State::kExpectWelcome;
  actions.emplace_back(SendMessage{options_.hello});
}

void ClientSession::received(Message message, std::vector<SessionAction>& actions) {
  if (auto* accepted = std::get_if<Welcome>(&message); accepted != nullptr && state_ == State::kExpectWelcome) {
    welcome(std::move(*accepted), actions);
  } else if (auto* answer = std::get_if<DigestAnswer>(&message); answer != nullptr && state_ == State::kStreaming) {
    actions.emplace_back(SessionDigestAnswer{std::move(*answer)});
  } else if (const auto* durable = std::get_if<Ack>(&message); durable != nullptr && state_ == State::kStreaming) {
    ack(durable->seq, actions);
  } else if (auto* notice = std::get_if<Notice>(&message)) {
    actions.emplace_back(SessionNotice{std::move(*notice)});
  } else if (const auto* ping = std::get_if<Ping>(&message)) {
    actions.emplace_back(SendMessage{Pong{ping->token}});
  } else if (std::holds_alternative<Pong>(message)) {
    return;
  } else if (auto* refused = std::get_if<Refuse>(&message)) {
    // A receiver that is stopping will be back soon: not worth the long pause.
    const bool lasting = refused->code != RefuseCode::kShuttingDown;
    close(Error(ErrorKind::kRefused, "receiver '" + options_.receiver_name + "' refused us (" +
                                         std::string(refuse_code_name(refused->code)) + "): " + refused->text),
          lasting, actions);
  } else if (auto* bye = std::get_if<Bye>(&message)) {
    close(Error(ErrorKind::kClosed, "receiver '" + options_.receiver_name + "' said goodbye: " + bye->text), false,
          actions);
  } else {
    broken(unexpected_message(message), actions);
  }
}

void ClientSession::welcome(Welcome welcome, std::vector<SessionAction>& actions) {
  if (welcome.features.version != kWireVersion) {
    refuse(RefuseCode::kVersion,
           "receiver speaks protocol version " + std::to_string(welcome.features.version) + " (" + welcome.software +
               "), this agent speaks version " + std::to_string(kWireVersion),
           actions);
  } else if (const std::string feature = unknown_incompatible_feature(welcome.features); !feature.empty()) {
    refuse(RefuseCode::kIncompatible,
           "receiver uses the incompatible feature " + feature + ", which this agent does not know", actions);
  } else if (welcome.receiver_name != options_.receiver_name) {
    refuse(
        RefuseCode::kIdentity,
        "receiver says it is '" + welcome.receiver_name + "', its certificate is for '" + options_.receiver_name + "'",
        actions);
  } else if (welcome.position.epoch != options_.hello.epoch) {
    refuse(RefuseCode::kEpoch,
           "receiver's store is in epoch " + std::to_string(welcome.position.epoch) + ", this agent is in epoch " +
               std::to_string(options_.hello.epoch),
           actions);
  } else {
    state_ = State::kStreaming;
    sent_seq_ = acked_seq_ = welcome.position.seq;
    actions.emplace_back(SessionUp{std::move(welcome)});
  }
}

void ClientSession::ack(Seq seq, std::vector<SessionAction>& actions) {
  if (seq <= acked_seq_ || seq > sent_seq_) {
    broken(Error(ErrorKind::kCorrupt, "ack of seq " + std::to_string(seq) + ", but " + std::to_string(acked_seq_) +
                                          " was acknowledged and " + std::to_string(sent_seq_) + " sent"),
           actions);
    return;
  }
  acked_seq_ = seq;
  actions.emplace_back(SessionAck{seq});
}

}  // namespace understudy
