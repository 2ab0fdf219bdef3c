// SPDX-License-Identifier: Apache-2.0
// Peers that do not keep to the protocol: none of them may hurt the receiver or the session of the real agent.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <random>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/wire/frame_codec.h"
#include "daemon/wire/tls_stream.h"
#include "tests/unit/receiver/link_harness.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;
using namespace std::chrono_literals;

namespace {

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(::fcntl(fd.get(), F_SETFL, O_NONBLOCK) == 0);
  return fd;
}

// True when the other end closes within the time.
bool closes(int fd, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (std::chrono::steady_clock::now() < deadline) {
    pollfd waiting{fd, POLLIN, 0};
    (void)::poll(&waiting, 1, 50);
    char buffer[4096];
    const ssize_t got = ::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return true;
  }
  return false;
}

// Speaks TLS with a good certificate, and then whatever the test wants.
class RawAgent {
 public:
  RawAgent(LinkFixture& fixture, std::uint16_t port) : fd_(connect_to(port)) {
    auto context = TlsContext::load(fixture.pki.files(WireRole::kAgent, "web-1"), TlsSide::kClient);
    REQUIRE(context.ok());
    stream_ = std::move(TlsStream::make(*context, fd_.get(), "receiver")).value();
    while (true) {
      const TlsState state = stream_->handshake();
      if (state == TlsState::kOk) break;
      REQUIRE(state != TlsState::kFailed);
      wait(POLLIN);
    }
  }
  void send(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const TlsResult result = stream_->write(bytes);
      if (result.state == TlsState::kFailed) return;
      bytes = bytes.subspan(result.bytes);
      if (result.state == TlsState::kWantWrite) wait(POLLOUT);
    }
    while (stream_->flush() == TlsState::kWantWrite) wait(POLLOUT);
  }
  void send(const Message& message) {
    std::vector<std::byte> frame;
    append_frame(message, frame);
    send(frame);
  }
  // The next message; nullopt when the receiver closed.
  std::optional<Message> receive() {
    std::byte header_bytes[kFrameHeaderBytes];
    if (!read_exactly(header_bytes)) return std::nullopt;
    auto header = decode_frame_header(header_bytes);
    REQUIRE(header.ok());
    payload_.resize(header->payload_bytes);
    if (!read_exactly(payload_)) return std::nullopt;
    auto message = decode_payload(header->type, payload_);
    REQUIRE(message.ok());
    return std::move(message).value();
  }
  void close() {
    stream_.reset();
    fd_.reset();
  }
  int fd() const { return fd_.get(); }

 private:
  void wait(short what) {
    pollfd waiting{fd_.get(), what, 0};
    (void)::poll(&waiting, 1, 20'000);
  }
  bool read_exactly(std::span<std::byte> out) {
    while (!out.empty()) {
      const TlsResult result = stream_->read(out);
      out = out.subspan(result.bytes);
      if (result.state == TlsState::kWantRead) wait(POLLIN);
      if (result.state == TlsState::kClosed || result.state == TlsState::kFailed) return false;
    }
    return true;
  }
  UniqueFd fd_;
  std::unique_ptr<TlsStream> stream_;
  std::vector<std::byte> payload_;
};

Hello hello_of(const TestStream& stream) {
  Hello hello;
  hello.server = stream.server();
  hello.instance = Uuid::random();
  hello.server_name = "web-1";
  hello.software = "hostile";
  return hello;
}

std::vector<std::byte> header_of(FrameType type, std::uint32_t length) {
  FrameHeaderBytes header{};
  header.magic = kFrameMagic;
  header.type = static_cast<std::uint8_t>(type);
  header.payload_bytes = length;
  header.checksum = static_cast<std::uint32_t>(xxh3_64(std::as_bytes(std::span(&header, 1)).first(12)));
  std::vector<std::byte> bytes(sizeof(header));
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

}  // namespace

TEST_CASE("hostile frames are answered and closed, and the stream of the real agent is untouched") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 8 << 10);
  {
    auto receiver = fixture.start_receiver();
    TestAgent agent(stream, fixture.agent_options(stream, receiver->port()));
    REQUIRE(agent.run_until_acked(5));

    SUBCASE("garbage instead of hello") {
      RawAgent hostile(fixture, receiver->port());
      hostile.send(std::vector<std::byte>(4096, std::byte{0x5a}));
      auto answer = hostile.receive();
      REQUIRE(answer);
      REQUIRE(std::holds_alternative<Refuse>(*answer));
      CHECK(std::get<Refuse>(*answer).code == RefuseCode::kProtocol);
      CHECK_FALSE(hostile.receive());
    }
    SUBCASE("huge lengths") {
      for (const FrameType type : {FrameType::kHello, FrameType::kBatch, FrameType::kPing}) {
        RawAgent hostile(fixture, receiver->port());
        hostile.send(header_of(type, 0xffffffff));
        auto answer = hostile.receive();
        REQUIRE(answer);
        CHECK(std::holds_alternative<Refuse>(*answer));
      }
    }
    SUBCASE("a batch before hello, of allowed size") {
      RawAgent hostile(fixture, receiver->port());
      hostile.send(header_of(FrameType::kBatch, kBatchFrameBytesMax));
      auto answer = hostile.receive();
      REQUIRE(answer);
      REQUIRE(std::holds_alternative<Refuse>(*answer));
      CHECK(std::get<Refuse>(*answer).text.find("before hello") != std::string::npos);
    }
    SUBCASE("half frames, then gone") {
      for (std::size_t length = 1; length < 100; length += 7) {
        RawAgent hostile(fixture, receiver->port());
        std::vector<std::byte> frame;
        append_frame(hello_of(stream), frame);
        hostile.send(std::span(frame).first(length));
        hostile.close();
      }
    }
    SUBCASE("plain text and random bytes without TLS") {
      std::mt19937_64 random(3);
      for (int round = 0; round < 20; ++round) {
        const UniqueFd fd = connect_to(receiver->port());
        std::vector<unsigned char> junk(1 + random() % 5000);
        for (unsigned char& byte : junk) byte = static_cast<unsigned char>(random());
        (void)::send(fd.get(), junk.data(), junk.size(), MSG_NOSIGNAL);
        if (round % 2 == 0) CHECK(closes(fd.get(), 12s));
      }
    }
    REQUIRE(agent.run_until_acked(30));
    CHECK(agent.downs == 0);
    receiver->stop();
  }
  fixture.check_store(stream, 30);
}

