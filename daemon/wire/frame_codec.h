// SPDX-License-Identifier: Apache-2.0
// Frames as typed messages: bytes in -> message or Error, message in -> bytes. Pure: no I/O, no clock, no state.
// Nothing that is decoded is trusted: every length is checked against frame_format.h before it is used.
// Format: FORMAT.md in this folder. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/uuid.h"
#include "daemon/digest/digest_message.h"
#include "daemon/record/record.h"
#include "daemon/wire/frame_format.h"

namespace understudy {

// What both ends say of the protocol they speak.
struct WireFeatures {
  std::uint32_t version = kWireVersion;
  std::uint32_t compatible = kWireLz4 | kWireZstd | kWireDeltas | kWireDigest;
  std::uint32_t incompatible = 0;
  // A name for each bit set in `incompatible`, lowest first, so that a peer that has never heard of it can name it.
  std::vector<std::string> incompatible_names;
  bool operator==(const WireFeatures&) const = default;
};

struct Hello {
  WireFeatures features;
  Uuid server;    // the stream's server
  Uuid instance;  // of the agent process: new at each start
  Uuid boot_id;   // of the agent's machine
  std::uint64_t epoch = 1;
  std::string server_name;  // must equal the certificate's
  std::string software;     // for people
  std::vector<DiskGeometry> disks;
};

struct Welcome {
  WireFeatures features;
  StreamPosition position;
  std::string receiver_name;
  std::string software;
  Uuid boot_id;                              // of the receiver's machine
  std::vector<std::uint64_t> store_devices;  // whole disks under the store, kernel dev_t (major << 20 | minor)
  std::uint64_t delta_cache_bytes_max = 0;   // what this session may ask for; 0 = no deltas
};

enum class RefuseCode : std::uint16_t {
  kProtocol = 1,          // what came was not the protocol
  kVersion = 2,           // no common protocol version
  kIncompatible = 3,      // an incompatible feature that the refusing side does not know
  kIdentity = 4,          // the certificate is not for this: role or name
  kUnknownServer = 5,     // the receiver has no store for this server
  kWrongServer = 6,       // the store belongs to another server
  kEpoch = 7,             // the stream's epoch is not the store's (I9)
  kAlreadyConnected = 8,  // another live agent holds the session
  kStoreReadOnly = 9,     // the store stopped after a failed write
  kStoreFailed = 10,      // the store cannot be opened or created
  kShuttingDown = 11,
};
std::string_view refuse_code_name(RefuseCode code);

struct Refuse {
  RefuseCode code = RefuseCode::kProtocol;
  std::string text;
};

// The bytes of one batch (record/batch.h); not looked into here.
struct BatchFrame {
  std::span<const std::byte> bytes;
};
struct Ack {
  Seq seq = 0;
};
struct Notice {
  bool active = false;
  std::string code;  // stable, for programs: "store-full"
  std::string text;  // for people
};
struct Ping {
  std::uint64_t token = 0;
};
struct Pong {
  std::uint64_t token = 0;
};

enum class ByeCode : std::uint16_t {
  kShutdown = 1,       // the program ends
  kReplaced = 2,       // a newer connection took the session over
  kStoreFailed = 3,    // the store cannot take more
  kBadData = 4,        // what came could not be accepted; the session may be tried again
  kConfiguration = 5,  // the store was removed from the configuration
};

struct Bye {
  ByeCode code = ByeCode::kShutdown;
  std::string text;
};

// From here on both ends' caches are empty and at most so large.
struct DeltaCacheSize {
  std::uint64_t bytes = 0;
};
// One batch against the cache (delta_codec.h); not looked into here.
struct DeltaBatchFrame {
  std::span<const std::byte> bytes;
};

// In the order of FrameType.
using Message = std::variant<Hello, Welcome, Refuse, BatchFrame, Ack, Notice, Ping, Pong, Bye, DeltaCacheSize,
                             DeltaBatchFrame, DigestQuestion, DigestAnswer>;

struct FrameHeader {
  FrameType type = FrameType::kPing;
  std::uint32_t payload_bytes = 0;
};

std::string_view frame_type_name(FrameType type);
FrameType type_of(const Message& message);
// The most payload a frame of this type may have.
std::uint32_t payload_bytes_max(FrameType type);

// Appends a whole frame to `out`. Texts longer than the format allows are cut; names must be within their limits
// (CHECK), because they come from our own configuration.
void append_frame(const Message& message, std::vector<std::byte>& out);
// Writes the header for a payload that the caller has put, or will put, right behind it.
void store_frame_header(std::span<std::byte, kFrameHeaderBytes> out, FrameType type, std::uint32_t payload_bytes);

// kCorrupt when these are not the first bytes of a frame, the type is unknown or the length above its limit.
Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderBytes> bytes);
// `payload` is exactly header.payload_bytes long. A BatchFrame points into it.
Result<Message> decode_payload(FrameType type, std::span<const std::byte> payload);

// Names of servers and receivers: 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot or dash.
bool is_valid_wire_name(std::string_view name);

// Error text for the first bit of `features.incompatible` that we do not know, by its name; empty = all known.
std::string unknown_incompatible_feature(const WireFeatures& features);

}  // namespace understudy
