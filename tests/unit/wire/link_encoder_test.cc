// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/link_encoder.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/wire/frame_codec.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

std::unique_ptr<OutgoingBatch> batch_of(Seq seq, std::vector<std::byte> content,
                                        std::shared_ptr<void> keepalive = nullptr) {
  const std::size_t bytes = content.size();
  auto payload = std::make_shared<std::vector<std::byte>>(std::move(content));
  auto outgoing = std::make_unique<OutgoingBatch>();
  Uuid server;
  server.bytes.fill(std::byte{1});
  outgoing->batch.start(server, seq, 1, 1);
  Record record;
  record.length_bytes = bytes;
  record.payload = *payload;
  record.checksum = xxh3_64(*payload);
  record.time_ns = seq;
  outgoing->batch.add(record);
  outgoing->keepalive.push_back(payload);
  if (keepalive) outgoing->keepalive.push_back(std::move(keepalive));
  return outgoing;
}

std::unique_ptr<OutgoingBatch> batch_of(Seq seq, std::size_t bytes, std::shared_ptr<void> keepalive = nullptr) {
  return batch_of(seq, std::vector<std::byte>(bytes, static_cast<std::byte>(seq)), std::move(keepalive));
}

// The same for every seq, but for one byte.
std::vector<std::byte> content_of(Seq seq) {
  std::vector<std::byte> content(16 << 10, std::byte{7});
  content[seq] = static_cast<std::byte>(seq);
  return content;
}

std::optional<EncodedBatch> wait_pop(LinkEncoder& encoder) {
  for (int i = 0; i < 5000; ++i) {
    if (auto encoded = encoder.pop()) return encoded;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return std::nullopt;
}

}  // namespace

TEST_CASE("batches come out encoded, in the order they went in, from several threads") {
  std::atomic<int> woken{0};
  LinkEncoder encoder(4, [&] { ++woken; });
  encoder.set_peer(kWireZstd, 0);
  encoder.set_compression({Codec::kZstd, 3}, false);
  std::mt19937_64 random(1);
  for (Seq seq = 1; seq <= 300; ++seq) encoder.push(batch_of(seq, 512 * (1 + random() % 400)));
  CHECK(encoder.queued_bytes() > 0);
  for (Seq seq = 1; seq <= 300; ++seq) {
    auto encoded = wait_pop(encoder);
    REQUIRE(encoded);
    CHECK(encoded->info.first_seq == seq);
    const auto frame = std::span<const std::byte>(encoded->frame);
    auto header = decode_frame_header(frame.first<kFrameHeaderBytes>());
    REQUIRE(header.ok());
    CHECK(header->type == FrameType::kBatch);
    auto batch = BatchReader::decode(frame.subspan(kFrameHeaderBytes), Verify::kRecords);
    REQUIRE(batch.ok());
    CHECK(batch->info().codec == Codec::kZstd);
    encoder.recycle(std::move(encoded->frame));
  }
  CHECK(encoder.queued_bytes() == 0);
  CHECK(woken > 0);
}

TEST_CASE("a codec the receiver cannot decode is not used") {
  LinkEncoder encoder(1, [] {});
  encoder.set_peer(kWireLz4, 0);
  encoder.set_compression({Codec::kZstd, 1}, false);
  encoder.push(batch_of(1, 65536));
  CHECK(wait_pop(encoder)->info.codec == Codec::kNone);
  encoder.set_compression({Codec::kLz4, 1}, false);
  encoder.push(batch_of(2, 65536));
  CHECK(wait_pop(encoder)->info.codec == Codec::kLz4);
}

TEST_CASE("a batch goes whole where its changes alone compress worse") {
  // In every second batch the same noise stands there eight times in a row, which compresses well as a whole, and worse
  // when cut to scattered runs, which is what changed since the batch before.
  std::mt19937_64 random(1);
  std::vector<std::byte> clean(64 << 10);
  for (std::size_t at = 0; at < clean.size(); ++at) {
    clean[at] = at % 1024 < 128 ? static_cast<std::byte>(random()) : clean[at - 128];
  }
  std::vector<std::byte> spoiled = clean;
  for (std::size_t at = 0; at + 32 < spoiled.size(); at += 24 + random() % 6) {
    for (std::size_t i = 0; i < 16; ++i) spoiled[at + i] = static_cast<std::byte>(random());
  }
  LinkEncoder encoder(1, [] {});
  encoder.set_peer(kWireZstd | kWireDeltas, 1 << 20);
  encoder.set_delta_cache_bytes(1 << 20);
  encoder.set_compression({Codec::kZstd, 1}, false);
  DeltaDecoder decoder;
  for (Seq seq = 1; seq <= 100; ++seq) {
    const std::vector<std::byte>& content = seq % 2 == 0 ? clean : spoiled;
    encoder.push(batch_of(seq, content));
    auto encoded = wait_pop(encoder);
    REQUIRE(encoded);
    std::span<const std::byte> frame = encoded->frame;
    if (seq == 1) {
      decoder.resize(1 << 20);
      frame = frame.subspan(kFrameHeaderBytes + 8);
    }
    REQUIRE(decode_frame_header(frame.first<kFrameHeaderBytes>())->type == FrameType::kDeltaBatch);
    std::vector<std::byte> batch;
    REQUIRE(decoder.decode(frame.subspan(kFrameHeaderBytes), batch).ok());
    const auto reader = BatchReader::decode(batch, Verify::kRecords);
    REQUIRE(reader.ok());
    CHECK(std::ranges::equal(reader->records()[0].payload, content));
    if (seq < 3 || seq % 2 == 1) continue;
    CAPTURE(seq);
    CHECK(frame.size() < clean.size() / 6);
    CHECK(encoded->changed_bytes == content.size());
  }
}

