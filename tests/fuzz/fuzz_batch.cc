// SPDX-License-Identifier: Apache-2.0
// Batches as they come from the network or lie in a journal.
#include <cstdint>
#include <vector>

#include "daemon/record/batch.h"
#include "tests/fuzz/repair.h"

namespace understudy {
namespace {

void decode_structured(const BatchReader& reader) {
  for (const Record& record : reader.records()) {
    if (record.kind == RecordKind::kGap) (void)decode_gap(record.payload).ok();
    if (record.kind == RecordKind::kMark) (void)decode_mark(record.payload).ok();
    if (record.kind == RecordKind::kGeometry) (void)decode_geometry(record.payload).ok();
  }
}

// What could be decoded must come back from encoding and decoding again.
void round_trip(const BatchReader& reader) {
  const BatchInfo& info = reader.info();
  BatchWriter writer;
  writer.start(info.server, info.first_seq, info.epoch, info.generation);
  for (const Record& record : reader.records()) writer.add(record);
  writer.set_cursor(info.cursor);
  std::vector<std::byte> encoded;
  writer.encode({Codec::kLz4, 1}, encoded);
  const BatchReader again = BatchReader::decode(encoded, Verify::kStored).value();
  CHECK_EQ(again.records().size(), reader.records().size());
  for (std::size_t i = 0; i < again.records().size(); ++i) {
    const Record& a = again.records()[i];
    const Record& b = reader.records()[i];
    CHECK(a.kind == b.kind && a.flags == b.flags && a.disk == b.disk && a.offset_bytes == b.offset_bytes &&
          a.length_bytes == b.length_bytes && a.time_ns == b.time_ns && a.checksum == b.checksum);
    CHECK(std::equal(a.payload.begin(), a.payload.end(), b.payload.begin(), b.payload.end()));
  }
}

void decode(std::span<const std::byte> data) {
  (void)BatchReader::peek(data).ok();
  (void)BatchReader::decode_table(data).ok();
  (void)BatchReader::decode(data, Verify::kRecords).ok();
  const Result<BatchReader> reader = BatchReader::decode(data, Verify::kStored);
  if (!reader.ok()) return;
  decode_structured(*reader);
  round_trip(*reader);
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> copy(bytes, bytes + size);  // exact size: reading behind it is found
  decode(copy);
  repair_batch(copy);
  decode(copy);
  return 0;
}
