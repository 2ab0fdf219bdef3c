// SPDX-License-Identifier: Apache-2.0
// The tree of digests over a disk, the same on both ends. Pure; thread-safe.
//
//   region  <= 64 MiB   digest of its chunks' digests, in order    what is asked first
//   chunk       1 MiB   digest of its leaves' digests, in order
//   leaf       64 KiB   xxh3-128 of the bytes                      what is told apart in the end
//
// Chunks begin at multiples of their size; the last chunk and leaf of a disk may be shorter. A region may leave chunks
// out (a mask says which), so that a chunk that was written while it was read costs no more than itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "daemon/base/checksum.h"

namespace understudy {

using Digest = Xxh128Digest;

inline constexpr std::uint64_t kDigestLeafBytes = 64u << 10;
inline constexpr std::uint64_t kDigestChunkBytes = 1u << 20;
inline constexpr std::uint64_t kDigestRegionBytes = 64u << 20;
inline constexpr unsigned kDigestLeavesPerChunk = kDigestChunkBytes / kDigestLeafBytes;
inline constexpr unsigned kDigestChunksPerRegion = kDigestRegionBytes / kDigestChunkBytes;
static_assert(kDigestChunksPerRegion == 64 && kDigestLeavesPerChunk == 16);  // masks are u64 and u16

// Of a whole leaf of zeros, so that what a store never allocated costs neither reading nor hashing.
inline constexpr Digest kDigestOfZeroLeaf = {
    std::byte{0xfd}, std::byte{0x5e}, std::byte{0xe0}, std::byte{0x61}, std::byte{0xc8}, std::byte{0x43},
    std::byte{0x3a}, std::byte{0x0f}, std::byte{0x33}, std::byte{0xb2}, std::byte{0x02}, std::byte{0xd3},
    std::byte{0x02}, std::byte{0xb6}, std::byte{0x5c}, std::byte{0xaa}};

// Leaves of an extent that begins at a leaf's beginning.
constexpr unsigned digest_leaf_count(std::uint64_t length_bytes) {
  return static_cast<unsigned>((length_bytes + kDigestLeafBytes - 1) / kDigestLeafBytes);
}
constexpr unsigned digest_chunk_count(std::uint64_t length_bytes) {
  return static_cast<unsigned>((length_bytes + kDigestChunkBytes - 1) / kDigestChunkBytes);
}
// Bytes of chunk `index` of a region of so many bytes.
constexpr std::uint64_t digest_chunk_bytes(std::uint64_t region_bytes, unsigned index) {
  const std::uint64_t begin = index * kDigestChunkBytes;
  return region_bytes - begin < kDigestChunkBytes ? region_bytes - begin : kDigestChunkBytes;
}

// The digest of each leaf of `data`, which begins at a leaf's beginning, in order.
void append_leaf_digests(std::span<const std::byte> data, std::vector<Digest>& out);
// The digest of a leaf of `bytes` zeros.
Digest digest_of_zeros(std::uint64_t bytes);
// One level up.
Digest digest_of_digests(std::span<const Digest> digests);

}  // namespace understudy
