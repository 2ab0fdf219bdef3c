// SPDX-License-Identifier: Apache-2.0
// The stamp: what the test writer puts into every 512-byte sector, so that a restored image tells by itself which
// write each of its sectors came from. Independent of the product's own code on purpose.
//
// Source of the idea: sector stamps with (place, write number, time, checksum), as blksnap's corruption test has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace understudy::oracle {

inline constexpr std::size_t kSectorBytes = 512;
inline constexpr std::uint64_t kStampMagic = 0x3150'4d41'5453'5555ull;  // "UUSTAMP1"

// The head of a stamped sector; filler that depends on all of it follows, and the last 8 bytes are the xxh3-64 of the
// 504 before them. Host byte order: images are checked on the machine that wrote them.
struct Stamp {
  std::uint64_t magic = kStampMagic;
  std::uint64_t run = 0;           // the log this write stands in
  std::uint64_t write_number = 0;  // 1, 2, 3 ... within the run
  std::uint64_t sector = 0;        // counted from the start of the target
  std::uint64_t wall_ns = 0;       // CLOCK_REALTIME just before submission, as in the log
  std::uint32_t target = 0;        // which disk, partition or file
  std::uint32_t reserved = 0;
};
static_assert(sizeof(Stamp) == 48);

enum class SectorContent : std::uint8_t {
  kZero,     // all 512 bytes are zero
  kStamped,  // a whole stamp with a right checksum
  kForeign,  // anything else: torn, corrupt or written by somebody else
};

// Fills one sector. `compressible` makes the filler a repeated word instead of noise.
void write_stamp(const Stamp& stamp, bool compressible, std::span<std::byte, kSectorBytes> sector);

// Tells what a sector holds; `*ret` is set for kStamped only.
SectorContent read_stamp(std::span<const std::byte, kSectorBytes> sector, Stamp* ret);

}  // namespace understudy::oracle
