// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/frame_codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "daemon/base/check.h"
#include "daemon/base/checksum.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {

std::uint32_t header_checksum(const FrameHeaderBytes& header) {
  return static_cast<std::uint32_t>(
      xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(FrameHeaderBytes, checksum))));
}

template <typename T>
void append_struct(const T& value, std::vector<std::byte>& out) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_text(std::string_view text, std::vector<std::byte>& out) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Cuts a sentence at the limit without tearing a UTF-8 sequence.
std::string_view cut(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  std::size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

// Takes fields off the front of a payload; after a failed take everything else fails too.
class PayloadReader {
 public:
  explicit PayloadReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <typename T>
  bool take_struct(T& value) {
    if (rest_.size() < sizeof(T)) return false;
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_ = rest_.subspan(sizeof(T));
    return true;
  }
  bool take(std::size_t bytes, std::span<const std::byte>& out) {
    if (rest_.size() < bytes) return false;
    out = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return true;
  }
  bool take_text(std::size_t bytes, std::size_t bytes_max, std::string& out) {
    std::span<const std::byte> text;
    if (bytes > bytes_max || !take(bytes, text)) return false;
    out.assign(reinterpret_cast<const char*>(text.data()), text.size());
    return true;
  }
  bool skip(std::size_t bytes) {
    std::span<const std::byte> ignored;
    return take(bytes, ignored);
  }
  bool empty() const { return rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
};

Error bad_payload(FrameType type, std::string_view what) {
  return Error(ErrorKind::kCorrupt, std::string(frame_type_name(type)) + " frame: " + std::string(what));
}

std::string join_names(const std::vector<std::string>& names) {
  std::string joined;
  for (const std::string& name : names) {
    if (!joined.empty()) joined += ',';
    joined += name;
  }
  return joined;
}

std::vector<std::string> split_names(const std::string& joined) {
  std::vector<std::string> names;
  if (joined.empty()) return names;
  std::size_t from = 0;
  while (true) {
    const std::size_t comma = joined.find(',', from);
    names.push_back(printable(joined.substr(from, comma - from)));
    if (comma == std::string::npos) return names;
    from = comma + 1;
  }
}

void append_payload(const Hello& hello, std::vector<std::byte>& out) {
  CHECK(is_valid_wire_name(hello.server_name));
  const std::string_view software = cut(hello.software, kWireSoftwareBytesMax);
  const std::string names = join_names(hello.features.incompatible_names);
  const std::string_view features = cut(names, kWireFeatureBytesMax);
  const std::vector<std::byte> geometry = encode_geometry(hello.disks);
  HelloBytes bytes{};
  bytes.version = hello.features.version;
  bytes.header_bytes = sizeof(HelloBytes);
  bytes.compatible = hello.features.compatible;
  bytes.incompatible = hello.features.incompatible;
  std::memcpy(bytes.server, hello.server.bytes.data(), sizeof(bytes.server));
  std::memcpy(bytes.instance, hello.instance.bytes.data(), sizeof(bytes.instance));
  std::memcpy(bytes.boot_id, hello.boot_id.bytes.data(), sizeof(bytes.boot_id));
  bytes.epoch = hello.epoch;
  bytes.server_name_bytes = static_cast<std::uint16_t>(hello.server_name.size());
  bytes.software_bytes = static_cast<std::uint16_t>(software.size());
  bytes.feature_bytes = static_cast<std::uint16_t>(features.size());
  bytes.geometry_bytes = static_cast<std::uint32_t>(geometry.size());
  append_struct(bytes, out);
  append_text(hello.server_name, out);
  append_text(software, out);
  append_text(features, out);
  out.insert(out.end(), geometry.begin(), geometry.end());
}

void append_payload(const Welcome& welcome, std::vector<std::byte>& out) {
  CHECK(is_valid_wire_name(welcome.receiver_name));
  const std::string_view software = cut(welcome.software, kWireSoftwareBytesMax);
  const std::string names = join_names(welcome.features.incompatible_names);
  const std::string_view features = cut(names, kWireFeatureBytesMax);
  const StreamPosition& position = welcome.position;
  const std::vector<std::byte> geometry = encode_geometry(position.disks);
  const std::size_t device_count = std::min(welcome.store_devices.size(), kWireDevicesMax);
  WelcomeBytes bytes{};
  bytes.version = welcome.features.version;
  bytes.header_bytes = sizeof(WelcomeBytes);
  bytes.compatible = welcome.features.compatible;
  bytes.incompatible = welcome.features.incompatible;
  std::memcpy(bytes.boot_id, welcome.boot_id.bytes.data(), sizeof(bytes.boot_id));
  bytes.seq = position.seq;
  bytes.epoch = position.epoch;
  bytes.generation = position.generation;
  std::memcpy(bytes.capture_id, position.cursor.capture_id.bytes.data(), sizeof(bytes.capture_id));
  bytes.capture_position = position.cursor.position;
  bytes.capture_loss_count = position.cursor.loss_count;
  bytes.last_time_ns = position.last_time_ns;
  bytes.gap_open = position.gap_open ? 1 : 0;
  bytes.gap_reason = position.gap_open ? static_cast<std::uint8_t>(position.gap_reason) : 0;
  bytes.initial_copy_done = position.initial_copy_done ? 1 : 0;
  bytes.receiver_name_bytes = static_cast<std::uint16_t>(welcome.receiver_name.size());
  bytes.software_bytes = static_cast<std::uint16_t>(software.size());
  bytes.feature_bytes = static_cast<std::uint16_t>(features.size());
  bytes.device_count = static_cast<std::uint16_t>(device_count);
  bytes.geometry_bytes = static_cast<std::uint32_t>(geometry.size());
  bytes.delta_cache_bytes_max = welcome.delta_cache_bytes_max;
  append_struct(bytes, out);
  append_text(welcome.receiver_name, out);
  append_text(software, out);
  append_text(features, out);
  for (std::size_t i = 0; i < device_count; ++i) append_struct(le64(welcome.store_devices[i]), out);
  out.insert(out.end(), geometry.begin(), geometry.end());
}

void append_reason(std::uint16_t code, std::string_view text, std::vector<std::byte>& out) {
  text = cut(text, kWireTextBytesMax);
  ReasonBytes bytes{};
  bytes.code = code;
  bytes.text_bytes = static_cast<std::uint16_t>(text.size());
  append_struct(bytes, out);
  append_text(text, out);
}

void append_payload(const Refuse& refuse, std::vector<std::byte>& out) {
  append_reason(static_cast<std::uint16_t>(refuse.code), refuse.text, out);
}
void append_payload(const Bye& bye, std::vector<std::byte>& out) {
  append_reason(static_cast<std::uint16_t>(bye.code), bye.text, out);
}
void append_payload(const BatchFrame& batch, std::vector<std::byte>& out) {
  out.insert(out.end(), batch.bytes.begin(), batch.bytes.end());
}
void append_payload(const DeltaBatchFrame& batch, std::vector<std::byte>& out) {
  out.insert(out.end(), batch.bytes.begin(), batch.bytes.end());
}
void append_payload(const DeltaCacheSize& size, std::vector<std::byte>& out) {
  append_struct(NumberBytes{size.bytes}, out);
}
void append_payload(const Ack& ack, std::vector<std::byte>& out) { append_struct(NumberBytes{ack.seq}, out); }
void append_payload(const Ping& ping, std::vector<std::byte>& out) { append_struct(NumberBytes{ping.token}, out); }
void append_payload(const Pong& pong, std::vector<std::byte>& out) { append_struct(NumberBytes{pong.token}, out); }
void append_payload(const Notice& notice, std::vector<std::byte>& out) {
  CHECK(!notice.code.empty());
  const std::string_view code = cut(notice.code, kWireCodeBytesMax);
  const std::string_view text = cut(notice.text, kWireTextBytesMax);
  NoticeBytes bytes{};
  bytes.active = notice.active ? 1 : 0;
  bytes.code_bytes = static_cast<std::uint16_t>(code.size());
  bytes.text_bytes = static_cast<std::uint16_t>(text.size());
  append_struct(bytes, out);
  append_text(code, out);
  append_text(text, out);
}

void append_payload(const DigestQuestion& question, std::vector<std::byte>& out) {
  encode_digest_question(question, out);
}
void append_payload(const DigestAnswer& answer, std::vector<std::byte>& out) { encode_digest_answer(answer, out); }

Result<std::vector<DiskGeometry>> read_geometry(std::span<const std::byte> bytes) {
  if (bytes.empty()) return std::vector<DiskGeometry>();
  return decode_geometry(bytes);
}

// The part of HELLO and WELCOME that must stay readable for ever: a peer of another version is to be refused by
// name, not as garbage. Fills `features` except its names. A newer peer's header is longer, what is more of it is
// skipped; an older one's is shorter, down to `header_bytes_min`, and what it lacks is zero.
template <typename T>
bool take_header(PayloadReader& reader, std::uint32_t header_bytes_min, T& bytes, WireFeatures& features) {
  struct Begin {
    le32 version;
    le32 header_bytes;
  } begin;
  if (!reader.take_struct(begin)) return false;
  const std::uint32_t header_bytes = begin.header_bytes;
  std::span<const std::byte> rest;
  if (header_bytes < header_bytes_min || !reader.take(header_bytes - sizeof(begin), rest)) return false;
  std::array<std::byte, sizeof(T)> known{};
  std::memcpy(known.data(), &begin, sizeof(begin));
  std::memcpy(known.data() + sizeof(begin), rest.data(), std::min(rest.size(), sizeof(T) - sizeof(begin)));
  bytes = std::bit_cast<T>(known);
  features.version = bytes.version;
  features.compatible = bytes.compatible;
  features.incompatible = bytes.incompatible;
  return true;
}

Result<Message> decode_hello(std::span<const std::byte> payload) {
  constexpr FrameType kType = FrameType::kHello;
  PayloadReader reader(payload);
  HelloBytes bytes;
  Hello hello;
  std::string features;
  std::span<const std::byte> geometry;
  if (!take_header(reader, sizeof(HelloBytes), bytes, hello.features)) return bad_payload(kType, "header is cut short");
  if (!reader.take_text(bytes.server_name_bytes, kWireNameBytesMax, hello.server_name) ||
      !reader.take_text(bytes.software_bytes, kWireSoftwareBytesMax, hello.software) ||
      !reader.take_text(bytes.feature_bytes, kWireFeatureBytesMax, features) ||
      !reader.take(bytes.geometry_bytes, geometry) || !reader.empty()) {
    return bad_payload(kType, "lengths do not add up");
  }
  if (!is_valid_wire_name(hello.server_name)) {
    return bad_payload(kType, "invalid server name '" + printable(hello.server_name) + "'");
  }
  hello.software = printable(hello.software);
  hello.features.incompatible_names = split_names(features);
  std::memcpy(hello.server.bytes.data(), bytes.server, sizeof(bytes.server));
  std::memcpy(hello.instance.bytes.data(), bytes.instance, sizeof(bytes.instance));
  std::memcpy(hello.boot_id.bytes.data(), bytes.boot_id, sizeof(bytes.boot_id));
  hello.epoch = bytes.epoch;
  auto disks = read_geometry(geometry);
  if (!disks.ok()) return std::move(disks).error().with_context("hello frame");
  hello.disks = std::move(disks).value();
  return Message(std::move(hello));
}

Status read_position(const WelcomeBytes& bytes, StreamPosition& position) {
  constexpr FrameType kType = FrameType::kWelcome;
  position.seq = bytes.seq;
  position.epoch = bytes.epoch;
  position.generation = bytes.generation;
  std::memcpy(position.cursor.capture_id.bytes.data(), bytes.capture_id, sizeof(bytes.capture_id));
  position.cursor.position = bytes.capture_position;
  position.cursor.loss_count = bytes.capture_loss_count;
  position.last_time_ns = bytes.last_time_ns;
  if (bytes.gap_open > 1 || bytes.initial_copy_done > 1) return bad_payload(kType, "a flag is neither 0 nor 1");
  position.gap_open = bytes.gap_open == 1;
  position.initial_copy_done = bytes.initial_copy_done == 1;
  if (position.gap_open) {
    if (bytes.gap_reason < static_cast<std::uint8_t>(GapReason::kInitialCopy) ||
        bytes.gap_reason > kGapReasonMax) {
      return bad_payload(kType, "unknown gap reason " + std::to_string(bytes.gap_reason));
    }
    position.gap_reason = static_cast<GapReason>(bytes.gap_reason);
  }
  return ok_status();
}

Result<Message> decode_welcome(std::span<const std::byte> payload) {
  constexpr FrameType kType = FrameType::kWelcome;
  PayloadReader reader(payload);
  WelcomeBytes bytes;
  Welcome welcome;
  std::string features;
  std::span<const std::byte> devices;
  std::span<const std::byte> geometry;
  if (!take_header(reader, kWelcomeHeaderBytesMin, bytes, welcome.features))
    return bad_payload(kType, "header is cut short");
  const std::size_t device_count = bytes.device_count;
  if (device_count > kWireDevicesMax) return bad_payload(kType, "too many store devices");
  if (!reader.take_text(bytes.receiver_name_bytes, kWireNameBytesMax, welcome.receiver_name) ||
      !reader.take_text(bytes.software_bytes, kWireSoftwareBytesMax, welcome.software) ||
      !reader.take_text(bytes.feature_bytes, kWireFeatureBytesMax, features) ||
      !reader.take(device_count * sizeof(le64), devices) || !reader.take(bytes.geometry_bytes, geometry) ||
      !reader.empty()) {
    return bad_payload(kType, "lengths do not add up");
  }
  if (!is_valid_wire_name(welcome.receiver_name)) {
    return bad_payload(kType, "invalid receiver name '" + printable(welcome.receiver_name) + "'");
  }
  welcome.software = printable(welcome.software);
  welcome.features.incompatible_names = split_names(features);
  std::memcpy(welcome.boot_id.bytes.data(), bytes.boot_id, sizeof(bytes.boot_id));
  welcome.delta_cache_bytes_max = bytes.delta_cache_bytes_max;
  RETURN_IF_ERROR(read_position(bytes, welcome.position));
  for (std::size_t i = 0; i < device_count; ++i) {
    le64 device;
    std::memcpy(&device, devices.data() + i * sizeof(device), sizeof(device));
    welcome.store_devices.push_back(device);
  }
  auto disks = read_geometry(geometry);
  if (!disks.ok()) return std::move(disks).error().with_context("welcome frame");
  welcome.position.disks = std::move(disks).value();
  return Message(std::move(welcome));
}

// REFUSE and BYE.
Result<Message> decode_reason(FrameType type, std::span<const std::byte> payload) {
  PayloadReader reader(payload);
  ReasonBytes bytes;
  std::string text;
  if (!reader.take_struct(bytes) || !reader.take_text(bytes.text_bytes, kWireTextBytesMax, text) || !reader.empty()) {
    return bad_payload(type, "lengths do not add up");
  }
  const std::uint16_t code = bytes.code;
  // A code that only a newer peer knows still comes with its sentence.
  if (code == 0) return bad_payload(type, "code is 0");
  text = printable(text);
  if (type == FrameType::kRefuse) return Message(Refuse{static_cast<RefuseCode>(code), std::move(text)});
  return Message(Bye{static_cast<ByeCode>(code), std::move(text)});
}

Result<Message> decode_notice(std::span<const std::byte> payload) {
  PayloadReader reader(payload);
  NoticeBytes bytes;
  Notice notice;
  if (!reader.take_struct(bytes) || !reader.take_text(bytes.code_bytes, kWireCodeBytesMax, notice.code) ||
      !reader.take_text(bytes.text_bytes, kWireTextBytesMax, notice.text) || !reader.empty() || notice.code.empty()) {
    return bad_payload(FrameType::kNotice, "lengths do not add up");
  }
  if (bytes.active > 1) return bad_payload(FrameType::kNotice, "a flag is neither 0 nor 1");
  notice.active = bytes.active == 1;
  notice.code = printable(notice.code);
  notice.text = printable(notice.text);
  return Message(std::move(notice));
}

Result<std::uint64_t> decode_number(FrameType type, std::span<const std::byte> payload) {
  PayloadReader reader(payload);
  NumberBytes bytes;
  if (!reader.take_struct(bytes) || !reader.empty()) return bad_payload(type, "lengths do not add up");
  return static_cast<std::uint64_t>(bytes.value);
}

}  // namespace

std::string_view frame_type_name(FrameType type) {
  switch (type) {
    case FrameType::kHello: return "hello";
    case FrameType::kWelcome: return "welcome";
    case FrameType::kRefuse: return "refuse";
    case FrameType::kBatch: return "batch";
    case FrameType::kAck: return "ack";
    case FrameType::kNotice: return "notice";
    case FrameType::kPing: return "ping";
    case FrameType::kPong: return "pong";
    case FrameType::kBye: return "bye";
    case FrameType::kDeltaCache: return "delta-cache";
    case FrameType::kDeltaBatch: return "delta-batch";
    case FrameType::kDigestQuestion: return "digest-question";
    case FrameType::kDigestAnswer: return "digest-answer";
  }
  return "unknown";
}

std::string_view refuse_code_name(RefuseCode code) {
  switch (code) {
    case RefuseCode::kProtocol: return "protocol";
    case RefuseCode::kVersion: return "version";
    case RefuseCode::kIncompatible: return "incompatible-feature";
    case RefuseCode::kIdentity: return "identity";
    case RefuseCode::kUnknownServer: return "unknown-server";
    case RefuseCode::kWrongServer: return "wrong-server";
    case RefuseCode::kEpoch: return "epoch";
    case RefuseCode::kAlreadyConnected: return "already-connected";
    case RefuseCode::kStoreReadOnly: return "store-read-only";
    case RefuseCode::kStoreFailed: return "store-failed";
    case RefuseCode::kShuttingDown: return "shutting-down";
  }
  return "unknown";
}

FrameType type_of(const Message& message) {
  // The variant lists its messages in the order of their types.
  return static_cast<FrameType>(message.index() + 1);
}

std::uint32_t payload_bytes_max(FrameType type) {
  switch (type) {
    case FrameType::kHello: return kHelloBytesMax;
    case FrameType::kWelcome: return kWelcomeBytesMax;
    case FrameType::kRefuse:
    case FrameType::kNotice:
    case FrameType::kBye: return kTextFrameBytesMax;
    case FrameType::kBatch: return kBatchFrameBytesMax;
    case FrameType::kDeltaBatch: return kDeltaBatchFrameBytesMax;
    case FrameType::kDeltaCache:
    case FrameType::kAck:
    case FrameType::kPing:
    case FrameType::kPong: return sizeof(NumberBytes);
    case FrameType::kDigestQuestion: return kDigestQuestionBytesMax;
    case FrameType::kDigestAnswer: return kDigestAnswerBytesMax;
  }
  return 0;
}

void store_frame_header(std::span<std::byte, kFrameHeaderBytes> out, FrameType type, std::uint32_t payload_bytes) {
  CHECK_LE(payload_bytes, payload_bytes_max(type));
  FrameHeaderBytes header{};
  header.magic = kFrameMagic;
  header.type = static_cast<std::uint8_t>(type);
  header.payload_bytes = payload_bytes;
  header.checksum = header_checksum(header);
  std::memcpy(out.data(), &header, sizeof(header));
}

void append_frame(const Message& message, std::vector<std::byte>& out) {
  const std::size_t begin = out.size();
  out.resize(begin + kFrameHeaderBytes);
  std::visit([&](const auto& typed) { append_payload(typed, out); }, message);
  const std::size_t payload_bytes = out.size() - begin - kFrameHeaderBytes;
  CHECK_LE(payload_bytes, std::size_t{kDeltaBatchFrameBytesMax});
  store_frame_header(std::span(out).subspan(begin).first<kFrameHeaderBytes>(), type_of(message),
                     static_cast<std::uint32_t>(payload_bytes));
}

Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  FrameHeaderBytes header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kFrameMagic) {
    return Error(ErrorKind::kCorrupt, "frame header: magic is 0x" + to_hex(bytes.first(4)) + ", not a frame");
  }
  if (header.checksum != header_checksum(header)) return Error(ErrorKind::kCorrupt, "frame header: checksum is wrong");
  if (header.type == 0 || header.type > kFrameTypeMax) {
    return Error(ErrorKind::kCorrupt, "frame header: unknown type " + std::to_string(header.type));
  }
  const FrameType type = static_cast<FrameType>(header.type);
  if (header.flags != 0 || header.reserved != 0) {
    return Error(ErrorKind::kCorrupt, "frame header: unknown flags " + std::to_string(header.flags) + " in a " +
                                          std::string(frame_type_name(type)) + " frame");
  }
  const std::uint32_t payload_bytes = header.payload_bytes;
  if (payload_bytes > payload_bytes_max(type)) {
    return Error(ErrorKind::kCorrupt, "frame header: " + std::string(frame_type_name(type)) + " frame of " +
                                          std::to_string(payload_bytes) + " bytes, allowed are " +
                                          std::to_string(payload_bytes_max(type)));
  }
  return FrameHeader{type, payload_bytes};
}

