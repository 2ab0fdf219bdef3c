// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/view_flat.h"

#include <algorithm>
#include <cstring>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"
#include "daemon/view/view_map.h"

namespace understudy {
namespace {

constexpr std::size_t kBlockBytes = 4 << 10;
// A read is large from here on, and a region is in pieces when there are more of them than one for so many bytes.
constexpr std::uint64_t kLargeReadBytes = 64 << 10;
constexpr std::uint64_t kSmallPieceBytes = 32 << 10;

}  // namespace

ViewFlat::ViewFlat(std::shared_ptr<ViewSpill> spill, std::uint64_t spill_bytes_max)
    : spill_(std::move(spill)), regions_({kViewFlatBytesMax, spill_bytes_max}) {}

bool ViewFlat::read(std::uint16_t disk, std::uint64_t region, std::uint64_t offset_bytes, std::span<std::byte> out) {
  const RegionPointer found = regions_.find(key_of(disk, region));
  if (found == nullptr || found->slot == nullptr) return false;
  if (read_from(*found, offset_bytes, out)) return true;
  // What became of the spill does not matter: the store has the bytes.
  regions_.forget(key_of(disk, region));
  return false;
}

bool ViewFlat::read_from(const Region& region, std::uint64_t offset_bytes, std::span<std::byte> out) {
  const File& file = region.slot->file();
  const std::uint64_t place = region.slot->offset_bytes();
  const std::uint64_t end = offset_bytes + out.size();
  const Result<std::size_t> got = file.read(place + offset_bytes, out);
  if (!got.ok() || *got != out.size()) return false;
  for (std::uint64_t at = offset_bytes; at < end;) {
    const std::uint64_t block = at / kBlockBytes;
    const std::uint64_t block_begin = block * kBlockBytes;
    const std::uint64_t part_end = std::min(end, block_begin + kBlockBytes);
    if (block_begin == at && part_end == block_begin + kBlockBytes) {
      if (xxh3_64(out.subspan(at - offset_bytes, kBlockBytes)) != region.sums[block]) return false;
    } else {
      std::byte memory[kBlockBytes];  // the last block is filled up with zeros
      const Result<std::size_t> whole = file.read(place + block_begin, memory);
      if (!whole.ok() || *whole != kBlockBytes || xxh3_64(memory) != region.sums[block]) return false;
      std::memcpy(out.data() + (at - offset_bytes), memory + (at - block_begin), part_end - at);
    }
    at = part_end;
  }
  return true;
}

bool ViewFlat::note_read(std::uint16_t disk, std::uint64_t region, std::uint64_t length_bytes, std::size_t pieces) {
  if (length_bytes < kLargeReadBytes || pieces < length_bytes / kSmallPieceBytes) return false;
  std::atomic<std::uint64_t>& noted = noted_[region % noted_.size()];
  const std::uint64_t key = (std::uint64_t{disk} << 40 | region) << 16;  // the number of a region is below 2^40
  const std::uint64_t old = noted.load(std::memory_order_relaxed);
  const std::uint64_t units = (old >> 16 << 16 == key ? old & 0xffff : 0) + length_bytes / kNotedUnitBytes;
  const bool enough = units * kNotedUnitBytes > kViewRegionBytes;
  // Another thread's note may be lost: then it takes one read more. Of those that read the region at once, one puts it
  // together, and the others do not wait for it.
  noted.store(enough ? key : key | units, std::memory_order_relaxed);
  return enough;
}

ViewFlat::RegionPointer ViewFlat::store(std::span<const std::byte> bytes) const {
  auto made = std::make_shared<Region>();
  std::vector<std::byte> padded;
  if (bytes.size() % kBlockBytes != 0) {
    padded.assign(bytes.begin(), bytes.end());
    padded.resize((bytes.size() + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
    bytes = padded;
  }
  made->slot = ViewSpill::put(spill_, bytes);
  if (made->slot == nullptr) return made;
  made->sums.reserve(bytes.size() / kBlockBytes);
  for (std::size_t at = 0; at < bytes.size(); at += kBlockBytes)
    made->sums.push_back(xxh3_64(bytes.subspan(at, kBlockBytes)));
  return made;
}

}  // namespace understudy
