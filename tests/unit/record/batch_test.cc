// SPDX-License-Identifier: Apache-2.0
#include "daemon/record/batch.h"

#include <cstring>
#include <functional>
#include <random>
#include <string>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/record/batch_format.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

struct Sample {
  std::vector<std::vector<std::byte>> payloads;
  BatchWriter writer;
  Uuid server = Uuid::random();

  // One record of each kind; `entropy` 0 = zeros, 255 = random bytes.
  explicit Sample(unsigned entropy, std::size_t write_bytes = 8192) {
    std::mt19937 random(7);
    writer.start(server, 41, 3, 5);
    const auto bytes = [&](std::size_t count) {
      std::vector<std::byte> data(count);
      for (std::byte& b : data) b = static_cast<std::byte>(entropy == 0 ? 0 : random() % (entropy + 1));
      return data;
    };
    const auto add = [&](RecordKind kind, std::uint8_t flags, std::uint64_t length, std::vector<std::byte> payload) {
      payloads.push_back(std::move(payload));
      const std::vector<std::byte>& kept = payloads.back();
      writer.add({kind, flags, static_cast<std::uint16_t>(length > 0 ? 3 : 0), length > 0 ? 4096u : 0u, length,
                  1000 + payloads.size(), kept.empty() ? 0 : xxh3_64(kept), kept});
    };
    payloads.reserve(16);
    add(RecordKind::kGeometry, 0, 0, encode_geometry(std::vector<DiskGeometry>{{3, server, "/dev/vdb", 1 << 20, 512}}));
    add(RecordKind::kGap, 0, 0, encode_gap({GapReason::kOverflow}));
    add(RecordKind::kWrite, kRecordFua, write_bytes, bytes(write_bytes));
    add(RecordKind::kZero, kRecordDiscard, 1 << 19, {});
    add(RecordKind::kCopy, kRecordInitial, 4096, bytes(4096));
    add(RecordKind::kCopy, kRecordZeros, 4096, {});
    add(RecordKind::kHeal, 0, 0, {});
    add(RecordKind::kBarrier, 0, 0, {});
    add(RecordKind::kMark, 0, 0, encode_mark({"before the upgrade", Consistency::kApplication}));
    writer.set_cursor({server, 123456, 7});
  }

  std::vector<std::byte> encode(Codec codec) const {
    std::vector<std::byte> out;
    writer.encode({codec, 1}, out);
    return out;
  }
};

TEST_CASE("what is encoded is what is decoded, with every codec") {
  for (const unsigned entropy : {0u, 3u, 255u})
    for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
      CAPTURE(entropy);
      CAPTURE(codec_name(codec));
      const Sample sample(entropy);
      std::vector<std::byte> out(5, std::byte{9});  // appended to what is there
      const BatchInfo written = sample.writer.encode({codec, 1}, out);
      const std::span<const std::byte> batch = std::span(out).subspan(5);
      CHECK(batch.size() == written.encoded_bytes);
      CHECK(batch.size() % kBatchAlignBytes == 0);
      Result<BatchReader> reader = BatchReader::decode(batch, Verify::kRecords);
      REQUIRE_MESSAGE(reader.ok(), reader.error().message());
      CHECK(reader->info().server == sample.server);
      CHECK(reader->info().first_seq == 41);
      CHECK(reader->info().last_seq() == 49);
      CHECK(reader->info().epoch == 3);
      CHECK(reader->info().generation == 5);
      CHECK(reader->info().cursor == CaptureCursor{sample.server, 123456, 7});
      CHECK(reader->info().first_time_ns == 1001);
      CHECK(reader->info().last_time_ns == 1009);
      REQUIRE(reader->records().size() == sample.payloads.size());
      for (std::size_t i = 0; i < sample.payloads.size(); ++i) {
        const Record& record = reader->records()[i];
        CHECK(std::equal(record.payload.begin(), record.payload.end(), sample.payloads[i].begin(),
                         sample.payloads[i].end()));
        CHECK(record.time_ns == 1001 + i);
        CHECK(reader->payload_bytes(i) == sample.payloads[i].size());
      }
      CHECK(reader->records()[2].flags == kRecordFua);
      CHECK(decode_mark(reader->records()[8].payload)->name == "before the upgrade");
      const Result<BatchReader> table = BatchReader::decode_table(batch.first(reader->info().table_end_bytes));
      REQUIRE(table.ok());
      CHECK(table->records()[2].payload.empty());
      CHECK(table->payload_bytes(2) == 8192);
      CHECK(table->records()[2].checksum == xxh3_64(sample.payloads[2]));
    }
}

