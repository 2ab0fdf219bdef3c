// SPDX-License-Identifier: Apache-2.0
// Regions of a disk as they are, one behind another in the spill: where a disk was written in many small pieces and is
// read in large ones, one read of a file takes the place of hundreds. For which regions that pays, note_read() finds
// out. Bytes read from the spill are proved by checksums of blocks that are kept in memory. Thread-safe.
//
// Memory: 512 KiB, and 2 KiB for each region in the file.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/view/view_cache.h"
#include "daemon/view/view_spill.h"

namespace understudy {

class ViewFlat {
 public:
  // About `spill_bytes_max` of the spill are used.
  ViewFlat(std::shared_ptr<ViewSpill> spill, std::uint64_t spill_bytes_max);

  // Fills `out` with what lies at `offset_bytes` of a region; false = the region is not here (any more).
  bool read(std::uint16_t disk, std::uint64_t region, std::uint64_t offset_bytes, std::span<std::byte> out);

  // Told of reads that it could not answer: true when the region should be add()ed, as more was read of it than there
  // is in it. Who reads a disk but once does not pay for it.
  bool note_read(std::uint16_t disk, std::uint64_t region, std::uint64_t length_bytes, std::size_t pieces);

  // `fill` (span -> Status) is called, by one thread at a time for a region, for all `length_bytes` of it, proved. Its
  // error is the result; that the spill has no room is none.
  template <typename Fill>
  Status add(std::uint16_t disk, std::uint64_t region, std::size_t length_bytes, Fill fill) {
    const Result<RegionPointer> added = regions_.get(key_of(disk, region), [&]() -> Result<RegionPointer> {
      const auto memory = std::make_unique_for_overwrite<std::byte[]>(length_bytes);
      const std::span<std::byte> bytes(memory.get(), length_bytes);
      RETURN_IF_ERROR(fill(bytes));
      return store(bytes);
    });
    return added.ok() ? ok_status() : Status(added.error());
  }

  ViewCacheWeight weight() const { return regions_.weight(); }

 private:
  struct Region {
    std::unique_ptr<const ViewSpill::Slot> slot;  // nullptr = there was no room
    std::vector<std::uint64_t> sums;              // of its blocks
    ViewCacheWeight weight() const {
      return {sizeof(Region) + 128 + sums.capacity() * 8, slot == nullptr ? 0 : slot->length_bytes()};
    }
  };
  using RegionPointer = ViewCache<Region>::Pointer;

  static std::uint64_t key_of(std::uint16_t disk, std::uint64_t region) { return std::uint64_t{disk} << 48 | region; }
  RegionPointer store(std::span<const std::byte> bytes) const;
  static bool read_from(const Region& region, std::uint64_t offset_bytes, std::span<std::byte> out);

  const std::shared_ptr<ViewSpill> spill_;
  ViewCache<Region> regions_;
  // How much was read of late of a region, in kNotedUnitBytes, below its key; by a part of the key, so that two regions
  // of a disk above 64 GiB may make us forget of each other.
  static constexpr std::uint64_t kNotedUnitBytes = 4 << 10;
  std::vector<std::atomic<std::uint64_t>> noted_ = std::vector<std::atomic<std::uint64_t>>(64 << 10);
};

}  // namespace understudy
