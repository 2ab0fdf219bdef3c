// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/frame_codec.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "daemon/base/checksum.h"
#include "daemon/wire/frame_reader.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

Uuid uuid_of(unsigned char value) {
  Uuid uuid;
  uuid.bytes.fill(static_cast<std::byte>(value));
  return uuid;
}

DiskGeometry disk_of(std::uint16_t slot, const std::string& name) {
  DiskGeometry disk;
  disk.disk = slot;
  disk.id = uuid_of(static_cast<unsigned char>(slot + 1));
  disk.name = name;
  disk.size_bytes = 1ull << 30;
  disk.logical_block_bytes = 4096;
  return disk;
}

Hello hello_example() {
  Hello hello;
  hello.server = uuid_of(1);
  hello.instance = uuid_of(2);
  hello.boot_id = uuid_of(3);
  hello.epoch = 7;
  hello.server_name = "web-1";
  hello.software = "understudy-agent 0.1.0";
  hello.disks = {disk_of(0, "/dev/vdb"), disk_of(5, "/dev/vdc")};
  return hello;
}

Welcome welcome_example() {
  Welcome welcome;
  welcome.position.seq = 123456789012345;
  welcome.position.epoch = 7;
  welcome.position.generation = 3;
  welcome.position.cursor = CaptureCursor{uuid_of(9), 1ull << 40, 17};
  welcome.position.last_time_ns = 1'700'000'000'000'000'000;
  welcome.position.gap_open = true;
  welcome.position.gap_reason = GapReason::kOverflow;
  welcome.position.initial_copy_done = true;
  welcome.position.disks = {disk_of(0, "/dev/vdb")};
  welcome.receiver_name = "dr-1";
  welcome.software = "understudy-receiver 0.1.0";
  welcome.boot_id = uuid_of(4);
  welcome.store_devices = {(8ull << 20) | 16, (253ull << 20) | 1};
  welcome.delta_cache_bytes_max = 48ull << 20;
  return welcome;
}

DigestQuestion digest_question_example() {
  DigestQuestion question;
  question.length_bytes = kDigestChunkBytes;
  question.chunk_mask = 1;
  question.digests.resize(1);
  return question;
}

// One whole frame through header and payload decoding.
Result<Message> decode(std::span<const std::byte> frame) {
  if (frame.size() < kFrameHeaderBytes) return Error(ErrorKind::kCorrupt, "cut short");
  ASSIGN_OR_RETURN(const FrameHeader header, decode_frame_header(frame.first<kFrameHeaderBytes>()));
  if (frame.size() != kFrameHeaderBytes + header.payload_bytes) return Error(ErrorKind::kCorrupt, "cut short");
  return decode_payload(header.type, frame.subspan(kFrameHeaderBytes));
}

template <typename T>
T round_trip(const T& message) {
  std::vector<std::byte> frame;
  append_frame(message, frame);
  auto decoded = decode(frame);
  REQUIRE_MESSAGE(decoded.ok(), decoded.error().message());
  REQUIRE(std::holds_alternative<T>(*decoded));
  return std::get<T>(std::move(*decoded));
}

std::vector<std::byte> frame_of(const Message& message) {
  std::vector<std::byte> frame;
  append_frame(message, frame);
  return frame;
}

// Repairs the header checksum after a test changed the header.
void seal(std::vector<std::byte>& frame) {
  const std::uint32_t sum = static_cast<std::uint32_t>(xxh3_64(std::span<const std::byte>(frame).first(12)));
  const le32 stored(sum);
  std::memcpy(frame.data() + 12, &stored, sizeof(stored));
}

}  // namespace

TEST_CASE("hello survives the wire") {
  const Hello sent = hello_example();
  const Hello got = round_trip(sent);
  CHECK(got.features == sent.features);
  CHECK(got.server == sent.server);
  CHECK(got.instance == sent.instance);
  CHECK(got.boot_id == sent.boot_id);
  CHECK(got.epoch == 7);
  CHECK(got.server_name == "web-1");
  CHECK(got.software == sent.software);
  CHECK(got.disks == sent.disks);
}

TEST_CASE("welcome survives the wire") {
  const Welcome sent = welcome_example();
  const Welcome got = round_trip(sent);
  CHECK(got.position.seq == sent.position.seq);
  CHECK(got.position.epoch == 7);
  CHECK(got.position.generation == 3);
  CHECK(got.position.cursor == sent.position.cursor);
  CHECK(got.position.last_time_ns == sent.position.last_time_ns);
  CHECK(got.position.gap_open);
  CHECK(got.position.gap_reason == GapReason::kOverflow);
  CHECK(got.position.initial_copy_done);
  CHECK(got.position.disks == sent.position.disks);
  CHECK(got.receiver_name == "dr-1");
  CHECK(got.boot_id == sent.boot_id);
  CHECK(got.store_devices == sent.store_devices);
  CHECK(got.delta_cache_bytes_max == sent.delta_cache_bytes_max);
}

