// SPDX-License-Identifier: Apache-2.0
// The bytes of the agent-receiver protocol, exactly as FORMAT.md in this folder describes them; change both together.
// All integers are little-endian, reserved bytes are zero. Used by frame_codec only; everybody else uses its messages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "daemon/base/limits.h"
#include "daemon/base/little_endian.h"

namespace understudy {

// Bumped when a peer of the older version could no longer understand the newer one at all. Anything less is a flag.
inline constexpr std::uint32_t kWireVersion = 1;

// "USfr" read as little-endian.
inline constexpr std::uint32_t kFrameMagic = 0x72665355;

enum class FrameType : std::uint8_t {
  kHello = 1,    // agent -> receiver, first frame
  kWelcome = 2,  // receiver -> agent: accepted
  kRefuse = 3,   // either way: not accepted, and why; the sender closes
  kBatch = 4,    // agent -> receiver: one batch of record/FORMAT.md
  kAck = 5,      // receiver -> agent: everything up to a seq is on stable storage
  kNotice = 6,   // receiver -> agent: a condition that people should know of came or went
  kPing = 7,     // either way, when nothing else was sent for a while
  kPong = 8,     // the answer
  kBye = 9,      // either way: the sender closes on purpose
  // Only to a receiver whose WELCOME has kWireDeltas.
  kDeltaCache = 10,  // agent -> receiver: both caches are empty from here on, and so large
  kDeltaBatch = 11,  // agent -> receiver: one batch as what changed against the cache
  // Only when both ends have kWireDigest.
  kDigestQuestion = 12,  // agent -> receiver: is this region the same there?
  kDigestAnswer = 13,    // receiver -> agent
};
inline constexpr std::uint8_t kFrameTypeMax = 13;

// Limits of payloads; a frame above its limit ends the session before anything is allocated for it.
inline constexpr std::uint32_t kHelloBytesMax = 64u << 10;
inline constexpr std::uint32_t kWelcomeBytesMax = 64u << 10;
inline constexpr std::uint32_t kTextFrameBytesMax = 4u << 10;  // REFUSE, NOTICE, BYE
inline constexpr std::uint32_t kBatchFrameBytesMax = static_cast<std::uint32_t>(kBatchEncodedBytesMax);
// Never longer than the plain batch but for its own header and a last operation.
inline constexpr std::uint32_t kDeltaBatchFrameBytesMax = kBatchFrameBytesMax + (4u << 10);

// Limits inside payloads.
inline constexpr std::size_t kWireNameBytesMax = 64;       // server and receiver names
inline constexpr std::size_t kWireSoftwareBytesMax = 128;  // "understudy-agent 0.1.0"
inline constexpr std::size_t kWireTextBytesMax = 2048;     // sentences for people
inline constexpr std::size_t kWireCodeBytesMax = 64;       // code of a notice
inline constexpr std::size_t kWireFeatureBytesMax = 2048;  // names of incompatible features
inline constexpr std::size_t kWireDevicesMax = 256;        // disks under a store

// Compatible flags: may be ignored by who does not know them.
inline constexpr std::uint32_t kWireLz4 = 1u << 0;   // the sender can decode lz4 batches
inline constexpr std::uint32_t kWireZstd = 1u << 1;  // the sender can decode zstd batches
inline constexpr std::uint32_t kWireDeltas = 1u << 2;  // the sender can decode DELTA_BATCH
inline constexpr std::uint32_t kWireDigest = 1u << 3;  // the sender understands the frames of a digest scan
// Incompatible flags: a peer that does not know one refuses the session, naming it. None is defined in version 1.
inline constexpr std::uint32_t kWireIncompatibleKnown = 0;

struct FrameHeaderBytes {
  le32 magic;
  std::uint8_t type;
  std::uint8_t flags;  // none defined: must be 0
  le16 reserved;
  le32 payload_bytes;
  le32 checksum;  // low 32 bits of xxh3-64 of the 12 bytes before
};
inline constexpr std::size_t kFrameHeaderBytes = 16;
static_assert(sizeof(FrameHeaderBytes) == kFrameHeaderBytes && alignof(FrameHeaderBytes) == 1);

// Behind it: server name, software, names of the incompatible features, geometry (payload of a GEOMETRY record).
struct HelloBytes {
  le32 version;
  le32 header_bytes;  // of this struct; more is a newer peer's and skipped
  le32 compatible;
  le32 incompatible;
  std::uint8_t server[16];
  std::uint8_t instance[16];
  std::uint8_t boot_id[16];
  le64 epoch;
  le16 server_name_bytes;
  le16 software_bytes;
  le16 feature_bytes;
  le16 reserved;
  le32 geometry_bytes;
  le32 reserved2;
};
static_assert(sizeof(HelloBytes) == 88 && alignof(HelloBytes) == 1);

// Behind it: receiver name, software, names of the incompatible features, devices (le64 each), geometry.
struct WelcomeBytes {
  le32 version;
  le32 header_bytes;
  le32 compatible;
  le32 incompatible;
  std::uint8_t boot_id[16];
  le64 seq;
  le64 epoch;
  le64 generation;
  std::uint8_t capture_id[16];
  le64 capture_position;
  le64 capture_loss_count;
  le64 last_time_ns;
  std::uint8_t gap_open;           // 0 or 1
  std::uint8_t gap_reason;         // GapReason; 0 while no gap is open
  std::uint8_t initial_copy_done;  // 0 or 1
  std::uint8_t reserved;
  le16 receiver_name_bytes;
  le16 software_bytes;
  le16 feature_bytes;
  le16 device_count;
  le32 geometry_bytes;
  le64 delta_cache_bytes_max;  // the largest cache for this session; 0 = no deltas. Absent in the first receivers
};
static_assert(sizeof(WelcomeBytes) == 120 && alignof(WelcomeBytes) == 1);
inline constexpr std::uint32_t kWelcomeHeaderBytesMin = 112;

// REFUSE and BYE; the text is behind it.
struct ReasonBytes {
  le16 code;
  le16 text_bytes;
};
static_assert(sizeof(ReasonBytes) == 4);

// Code and text are behind it.
struct NoticeBytes {
  std::uint8_t active;  // 0 or 1
  std::uint8_t reserved;
  le16 code_bytes;
  le16 text_bytes;
  le16 reserved2;
};
static_assert(sizeof(NoticeBytes) == 8);

// ACK (seq), PING and PONG (token), DELTA_CACHE (bytes).
struct NumberBytes {
  le64 value;
};
static_assert(sizeof(NumberBytes) == 8);

// DELTA_BATCH. Behind it: header and stored table of the batch as it would be without payload compression, then the
// operations and the literals, each compressed by its codec (delta_codec.h).
struct DeltaBatchBytes {
  le32 head_bytes;  // of batch header and stored table
  le32 operations_raw_bytes;
  le32 operations_stored_bytes;
  le32 literals_raw_bytes;
  le32 literals_stored_bytes;
  std::uint8_t operations_codec;  // Codec of record/batch.h
  std::uint8_t literals_codec;
  std::uint8_t store_codec;  // what the receiver compresses the rebuilt batch with
  std::uint8_t reserved;
};
static_assert(sizeof(DeltaBatchBytes) == 24 && alignof(DeltaBatchBytes) == 1);

}  // namespace understudy
