// SPDX-License-Identifier: Apache-2.0
// Delta batches: as a peer may send them, and as our own encoder makes them. The input is taken three times:
// as frames for a decoder; as a recipe of writes that must come out as they went in; and as damage to those frames.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/record/batch_format.h"
#include "daemon/wire/delta_codec.h"
#include "daemon/wire/frame_format.h"

namespace understudy {
namespace {

constexpr std::uint64_t kCacheBytes = 8 * kDeltaBlockBytes;

using Bytes = std::vector<std::byte>;

class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : rest_(bytes) {}
  bool empty() const { return rest_.empty(); }
  std::size_t number(std::size_t below) {
    std::size_t value = 0;
    for (int i = 0; i < 2 && !rest_.empty(); ++i) {
      value = value << 8 | std::to_integer<std::size_t>(rest_.front());
      rest_ = rest_.subspan(1);
    }
    return value % below;
  }
  std::span<const std::byte> take(std::size_t bytes) {
    bytes = std::min(bytes, rest_.size());
    const auto taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }

 private:
  std::span<const std::byte> rest_;
};

// Makes the checksums of the batch header inside right, so that a fuzzer gets behind them.
void repair(Bytes& frame) {
  BatchHeader header;
  if (frame.size() < sizeof(DeltaBatchBytes) + sizeof(header)) return;
  std::byte* const at = frame.data() + sizeof(DeltaBatchBytes);
  std::memcpy(&header, at, sizeof(header));
  header.magic = kBatchMagic;
  header.version = kBatchVersion;
  header.header_checksum = xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(BatchHeader, header_checksum)));
  std::memcpy(at, &header, sizeof(header));
}

void decode(DeltaDecoder& decoder, const Bytes& frame) {
  Bytes batch;
  if (decoder.decode(frame, batch).ok()) {
    CHECK(BatchReader::decode(batch, Verify::kRecords).ok());
  } else {
    CHECK(batch.empty());
  }
}

// One batch of the recipe: a few records on few blocks of one disk.
struct Recipe {
  BatchWriter batch;
  std::vector<std::unique_ptr<Bytes>> payloads;
};

Recipe cook(Input& input, Seq seq, Bytes& disk) {
  Recipe recipe;
  recipe.batch.start(Uuid{}, seq, 1, 1);
  const std::size_t count = 1 + input.number(4);
  for (std::size_t i = 0; i < count; ++i) {
    Record record;
    record.time_ns = seq;
    record.length_bytes = 1 + input.number(2 * kDeltaBlockBytes);
    record.offset_bytes = input.number(disk.size() - record.length_bytes);
    const auto at = std::span(disk).subspan(record.offset_bytes, record.length_bytes);
    switch (input.number(5)) {
      case 0: record.kind = RecordKind::kZero; break;
      case 1: record.kind = RecordKind::kCopy; break;
      default: {
        const std::size_t from = input.number(at.size());
        const auto change = input.take(std::min<std::size_t>(at.size() - from, input.number(64)));
        std::copy(change.begin(), change.end(), at.begin() + static_cast<std::ptrdiff_t>(from));
      }
    }
    if (record.kind != RecordKind::kZero) {
      recipe.payloads.push_back(std::make_unique<Bytes>(at.begin(), at.end()));
      record.payload = *recipe.payloads.back();
      record.checksum = xxh3_64(record.payload);
    }
    recipe.batch.add(record);
  }
  return recipe;
}

Bytes plain_of(const BatchWriter& batch) {
  Bytes plain;
  batch.encode(Compression{Codec::kNone, 0}, plain);
  return plain;
}

void follow_recipe(Input input) {
  DeltaEncoder encoder;
  DeltaDecoder decoder;
  const std::size_t cache_bytes = input.number(12) * kDeltaBlockBytes;
  encoder.resize(cache_bytes);
  decoder.resize(cache_bytes);
  Bytes disk(16 * kDeltaBlockBytes);
  for (Seq seq = 1; !input.empty() && seq < 200; ++seq) {
    const Compression compression{static_cast<Codec>(input.number(3)), 1};
    const Recipe recipe = cook(input, seq, disk);
    DeltaStreams streams;
    if (!encoder.encode(recipe.batch.records(), streams)) continue;
    Bytes frame;
    const Bytes plain = plain_of(recipe.batch);
    append_delta_batch(plain, BatchReader::peek(plain).value(), streams, {Codec::kNone, 1}, frame);
    Bytes damaged = frame;
    damaged[input.number(damaged.size())] ^= static_cast<std::byte>(input.number(256));
    repair(damaged);
    DeltaDecoder copy;
    copy.resize(cache_bytes);
    decode(copy, damaged);
    frame.clear();
    append_delta_batch(plain, BatchReader::peek(plain).value(), streams, compression, frame);
    Bytes batch;
    CHECK(decoder.decode(frame, batch).ok());
    const BatchReader reader = BatchReader::decode(batch, Verify::kRecords).value();
    CHECK_EQ(reader.records().size(), recipe.batch.records().size());
    for (std::size_t i = 0; i < reader.records().size(); ++i) {
      const auto got = reader.records()[i].payload;
      const auto sent = recipe.batch.records()[i].payload;
      CHECK(std::equal(got.begin(), got.end(), sent.begin(), sent.end()));
    }
  }
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  Bytes frame(bytes, bytes + size);  // exact size: reading behind it is found
  DeltaDecoder decoder;
  decoder.resize(kCacheBytes);
  decode(decoder, frame);
  repair(frame);
  decode(decoder, frame);
  follow_recipe(Input(std::span(bytes, size)));
  return 0;
}