TEST_CASE("the welcome of a receiver that has never heard of deltas is understood") {
  std::vector<std::byte> frame = frame_of(welcome_example());
  auto payload = std::vector<std::byte>(frame.begin() + kFrameHeaderBytes, frame.end());
  payload.erase(payload.begin() + kWelcomeHeaderBytesMin, payload.begin() + sizeof(WelcomeBytes));
  payload[4] = static_cast<std::byte>(kWelcomeHeaderBytesMin);
  const auto old = decode_payload(FrameType::kWelcome, payload);
  REQUIRE(old.ok());
  CHECK(std::get<Welcome>(*old).receiver_name == "dr-1");
  CHECK(std::get<Welcome>(*old).delta_cache_bytes_max == 0);
  payload[4] = static_cast<std::byte>(kWelcomeHeaderBytesMin - 1);
  CHECK_FALSE(decode_payload(FrameType::kWelcome, payload).ok());
}

TEST_CASE("the small messages survive the wire") {
  CHECK(round_trip(Ack{99}).seq == 99);
  CHECK(round_trip(Ping{5}).token == 5);
  CHECK(round_trip(Pong{6}).token == 6);
  CHECK(round_trip(DeltaCacheSize{1ull << 32}).bytes == 1ull << 32);
  const Refuse refuse = round_trip(Refuse{RefuseCode::kEpoch, "epoch 3 is not 4"});
  CHECK(refuse.code == RefuseCode::kEpoch);
  CHECK(refuse.text == "epoch 3 is not 4");
  const Bye bye = round_trip(Bye{ByeCode::kReplaced, "replaced"});
  CHECK(bye.code == ByeCode::kReplaced);
  CHECK(bye.text == "replaced");
  const Notice notice = round_trip(Notice{true, "store-full", "no room"});
  CHECK(notice.active);
  CHECK(notice.code == "store-full");
  CHECK(notice.text == "no room");
}