TEST_CASE("deltas are made in order by many threads, over changes of the cache and of the session") {
  LinkEncoder encoder(4, [] {});
  encoder.set_compression({Codec::kZstd, 1}, false);
  Seq seq = 1;
  for (int session = 0; session < 3; ++session) {
    encoder.set_peer(kWireZstd | (session == 1 ? 0 : kWireDeltas), session == 2 ? 64 << 10 : 1 << 20);
    DeltaDecoder decoder;
    std::size_t deltas = 0;
    for (const std::uint64_t cache_bytes : {std::uint64_t{1} << 20, std::uint64_t{0}, std::uint64_t{16} << 10}) {
      encoder.set_delta_cache_bytes(cache_bytes);
      const Seq end = seq + 60;
      for (Seq next = seq; next < end; ++next) encoder.push(batch_of(next, content_of(next)));
      for (; seq < end; ++seq) {
        auto encoded = wait_pop(encoder);
        REQUIRE(encoded);
        CHECK(encoded->info.first_seq == seq);
        std::span<const std::byte> rest = encoded->frame;
        std::vector<std::byte> batch;
        while (!rest.empty()) {
          const FrameHeader header = decode_frame_header(rest.first<kFrameHeaderBytes>()).value();
          const auto payload = rest.subspan(kFrameHeaderBytes, header.payload_bytes);
          rest = rest.subspan(kFrameHeaderBytes + header.payload_bytes);
          if (header.type == FrameType::kDeltaCache) {
            decoder.resize(std::get<DeltaCacheSize>(decode_payload(header.type, payload).value()).bytes);
          } else if (header.type == FrameType::kDeltaBatch) {
            ++deltas;
            REQUIRE(decoder.decode(payload, batch).ok());
          } else {
            batch.assign(payload.begin(), payload.end());
          }
        }
        const auto reader = BatchReader::decode(batch, Verify::kRecords);
        REQUIRE(reader.ok());
        CHECK(std::ranges::equal(reader->records()[0].payload, content_of(seq)));
      }
      CHECK(decoder.cache().bytes_max() == encoder.status().delta_cache_bytes_max);
    }
    CHECK(deltas == (session == 1 ? 0 : 120));
    encoder.clear();
    CHECK(encoder.status().delta_cache_bytes_max == 0);
    CHECK(encoder.status().delta_cache_bytes == 0);
  }
}

TEST_CASE("after clear no memory of any batch is referenced") {
  LinkEncoder encoder(2, [] {});
  encoder.set_peer(kWireZstd, 0);
  encoder.set_compression({Codec::kZstd, 19}, false);
  std::weak_ptr<void> alive;
  for (int round = 0; round < 5; ++round) {
    auto token = std::make_shared<int>(round);
    alive = token;
    for (Seq seq = 1; seq <= 20; ++seq) encoder.push(batch_of(seq, 1 << 20, token));
    token.reset();
    encoder.clear();
    CHECK(alive.expired());
    CHECK(encoder.queued_bytes() == 0);
    CHECK_FALSE(encoder.pop());
  }
  encoder.push(batch_of(7, 4096));
  CHECK(wait_pop(encoder)->info.first_seq == 7);
}

TEST_CASE("encoding pauses at its bound") {
  LinkEncoder encoder(2, [] {});
  for (Seq seq = 1; seq <= 40; ++seq) encoder.push(batch_of(seq, 1 << 20));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(encoder.encoded_bytes() >= kLinkEncodedBytesMax);
  CHECK(encoder.encoded_bytes() < kLinkEncodedBytesMax + (3u << 20));
  Seq seq = 1;
  while (auto encoded = wait_pop(encoder)) {
    CHECK(encoded->info.first_seq == seq);
    if (seq++ == 40) break;
  }
  CHECK(seq == 41);
}
