// SPDX-License-Identifier: Apache-2.0
// What a peer may send: bytes -> frames -> messages -> the session state machines of both ends.
// The first byte of an input says in which pieces the rest arrives.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/wire/frame_reader.h"
#include "daemon/wire/session.h"

namespace understudy {
namespace {

// What could be decoded must come back from encoding and decoding again.
void round_trip(const Message& message) {
  std::vector<std::byte> frame;
  append_frame(message, frame);
  const FrameHeader header = decode_frame_header(std::span<const std::byte>(frame).first<kFrameHeaderBytes>()).value();
  CHECK(header.type == type_of(message));
  const Message again =
      decode_payload(header.type, std::span<const std::byte>(frame).subspan(kFrameHeaderBytes)).value();
  std::vector<std::byte> frame_again;
  append_frame(again, frame_again);
  CHECK(frame == frame_again);
}

// As the receiver does with a store that always answers, and the agent with one that sends all it may.
void answer(ServerSession& session, const SessionAction& action, std::vector<SessionAction>& more) {
  if (std::holds_alternative<AttachStore>(action)) session.step(Attached{}, 2, more);
  if (std::holds_alternative<DeliverBatch>(action)) session.step(Committed{1}, 3, more);
}
void answer(ClientSession& session, const SessionAction& action, std::vector<SessionAction>& more) {
  if (const auto* up = std::get_if<SessionUp>(&action))
    session.step(BatchSent{up->welcome.position.seq + 100}, 2, more);
}

template <typename Session>
void feed(std::span<const std::byte> stream, std::size_t piece, Session session) {
  FrameReader reader;
  std::vector<std::byte> payload;
  std::vector<SessionAction> actions;
  while (!stream.empty() && session.state() != Session::State::kClosed) {
    const std::span<std::byte> space = reader.space();
    const std::size_t bytes = std::min({piece, space.size(), stream.size()});
    std::memcpy(space.data(), stream.data(), bytes);
    stream = stream.subspan(bytes);
    const auto step = reader.advance(bytes);
    if (!step.ok()) return session.broken(step.error(), actions);
    bool complete = *step == FrameReader::Step::kFrame;
    if (*step == FrameReader::Step::kHeader) {
      if (const Status status = session.admit(reader.header()); !status.ok()) {
        return session.broken(status.error(), actions);
      }
      if (reader.header().payload_bytes > stream.size()) return;  // it can never become complete
      payload.resize(reader.header().payload_bytes);
      complete = reader.set_payload(payload);
    }
    if (!complete) continue;
    auto message = decode_payload(reader.header().type, reader.payload());
    reader.reset();
    if (!message.ok()) return session.broken(message.error(), actions);
    round_trip(*message);
    actions.clear();
    session.step(FrameReceived{std::move(message).value()}, 1, actions);
    std::vector<SessionAction> more;
    for (const SessionAction& action : actions) answer(session, action, more);
  }
}

void feed_both(std::span<const std::byte> stream, std::size_t piece) {
  std::vector<SessionAction> actions;
  ServerSession server({"dr-1"}, 0);
  server.step(PeerConnected{{{WireRole::kAgent, "web-1"}, ""}}, 0, actions);
  feed(stream, piece, std::move(server));
  Hello hello;
  hello.server_name = "web-1";
  ClientSession client({"dr-1", hello}, 0);
  client.step(PeerConnected{{{WireRole::kReceiver, "dr-1"}, ""}}, 0, actions);
  feed(stream, piece, std::move(client));
}

// Makes the checksums of all frame headers right, so that a fuzzer gets behind them.
void repair(std::vector<std::byte>& stream) {
  std::size_t at = 0;
  while (stream.size() - at >= kFrameHeaderBytes) {
    FrameHeaderBytes header;
    std::memcpy(&header, stream.data() + at, sizeof(header));
    header.magic = kFrameMagic;
    std::memcpy(stream.data() + at, &header, sizeof(header));
    header.checksum = static_cast<std::uint32_t>(xxh3_64(std::span<const std::byte>(stream).subspan(at, 12)));
    std::memcpy(stream.data() + at, &header, sizeof(header));
    if (header.payload_bytes > stream.size() - at - kFrameHeaderBytes) return;
    at += kFrameHeaderBytes + header.payload_bytes;
  }
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  if (size == 0) return 0;
  const std::size_t piece = 1 + data[0];
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> stream(bytes + 1, bytes + size);  // exact size: reading behind it is found
  feed_both(stream, piece);
  for (int type = 1; type <= kFrameTypeMax; ++type) {
    const auto message = decode_payload(static_cast<FrameType>(type), stream);
    if (message.ok() && stream.size() <= payload_bytes_max(static_cast<FrameType>(type))) round_trip(*message);
  }
  repair(stream);
  feed_both(stream, piece);
  return 0;
}
