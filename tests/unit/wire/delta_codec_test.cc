// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/delta_codec.h"

#include <cstring>
#include <memory>
#include <random>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/record/batch_format.h"
#include "daemon/wire/frame_format.h"

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

constexpr std::uint64_t kDiskBytes = 256 * kDeltaBlockBytes;

// Batches of a made-up server: two disks, writes that rewrite, sector by sector or in long runs, zeros and copies.
class Load {
 public:
  explicit Load(std::uint64_t seed) : random_(seed) {
    for (auto& disk : disks_) {
      disk.resize(kDiskBytes);
      for (auto& byte : disk) byte = static_cast<std::byte>(random_());
    }
  }

  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  BatchWriter next(Seq& seq) {
    BatchWriter batch;
    payloads_.clear();
    batch.start(Uuid{}, seq, 1, 1);
    const std::uint64_t count = 1 + below(12);
    for (std::uint64_t i = 0; i < count; ++i) batch.add(record());
    seq += count;
    batch.set_cursor({Uuid{}, seq, 0});
    return batch;
  }

 private:
  Record record() {
    Record record;
    record.time_ns = ++time_ns_;
    record.disk = static_cast<std::uint16_t>(below(2));
    const std::uint64_t kind = below(20);
    record.length_bytes = 512 * (1 + below(below(4) == 0 ? 100 : 8));
    record.offset_bytes = 512 * below((kDiskBytes - record.length_bytes) / 512);
    std::byte* const at = disks_[record.disk].data() + record.offset_bytes;
    if (kind == 0) {
      record.kind = RecordKind::kZero;
      std::memset(at, 0, record.length_bytes);
      return record;
    }
    if (kind == 1) {
      record.kind = RecordKind::kBarrier;
      record.offset_bytes = record.length_bytes = 0;
      record.disk = 0;
      return record;
    }
    if (kind == 2) {
      record.kind = RecordKind::kMark;
      record.offset_bytes = record.length_bytes = 0;
      record.disk = 0;
      return with_payload(record, encode_mark({"mark-" + std::to_string(time_ns_), Consistency::kCrash}));
    }
    if (kind == 3) {
      record.kind = RecordKind::kCopy;
      record.flags = kRecordZeros;
      std::memset(at, 0, record.length_bytes);
      return record;
    }
    if (kind <= 5) {
      record.kind = RecordKind::kCopy;
      record.flags = below(2) == 0 ? kRecordInitial : 0;
    } else {
      change(at, record.length_bytes);
    }
    return with_payload(record, {at, at + record.length_bytes});
  }

  // Nothing, a few bytes, or everything.
  void change(std::byte* at, std::uint64_t bytes) {
    const std::uint64_t how = below(6);
    if (how == 0) return;
    const std::uint64_t count = how == 1 ? bytes : 1 + below(40);
    for (std::uint64_t i = 0; i < count; ++i) at[how == 1 ? i : below(bytes)] = static_cast<std::byte>(random_());
  }

  Record with_payload(Record record, std::vector<std::byte> payload) {
    payloads_.push_back(std::make_unique<std::vector<std::byte>>(std::move(payload)));
    record.payload = *payloads_.back();
    record.checksum = xxh3_64(record.payload);
    return record;
  }

  std::mt19937_64 random_;
  std::uint64_t time_ns_ = 0;
  std::vector<std::byte> disks_[2];
  std::vector<std::unique_ptr<std::vector<std::byte>>> payloads_;
};

std::vector<std::byte> plain_of(const BatchWriter& batch) {
  std::vector<std::byte> plain;
  batch.encode(Compression{Codec::kNone, 0}, plain);
  return plain;
}

// Payload of the DELTA_BATCH frame; empty when the batch goes as it is.
std::vector<std::byte> delta_of(DeltaEncoder& encoder, const BatchWriter& batch, Codec codec) {
  DeltaStreams streams;
  std::vector<std::byte> frame;
  if (!encoder.encode(batch.records(), streams)) return frame;
  std::vector<std::byte> plain;
  const BatchInfo info = batch.encode(Compression{codec, 1}, Compression{Codec::kNone, 0}, plain);
  append_delta_batch(plain, info, streams, Compression{codec, 1}, frame);
  return frame;
}