TEST_CASE("a batch is carried as it is") {
  std::vector<std::byte> bytes(1000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  const std::vector<std::byte> frame = frame_of(BatchFrame{bytes});
  auto message = decode(frame);
  REQUIRE(message.ok());
  const auto& batch = std::get<BatchFrame>(*message);
  CHECK(std::equal(batch.bytes.begin(), batch.bytes.end(), bytes.begin(), bytes.end()));
  CHECK(batch.bytes.data() == frame.data() + kFrameHeaderBytes);
}

TEST_CASE("every bit of a frame header is protected") {
  const std::vector<std::byte> frame = frame_of(Ack{1});
  for (std::size_t bit = 0; bit < kFrameHeaderBytes * 8; ++bit) {
    std::vector<std::byte> damaged = frame;
    damaged[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK_FALSE(decode_frame_header(std::span<const std::byte>(damaged).first<kFrameHeaderBytes>()).ok());
  }
}

TEST_CASE("a length above the limit of its type is refused before anything is allocated") {
  std::vector<std::byte> frame = frame_of(Ping{1});
  for (const std::uint32_t length : {9u, 1u << 20, 0xffffffffu}) {
    const le32 stored(length);
    std::memcpy(frame.data() + 8, &stored, sizeof(stored));
    seal(frame);
    auto header = decode_frame_header(std::span<const std::byte>(frame).first<kFrameHeaderBytes>());
    REQUIRE_FALSE(header.ok());
    CHECK(header.error().message().find(std::to_string(length)) != std::string::npos);
  }
  std::vector<std::byte> batch = frame_of(BatchFrame{});
  const le32 huge(kBatchFrameBytesMax + 1);
  std::memcpy(batch.data() + 8, &huge, sizeof(huge));
  seal(batch);
  CHECK_FALSE(decode_frame_header(std::span<const std::byte>(batch).first<kFrameHeaderBytes>()).ok());
}

TEST_CASE("unknown types, flags and reserved bits of a header are refused") {
  for (const auto& [offset, value] :
       std::vector<std::pair<std::size_t, int>>{{4, 0}, {4, kFrameTypeMax + 1}, {4, 255}, {5, 1}, {6, 1}}) {
    std::vector<std::byte> frame = frame_of(Ping{1});
    frame[offset] = static_cast<std::byte>(value);
    seal(frame);
    CHECK_FALSE(decode_frame_header(std::span<const std::byte>(frame).first<kFrameHeaderBytes>()).ok());
  }
}

TEST_CASE("no payload decodes when it is cut short or has bytes too many") {
  const std::vector<Message> messages = {
      hello_example(), welcome_example(), Refuse{RefuseCode::kEpoch, "text"}, Ack{1},
      Ping{1},         Pong{1},           Notice{false, "code", "text"},      Bye{ByeCode::kShutdown, "text"},
      digest_question_example(), DigestAnswer{}};
  for (const Message& message : messages) {
    const std::vector<std::byte> frame = frame_of(message);
    const auto payload = std::span<const std::byte>(frame).subspan(kFrameHeaderBytes);
    for (std::size_t length = 0; length < payload.size(); ++length) {
      CHECK_FALSE(decode_payload(type_of(message), payload.first(length)).ok());
    }
    std::vector<std::byte> longer(payload.begin(), payload.end());
    longer.push_back(std::byte{0});
    CHECK_FALSE(decode_payload(type_of(message), longer).ok());
  }
}

TEST_CASE("damaged payloads give an error or a message, never more") {
  std::mt19937_64 random(20);
  for (int round = 0; round < 20000; ++round) {
    const Message message = round % 2 == 0 ? Message(hello_example()) : Message(welcome_example());
    std::vector<std::byte> frame = frame_of(message);
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < changes; ++i) {
      const std::size_t at = kFrameHeaderBytes + random() % (frame.size() - kFrameHeaderBytes);
      frame[at] = static_cast<std::byte>(random());
    }
    auto decoded = decode_payload(type_of(message), std::span<const std::byte>(frame).subspan(kFrameHeaderBytes));
    if (decoded.ok()) (void)frame_of(*decoded);  // what was accepted can be sent again
  }
}

TEST_CASE("an unknown incompatible feature is named") {
  WireFeatures features;
  CHECK(unknown_incompatible_feature(features).empty());
  features.incompatible = 1u << 4 | 1u << 9;
  features.incompatible_names = {"byte-deltas", "double-ratchet"};
  CHECK(unknown_incompatible_feature(features) == "'byte-deltas' (bit 4)");
  features.incompatible_names.clear();
  CHECK(unknown_incompatible_feature(features) == "of bit 4");
  Hello hello = hello_example();
  hello.features.incompatible = 1u << 4;
  hello.features.incompatible_names = {"byte-deltas"};
  CHECK(round_trip(hello).features == hello.features);
}

TEST_CASE("a longer hello of a newer peer is still understood") {
  std::vector<std::byte> frame = frame_of(hello_example());
  constexpr std::size_t kMore = 24;
  frame.insert(frame.begin() + kFrameHeaderBytes + sizeof(HelloBytes), kMore, std::byte{0xee});
  const le32 header_bytes(static_cast<std::uint32_t>(sizeof(HelloBytes) + kMore));
  std::memcpy(frame.data() + kFrameHeaderBytes + 4, &header_bytes, sizeof(header_bytes));
  auto decoded = decode_payload(FrameType::kHello, std::span<const std::byte>(frame).subspan(kFrameHeaderBytes));
  REQUIRE(decoded.ok());
  CHECK(std::get<Hello>(*decoded).server_name == "web-1");
  CHECK(std::get<Hello>(*decoded).disks == hello_example().disks);
}

TEST_CASE("sentences are cut at the limit, between characters") {
  const std::string text(kWireTextBytesMax - 1, 'x');
  const Refuse got = round_trip(Refuse{RefuseCode::kEpoch, text + "\xc3\xa4 and more"});
  CHECK(got.text == text);
}

TEST_CASE("text from a peer cannot disturb a log line") {
  const Refuse got = round_trip(Refuse{RefuseCode::kEpoch, "a\nb\x1b[2J"});
  CHECK(got.text.find('\n') == std::string::npos);
  CHECK(got.text.find('\x1b') == std::string::npos);
}

TEST_CASE("names: what a server or receiver may be called") {
  for (const char* good : {"web-1", "a", "DR_2.example", "0", "_x"}) CHECK(is_valid_wire_name(good));
  for (const char* bad : {"", "-x", ".x", "a b", "a/b", "a:b", "\xc3\xa4"}) CHECK_FALSE(is_valid_wire_name(bad));
  CHECK(is_valid_wire_name(std::string(64, 'x')));
  CHECK_FALSE(is_valid_wire_name(std::string(65, 'x')));
}

TEST_CASE("the reader cuts frames however the bytes arrive") {
  std::vector<std::byte> stream;
  append_frame(Ping{1}, stream);
  append_frame(hello_example(), stream);
  append_frame(BatchFrame{}, stream);
  append_frame(Ack{77}, stream);
  for (std::size_t piece = 1; piece <= 64; ++piece) {
    FrameReader reader;
    std::vector<std::byte> payload;
    std::vector<FrameType> types;
    std::size_t at = 0;
    while (at < stream.size()) {
      const auto space = reader.space();
      const std::size_t bytes = std::min({piece, space.size(), stream.size() - at});
      std::memcpy(space.data(), stream.data() + at, bytes);
      at += bytes;
      auto step = reader.advance(bytes);
      REQUIRE(step.ok());
      bool complete = *step == FrameReader::Step::kFrame;
      if (*step == FrameReader::Step::kHeader) {
        payload.resize(reader.header().payload_bytes);
        complete = reader.set_payload(payload);
      }
      if (!complete) continue;
      REQUIRE(decode_payload(reader.header().type, reader.payload()).ok());
      types.push_back(reader.header().type);
      reader.reset();
      CHECK_FALSE(reader.in_frame());
    }
    CHECK(types == std::vector<FrameType>{FrameType::kPing, FrameType::kHello, FrameType::kBatch, FrameType::kAck});
  }
}

TEST_CASE("the bytes of version 1 do not change") {
  CHECK(to_hex(frame_of(Ack{0x0102030405060708})) == "5553667205000000080000002679c8560807060504030201");
}