TEST_CASE("data that does not compress is stored plain, and plain payloads are not copied by the reader") {
  const Sample noise(255, 1 << 20);
  for (const Codec codec : {Codec::kLz4, Codec::kZstd}) {
    const std::vector<std::byte> out = noise.encode(codec);
    const BatchReader reader = BatchReader::decode(out, Verify::kRecords).value();
    CHECK(reader.info().codec == Codec::kNone);
    const std::byte* payload = reader.records()[2].payload.data();
    CHECK(payload >= out.data());
    CHECK(payload < out.data() + out.size());
  }
  const Sample text(3, 1 << 20);
  CHECK(text.encode(Codec::kZstd).size() < (1 << 20) / 2);
  CHECK(BatchReader::peek(text.encode(Codec::kLz4))->codec == Codec::kLz4);
}

TEST_CASE("every flipped bit is refused") {
  const Sample sample(3, 600);
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    std::vector<std::byte> batch = sample.encode(codec);
    REQUIRE(BatchReader::decode(batch, Verify::kStored).ok());
    for (std::size_t bit = 0; bit < batch.size() * 8; ++bit) {
      const auto mask = static_cast<std::byte>(1u << (bit % 8));
      batch[bit / 8] ^= mask;
      CHECK(!BatchReader::decode(batch, Verify::kStored).ok());
      batch[bit / 8] ^= mask;
    }
    for (std::size_t size = 0; size < batch.size(); ++size)
      CHECK(!BatchReader::decode(std::span(batch).first(size), Verify::kStored).ok());
  }
}

TEST_CASE("a batch moved to another server or another place in the stream is refused") {
  // Header taken from one batch, sections from another: each has valid checksums of its own.
  const Sample one(3);
  Sample two(3);
  std::vector<std::byte> first = one.encode(Codec::kNone);
  const std::vector<std::byte> second = two.encode(Codec::kNone);
  REQUIRE(first.size() == second.size());
  std::copy(second.begin() + kBatchHeaderBytes, second.end(), first.begin() + kBatchHeaderBytes);
  CHECK(BatchReader::decode(first, Verify::kStored).error().kind() == ErrorKind::kCorrupt);
}

// Changes the header and makes its checksum right, as a hostile or newer sender would.
std::vector<std::byte> with_header(std::vector<std::byte> batch, const std::function<void(BatchHeader&)>& change) {
  BatchHeader header;
  std::memcpy(&header, batch.data(), sizeof(header));
  change(header);
  header.header_checksum = xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(BatchHeader, header_checksum)));
  std::memcpy(batch.data(), &header, sizeof(header));
  return batch;
}

TEST_CASE("newer versions and unknown incompatible flags are refused by name, compatible ones are not") {
  const std::vector<std::byte> batch = Sample(3).encode(Codec::kNone);
  const Error version = BatchReader::peek(with_header(batch, [](BatchHeader& h) { h.version = 2; })).error();
  CHECK(version.kind() == ErrorKind::kUnsupported);
  CHECK(version.message().find("version 2 is newer than version 1") != std::string::npos);
  const Error flags =
      BatchReader::peek(with_header(batch, [](BatchHeader& h) { h.incompatible_flags = 0x80000007; })).error();
  CHECK(flags.kind() == ErrorKind::kUnsupported);
  CHECK(flags.message().find("0x80000004") != std::string::npos);
  CHECK(BatchReader::peek(with_header(batch, [](BatchHeader& h) { h.compatible_flags = 0x10; })).ok());
}