Result<Message> decode_payload(FrameType type, std::span<const std::byte> payload) {
  if (payload.size() > payload_bytes_max(type)) return bad_payload(type, "too long");
  switch (type) {
    case FrameType::kHello: return decode_hello(payload);
    case FrameType::kWelcome: return decode_welcome(payload);
    case FrameType::kRefuse:
    case FrameType::kBye: return decode_reason(type, payload);
    case FrameType::kNotice: return decode_notice(payload);
    case FrameType::kBatch: return Message(BatchFrame{payload});
    case FrameType::kDigestQuestion: {
      ASSIGN_OR_RETURN(DigestQuestion question, decode_digest_question(payload));
      return Message(std::move(question));
    }
    case FrameType::kDigestAnswer: {
      ASSIGN_OR_RETURN(DigestAnswer answer, decode_digest_answer(payload));
      return Message(std::move(answer));
    }
    case FrameType::kDeltaBatch: return Message(DeltaBatchFrame{payload});
    case FrameType::kDeltaCache:
    case FrameType::kAck:
    case FrameType::kPing:
    case FrameType::kPong: break;
  }
  auto number = decode_number(type, payload);
  if (!number.ok()) return std::move(number).error();
  if (type == FrameType::kDeltaCache) return Message(DeltaCacheSize{*number});
  if (type == FrameType::kAck) return Message(Ack{*number});
  if (type == FrameType::kPing) return Message(Ping{*number});
  return Message(Pong{*number});
}

bool is_valid_wire_name(std::string_view name) {
  if (name.empty() || name.size() > kWireNameBytesMax || name[0] == '.' || name[0] == '-') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

std::string unknown_incompatible_feature(const WireFeatures& features) {
  std::size_t name_index = 0;
  for (int bit = 0; bit < 32; ++bit) {
    const std::uint32_t mask = 1u << bit;
    if ((features.incompatible & mask) == 0) continue;
    if ((kWireIncompatibleKnown & mask) == 0) {
      if (name_index < features.incompatible_names.size()) {
        return "'" + features.incompatible_names[name_index] + "' (bit " + std::to_string(bit) + ")";
      }
      return "of bit " + std::to_string(bit);
    }
    ++name_index;
  }
  return std::string();
}

}  // namespace understudy