TEST_CASE("who says nothing is closed, and many of them do not keep the agent out for long") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 8 << 10);
  fixture.times.handshake_ns = 1'000'000'000;
  auto receiver = fixture.start_receiver();
  std::vector<UniqueFd> silent;
  for (std::size_t i = 0; i < kHandshakesMax + 20; ++i) silent.push_back(connect_to(receiver->port()));
  // One that drips: a byte now and then is no hello.
  std::atomic<bool> stop{false};
  std::thread dripping([&, fd = silent[0].get()] {
    while (!stop) {
      (void)::send(fd, "\x16", 1, MSG_NOSIGNAL);
      std::this_thread::sleep_for(200ms);
    }
  });
  TestAgent agent(stream, fixture.agent_options(stream, receiver->port()));
  CHECK(agent.run_until_acked(3));
  for (const UniqueFd& fd : silent) CHECK(closes(fd.get(), 60s));
  stop = true;
  dripping.join();
}

TEST_CASE("a session that goes wrong after welcome is closed with the reason and can come back") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 8 << 10);
  auto receiver = fixture.start_receiver();
  const auto provoke = [&](const std::function<void(RawAgent&)>& what) {
    RawAgent hostile(fixture, receiver->port());
    hostile.send(hello_of(stream));
    auto welcome = hostile.receive();
    REQUIRE(welcome);
    REQUIRE(std::holds_alternative<Welcome>(*welcome));
    what(hostile);
    while (auto answer = hostile.receive()) {
      if (const auto* bye = std::get_if<Bye>(&*answer)) {
        hostile.close();
        return bye->text;
      }
    }
    return std::string();
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  std::string text =
      provoke([&](RawAgent& a) { a.send(Message(BatchFrame{std::vector<std::byte>(5000, std::byte{1})})); });
  CHECK_MESSAGE(contains(text, "batch not accepted"), text);
  text = provoke([&](RawAgent& a) { a.send(header_of(FrameType::kBatch, 0)); });
  CHECK_MESSAGE(contains(text, "batch not accepted"), text);
  text = provoke([&](RawAgent& a) { a.send(hello_of(stream)); });
  CHECK_MESSAGE(contains(text, "unexpected hello frame"), text);
  text = provoke([&](RawAgent& a) { a.send(header_of(FrameType::kBatch, kBatchFrameBytesMax + 1)); });
  CHECK_MESSAGE(contains(text, "allowed are"), text);
  text = provoke([&](RawAgent& a) { a.send(Message(DeltaCacheSize{kDeltaCacheBytesMax + 1})); });
  CHECK_MESSAGE(contains(text, "this session was granted"), text);
  text = provoke([&](RawAgent& a) { a.send(Message(DeltaBatchFrame{std::vector<std::byte>(5000, std::byte{1})})); });
  CHECK_MESSAGE(contains(text, "delta batch: "), text);
  text = provoke([&](RawAgent& a) { a.send(header_of(FrameType::kDeltaBatch, 0)); });
  CHECK_MESSAGE(contains(text, "delta batch: header is cut short"), text);
  TestAgent agent(stream, fixture.agent_options(stream, receiver->port()));
  CHECK(agent.run_until_acked(3));
}

TEST_CASE("what an agent had sent before it went is kept, also when the receiver was behind") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 64 << 10);
  constexpr std::uint64_t kLast = 100;
  auto receiver = fixture.start_receiver(0, 1 << 20);
  RawAgent agent(fixture, receiver->port());
  agent.send(hello_of(stream));
  REQUIRE(agent.receive());
  std::vector<std::byte> frame;
  for (std::uint64_t batch = 0; batch <= kLast; ++batch) {
    std::vector<std::byte> encoded;
    (void)stream.make(batch, 1)->batch.encode({Codec::kNone, 1}, encoded);
    frame.clear();
    append_frame(BatchFrame{encoded}, frame);
    agent.send(frame);
  }
  ::shutdown(agent.fd(), SHUT_WR);  // no goodbye, and no answer was ever read
  const auto deadline = std::chrono::steady_clock::now() + 30s;
  while (receiver->report()[0].connected && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(10ms);
  receiver->stop();
  fixture.check_store(stream, kLast);
}

TEST_CASE("an agent that never reads its answers cannot make the receiver hoard them") {
  LinkFixture fixture;
  const TestStream stream(Uuid::random(), 4, 8 << 10);
  auto receiver = fixture.start_receiver();
  RawAgent hostile(fixture, receiver->port());
  hostile.send(hello_of(stream));
  REQUIRE(hostile.receive());
  std::vector<std::byte> pings;
  for (int i = 0; i < 20'000; ++i) append_frame(Ping{1}, pings);
  std::thread flood([&] {
    for (int i = 0; i < 60; ++i) hostile.send(pings);
  });
  const auto deadline = std::chrono::steady_clock::now() + 30s;
  while (receiver->report()[0].connected && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(20ms);
  CHECK_FALSE(receiver->report()[0].connected);
  ::shutdown(hostile.fd(), SHUT_RDWR);
  flood.join();
}