TEST_CASE("a gap whose reason is younger than the format is told by an incompatible flag, in every encoding") {
  const auto flags_of = [](GapReason reason, Codec codec) {
    const std::vector<std::byte> payload = encode_gap({reason});
    BatchWriter writer;
    writer.start(Uuid::random(), 1, 1, 1);
    writer.add({RecordKind::kGap, 0, 0, 0, 0, 1000, xxh3_64(payload), payload});
    writer.add({RecordKind::kHeal, 0, 0, 0, 0, 1000, 0, {}});
    std::vector<std::byte> batch;
    writer.encode({codec, 1}, batch);
    const Result<BatchReader> reader = BatchReader::decode(batch, Verify::kRecords);
    REQUIRE(reader.ok());
    CHECK(decode_gap(reader->records()[0].payload)->reason == reason);
    BatchHeader header;
    std::memcpy(&header, batch.data(), sizeof(header));
    return std::uint32_t{header.incompatible_flags};
  };
  for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
    CHECK(flags_of(GapReason::kOverflow, codec) == 0);
    CHECK(flags_of(GapReason::kRequested, codec) == 0);
    CHECK(flags_of(GapReason::kCollapsed, codec) == kBatchHasCollapsedGap);
  }
}

TEST_CASE("lengths that lie are refused before anything is allocated") {
  const std::vector<std::byte> batch = Sample(3).encode(Codec::kZstd);
  const auto refused = [&](const std::function<void(BatchHeader&)>& change) {
    const Result<BatchReader> reader = BatchReader::decode(with_header(batch, change), Verify::kStored);
    REQUIRE(!reader.ok());
    CHECK(reader.error().kind() == ErrorKind::kCorrupt);
  };
  refused([](BatchHeader& h) { h.record_count = 0; });
  refused([](BatchHeader& h) { h.record_count = 0xffffffff; });
  refused([](BatchHeader& h) { h.record_count = h.record_count + 1; });
  refused([](BatchHeader& h) { h.payload_raw_bytes = 0xffffffff; });
  refused([](BatchHeader& h) { h.payload_raw_bytes = h.payload_raw_bytes + 1; });
  refused([](BatchHeader& h) { h.table_stored_bytes = 0xfffffff0; });
  refused([](BatchHeader& h) { h.payload_stored_bytes = h.payload_stored_bytes - 1; });
  refused([](BatchHeader& h) { h.encoded_bytes = 0xfffffff8; });
  refused([](BatchHeader& h) { h.table_codec = 9; });
  refused([](BatchHeader& h) { h.payload_codec = 3; });
  refused([](BatchHeader& h) { h.first_seq = 0; });
  refused([](BatchHeader& h) { h.first_seq = ~0ull; });
  refused([](BatchHeader& h) { h.header_bytes = 200; });
  refused([](BatchHeader& h) { h.last_time_ns = 1; });
}

// A batch of one record whose table entry is changed after encoding, with all checksums right.
Result<BatchReader> decode_entry(const std::function<void(BatchTableEntry&)>& change) {
  const std::vector<std::byte> data(512, std::byte{1});
  BatchWriter writer;
  const Uuid server = Uuid::random();
  writer.start(server, 1, 1, 1);
  writer.add({RecordKind::kWrite, 0, 0, 0, 512, 0, xxh3_64(data), data});
  std::vector<std::byte> batch;
  writer.encode({Codec::kNone, 1}, batch);
  BatchTableEntry entry;
  std::memcpy(&entry, batch.data() + kBatchHeaderBytes, sizeof(entry));
  change(entry);
  std::memcpy(batch.data() + kBatchHeaderBytes, &entry, sizeof(entry));
  BatchHeader header;
  std::memcpy(&header, batch.data(), sizeof(header));
  BatchBinding binding;
  binding.content_checksum = xxh3_64(std::span(batch).subspan(kBatchHeaderBytes, sizeof(entry)));
  std::memcpy(binding.server, header.server, 16);
  binding.first_seq = header.first_seq;
  binding.section = kSectionTable;
  const std::uint64_t table_checksum = xxh3_64(std::as_bytes(std::span(&binding, 1)));
  return BatchReader::decode(with_header(batch, [&](BatchHeader& h) { h.table_checksum = table_checksum; }),
                             Verify::kStored);
}