// The batch as it was before compression.
std::vector<std::byte> unpack(std::span<const std::byte> batch) {
  const BatchReader reader = BatchReader::decode(batch, Verify::kRecords).value();
  BatchWriter writer;
  writer.start(reader.info().server, reader.info().first_seq, reader.info().epoch, reader.info().generation);
  for (const Record& record : reader.records()) writer.add(record);
  writer.set_cursor(reader.info().cursor);
  return plain_of(writer);
}

// A write of one block and the same with one byte changed.
struct Rewrite {
  Rewrite() : block(kDeltaBlockBytes), encoder(), decoder() {
    std::mt19937 random(1);
    for (auto& byte : block) byte = static_cast<std::byte>(random());
    encoder.resize(1 << 20);
    decoder.resize(1 << 20);
  }
  std::vector<std::byte> frame(Seq seq) {
    Record record;
    record.offset_bytes = 8192;
    record.length_bytes = block.size();
    record.time_ns = seq;
    record.payload = block;
    record.checksum = xxh3_64(block);
    BatchWriter batch;
    batch.start(Uuid{}, seq, 1, 1);
    batch.add(record);
    return delta_of(encoder, batch, Codec::kNone);
  }
  std::vector<std::byte> block;
  DeltaEncoder encoder;
  DeltaDecoder decoder;
};

}  // namespace

TEST_CASE("whatever is written, what is decoded is what was encoded") {
  std::size_t deltas = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Load load(seed);
    DeltaEncoder encoder;
    DeltaDecoder decoder;
    Seq seq = 1;
    for (int round = 0; round < 60; ++round) {
      if (round == 0 || load.below(25) == 0) {
        // From no cache at all over a few blocks to everything.
        const std::uint64_t bytes = load.below(3) == 0 ? load.below(3) * kDeltaBlockBytes : load.below(kDiskBytes * 3);
        encoder.resize(bytes);
        decoder.resize(bytes);
      }
      const BatchWriter batch = load.next(seq);
      const auto frame = delta_of(encoder, batch, static_cast<Codec>(load.below(3)));
      if (frame.empty()) continue;
      ++deltas;
      std::vector<std::byte> decoded;
      const Status status = decoder.decode(frame, decoded);
      REQUIRE_MESSAGE(status.ok(), (status.ok() ? "" : status.error().message()));
      REQUIRE(unpack(decoded) == plain_of(batch));
      REQUIRE(decoder.cache().block_count() == encoder.cache().block_count());
      REQUIRE(decoder.cache().bytes_used() == encoder.cache().bytes_used());
    }
  }
  CHECK(deltas > 2000);
}

TEST_CASE("a rewritten block costs little more than what changed") {
  Rewrite rewrite;
  const auto first = rewrite.frame(1);
  CHECK(first.size() > kDeltaBlockBytes);
  rewrite.block[100] ^= std::byte{1};
  rewrite.block[3000] ^= std::byte{1};
  const auto second = rewrite.frame(2);
  CHECK(second.size() < sizeof(DeltaBatchBytes) + kBatchHeaderBytes + sizeof(BatchTableEntry) + 16);
  std::vector<std::byte> decoded;
  REQUIRE(rewrite.decoder.decode(first, decoded).ok());
  decoded.clear();
  REQUIRE(rewrite.decoder.decode(second, decoded).ok());
  CHECK(BatchReader::decode(decoded, Verify::kRecords)->records()[0].checksum == xxh3_64(rewrite.block));
}

TEST_CASE("a batch that the cache has nothing to do with goes as it is") {
  Rewrite rewrite;
  Record copy;
  copy.kind = RecordKind::kCopy;
  copy.flags = kRecordInitial;
  copy.length_bytes = kDeltaBlockBytes;
  copy.payload = rewrite.block;
  DeltaStreams streams;
  CHECK_FALSE(rewrite.encoder.encode({copy}, streams));
  CHECK(rewrite.encoder.cache().block_count() == 0);
  DeltaEncoder off;
  copy.kind = RecordKind::kWrite;
  CHECK_FALSE(off.encode({copy}, streams));
}

TEST_CASE("a copy over a cached block is a delta, too") {
  Rewrite rewrite;
  (void)rewrite.frame(1);
  Record copy;
  copy.kind = RecordKind::kCopy;
  copy.offset_bytes = 8192;
  copy.length_bytes = kDeltaBlockBytes;
  copy.payload = rewrite.block;
  DeltaStreams streams;
  REQUIRE(rewrite.encoder.encode({copy}, streams));
  CHECK(streams.literals.empty());
}

