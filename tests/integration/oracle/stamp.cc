// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/oracle/stamp.h"

#include <xxhash.h>

#include <cstring>

namespace understudy::oracle {
namespace {

constexpr std::size_t kChecksumOffset = kSectorBytes - sizeof(std::uint64_t);

// splitmix64 (Sebastiano Vigna, public domain): one multiply-shift chain a word is enough for filler.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

bool all_zero(std::span<const std::byte, kSectorBytes> sector) {
  static constexpr std::byte kZeros[kSectorBytes] = {};
  return std::memcmp(sector.data(), kZeros, kSectorBytes) == 0;
}

}  // namespace

void write_stamp(const Stamp& stamp, bool compressible, std::span<std::byte, kSectorBytes> sector) {
  std::memcpy(sector.data(), &stamp, sizeof(stamp));
  const std::uint64_t seed = mix(stamp.run ^ (stamp.write_number << 20) ^ stamp.sector);
  std::uint64_t step = 0;
  for (std::size_t at = sizeof(stamp); at < kChecksumOffset; at += sizeof(std::uint64_t)) {
    if (!compressible) step += 0x9e3779b97f4a7c15ull;
    const std::uint64_t word = compressible ? seed : mix(seed + step);
    std::memcpy(sector.data() + at, &word, sizeof(word));
  }
  const std::uint64_t checksum = XXH3_64bits(sector.data(), kChecksumOffset);
  std::memcpy(sector.data() + kChecksumOffset, &checksum, sizeof(checksum));
}

SectorContent read_stamp(std::span<const std::byte, kSectorBytes> sector, Stamp* ret) {
  Stamp stamp;
  std::memcpy(&stamp, sector.data(), sizeof(stamp));
  if (stamp.magic != kStampMagic) return all_zero(sector) ? SectorContent::kZero : SectorContent::kForeign;
  std::uint64_t checksum = 0;
  std::memcpy(&checksum, sector.data() + kChecksumOffset, sizeof(checksum));
  if (checksum != XXH3_64bits(sector.data(), kChecksumOffset)) return SectorContent::kForeign;
  *ret = stamp;
  return SectorContent::kStamped;
}

}  // namespace understudy::oracle
