// SPDX-License-Identifier: Apache-2.0
// A segment index of any content; with its checksums made right again, so that the lengths and entries get a say.
#include <cstdint>
#include <cstring>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/store/segment_index.h"

namespace understudy {
namespace {

void repair(std::vector<std::byte>& data) {
  IndexHeader header;
  if (data.size() < sizeof(header)) return;
  std::memcpy(&header, data.data(), sizeof(header));
  header.magic = kIndexMagic;
  header.version = kIndexVersion;
  header.header_bytes = static_cast<std::uint16_t>(sizeof(header));
  header.incompatible_flags = 0;
  for (IndexSection* section : {&header.directory, &header.fences, &header.events, &header.places}) {
    if (section->offset_bytes > data.size() || section->length_bytes > data.size() - section->offset_bytes) continue;
    section->checksum = xxh3_64(std::span(data).subspan(section->offset_bytes, section->length_bytes));
  }
  header.header_checksum = xxh3_64(std::as_bytes(std::span(&header, 1)).first(offsetof(IndexHeader, header_checksum)));
  std::memcpy(data.data(), &header, sizeof(header));
}

void use(std::vector<std::byte> data) {
  const Result<std::shared_ptr<const SegmentIndex>> index = SegmentIndex::open(std::move(data));
  if (!index.ok()) return;
  (void)(*index)->events().ok();
  (void)(*index)->places().ok();
  for (const Seq seq : {Seq{0}, (*index)->first_seq(), (*index)->first_seq() + 3, (*index)->last_seq(), ~Seq{0}}) {
    std::vector<IndexedExtent> out;
    for (std::uint16_t disk = 0; disk < 4; ++disk) {
      (void)(*index)->collect(disk, 0, 1ull << 60, seq, out).ok();
      (void)(*index)->collect(disk, 4096, 8192, seq, out).ok();
    }
    for (const IndexedExtent& extent : out) CHECK_LT(extent.begin_bytes, extent.end_bytes);
  }
}

}  // namespace
}  // namespace understudy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> copy(bytes, bytes + size);
  use(copy);
  repair(copy);
  use(std::move(copy));
  return 0;
}