TEST_CASE("records that contradict themselves are refused") {
  REQUIRE(decode_entry([](BatchTableEntry&) {}).ok());
  const auto refused = [](const std::function<void(BatchTableEntry&)>& change, const char* why) {
    const Result<BatchReader> reader = decode_entry(change);
    REQUIRE(!reader.ok());
    CHECK_MESSAGE(reader.error().message().find(why) != std::string::npos, reader.error().message());
  };
  refused([](BatchTableEntry& e) { e.kind = 0; }, "unknown kind");
  refused([](BatchTableEntry& e) { e.kind = 9; }, "unknown kind");
  refused([](BatchTableEntry& e) { e.flags = 0x40; }, "unknown record flags");
  refused([](BatchTableEntry& e) { e.flags = kRecordInRun; }, "only the payload of a write or copy");
  refused([](BatchTableEntry& e) { e.flags = kRecordInBase; }, "only the payload of an initial copy");
  refused([](BatchTableEntry& e) { e.disk = kDisksMax; }, "disk slot is out of range");
  refused([](BatchTableEntry& e) { e.offset_bytes = ~0ull; }, "extent ends behind any possible disk");
  refused([](BatchTableEntry& e) { e.length_bytes = ~0ull; }, "extent ends behind any possible disk");
  refused([](BatchTableEntry& e) { e.length_bytes = 1024; }, "payload is not as long as the extent");
  refused([](BatchTableEntry& e) { e.payload_bytes = 511; }, "payload is not as long as the extent");
  refused([](BatchTableEntry& e) { e.payload_bytes = 0xffffffff; }, "payload is longer than a record may have");
  refused([](BatchTableEntry& e) { e.kind = 2; }, "a zero record needs just an extent");
  refused([](BatchTableEntry& e) { e.kind = 3; }, "neither payload nor extent belong here");
  refused([](BatchTableEntry& e) { e.kind = 6; }, "needs a payload and no extent");
}

TEST_CASE("a batch in block order is read by who asks for it, never as a part of a stream") {
  const std::vector<std::byte> bytes(512, std::byte{7});
  Record record;
  record.length_bytes = bytes.size();
  record.payload = bytes;
  record.checksum = xxh3_64(bytes);
  BatchWriter writer;
  writer.start(Uuid::random(), 3, 0, 0);
  writer.set_block_order();
  for (const Seq seq : {Seq{90}, Seq{12}, Seq{44}}) {
    record.time_ns = seq;
    writer.add(record);
  }
  std::vector<std::byte> encoded;
  CHECK(writer.encode(Compression{}, encoded).block_order);
  for (const Error& error : {BatchReader::peek(encoded).error(), BatchReader::decode_table(encoded).error(),
                             BatchReader::decode(encoded, Verify::kRecords).error()}) {
    CHECK(error.kind() == ErrorKind::kCorrupt);
    CHECK(error.message().find("not a part of a stream") != std::string::npos);
  }
  const BatchReader reader = BatchReader::decode(encoded, Verify::kRecords, BatchOrder::kAny).value();
  CHECK(reader.find(12) == std::optional<std::size_t>(1));
  CHECK(reader.find(44) == std::optional<std::size_t>(2));
  CHECK_FALSE(reader.find(3));
  // The next batch of the writer is one of a stream again.
  writer.start(Uuid::random(), 3, 1, 1);
  writer.add(record);
  std::vector<std::byte> stream;
  writer.encode(Compression{}, stream);
  const BatchReader of_stream = BatchReader::decode(stream, Verify::kRecords).value();
  CHECK_FALSE(of_stream.info().head);
  CHECK(of_stream.find(3) == std::optional<std::size_t>(0));
  CHECK_FALSE(of_stream.find(2));
  CHECK_FALSE(of_stream.find(4));
}

TEST_CASE("the writer's limits are the reader's limits") {
  BatchWriter writer;
  writer.start(Uuid::random(), 1, 1, 1);
  const std::vector<std::byte> big(kRecordPayloadBytesMax);
  const std::uint64_t checksum = xxh3_64(big);
  while (writer.fits(kRecordPayloadBytesMax)) writer.add({RecordKind::kWrite, 0, 0, 0, big.size(), 0, checksum, big});
  CHECK(writer.raw_payload_bytes() == kBatchPayloadBytesMax);
  while (writer.fits(0)) writer.add({RecordKind::kBarrier, 0, 0, 0, 0, 0, 0, {}});
  CHECK(writer.record_count() == kBatchRecordsMax);
  std::vector<std::byte> batch;
  writer.encode({Codec::kNone, 1}, batch);
  CHECK(batch.size() <= kBatchEncodedBytesMax);
  CHECK(BatchReader::decode(batch, Verify::kRecords).ok());
  CHECK(!writer.fits(1));
}

}  // namespace
}  // namespace understudy