TEST_CASE("caches that differ are found out, and nothing comes out") {
  Rewrite rewrite;
  const auto first = rewrite.frame(1);
  rewrite.block[7] ^= std::byte{1};
  const auto second = rewrite.frame(2);
  rewrite.block[9] ^= std::byte{1};
  const auto third = rewrite.frame(3);
  std::vector<std::byte> decoded;
  SUBCASE("the first is missing") {
    const Status status = rewrite.decoder.decode(second, decoded);
    REQUIRE_FALSE(status.ok());
    CHECK(status.error().message().find("cannot be made out of what is cached") != std::string::npos);
  }
  SUBCASE("one between is missing") {
    REQUIRE(rewrite.decoder.decode(first, decoded).ok());
    decoded.clear();
    const Status status = rewrite.decoder.decode(third, decoded);
    REQUIRE_FALSE(status.ok());
    CHECK(status.error().message().find("is not what was captured") != std::string::npos);
  }
  CHECK(decoded.empty());
}

TEST_CASE("no wrong byte gets through") {
  for (const Codec codec : {Codec::kNone, Codec::kZstd, Codec::kLz4}) {
    Load load(5);
    DeltaEncoder encoder;
    encoder.resize(kDiskBytes);
    std::vector<std::vector<std::byte>> frames;
    std::vector<std::vector<std::byte>> plains;
    Seq seq = 1;
    while (frames.size() < 6) {
      const BatchWriter batch = load.next(seq);
      auto frame = delta_of(encoder, batch, codec);
      if (frame.empty()) continue;
      frames.push_back(std::move(frame));
      plains.push_back(plain_of(batch));
    }
    std::mt19937 random(3);
    for (int round = 0; round < 400; ++round) {
      const std::size_t victim = random() % frames.size();
      DeltaDecoder decoder;
      decoder.resize(kDiskBytes);
      for (std::size_t i = 0; i <= victim; ++i) {
        std::vector<std::byte> frame = frames[i];
        if (i == victim && round % 4 == 0) frame.resize(random() % frame.size());
        if (i == victim && round % 4 != 0) frame[random() % frame.size()] ^= static_cast<std::byte>(1 + random() % 255);
        std::vector<std::byte> decoded;
        const Status status = decoder.decode(frame, decoded);
        if (i < victim) REQUIRE(status.ok());
        if (status.ok()) CHECK(unpack(decoded) == plains[i]);
        if (!status.ok()) CHECK(decoded.empty());
      }
    }
  }
}

TEST_CASE("impossible lengths are refused before anything is allocated") {
  Rewrite rewrite;
  const auto good = rewrite.frame(1);
  std::vector<std::byte> decoded;
  const auto refused = [&](auto change) {
    auto frame = good;
    DeltaBatchBytes bytes;
    std::memcpy(&bytes, frame.data(), sizeof(bytes));
    change(bytes);
    std::memcpy(frame.data(), &bytes, sizeof(bytes));
    const Status status = rewrite.decoder.decode(frame, decoded);
    return status.ok() ? std::string("accepted") : status.error().message();
  };
  CHECK(refused([](auto& b) { b.literals_raw_bytes = kBatchPayloadBytesMax + 1; }) ==
        "delta batch: a stream is longer than a batch may be");
  CHECK(refused([](auto& b) { b.operations_raw_bytes = 0xffffffff; }) ==
        "delta batch: a stream is longer than a batch may be");
  CHECK(refused([](auto& b) { b.literals_stored_bytes = 0xffffffff; }) == "delta batch: lengths do not add up");
  CHECK(refused([](auto& b) { b.head_bytes = 0xffffffff; }) == "delta batch: lengths do not add up");
  CHECK(refused([](auto& b) { b.store_codec = 3; }) == "delta batch: unknown codec");
  CHECK(refused([](auto& b) { b.literals_raw_bytes = 1; }) == "delta batch: a plain stream has two lengths");
  CHECK(rewrite.decoder.decode(std::span(good).first(10), decoded).error().message() ==
        "delta batch: header is cut short");
  CHECK(decoded.empty());
}
