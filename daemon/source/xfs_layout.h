// SPDX-License-Identifier: Apache-2.0
// The part of XFS that says which blocks are free. Big-endian throughout, but for checksums.
// Source: "XFS Algorithms & Data Structures", 3rd edition (superblocks, AG free space block, AG free space B+trees,
// journaling log), git.kernel.org/pub/scm/fs/xfs/xfs-documentation.git.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace understudy::xfs {

template <typename T>
T big_endian(std::span<const std::byte> bytes, std::size_t offset) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value << 8 | static_cast<T>(static_cast<unsigned char>(bytes[offset + i])));
  }
  return value;
}
inline std::uint16_t be16(std::span<const std::byte> bytes, std::size_t offset) {
  return big_endian<std::uint16_t>(bytes, offset);
}
inline std::uint32_t be32(std::span<const std::byte> bytes, std::size_t offset) {
  return big_endian<std::uint32_t>(bytes, offset);
}
inline std::uint64_t be64(std::span<const std::byte> bytes, std::size_t offset) {
  return big_endian<std::uint64_t>(bytes, offset);
}

// Super block, at the beginning of each allocation group (the first one counts).
inline constexpr std::uint32_t kSuperMagic = 0x58465342;  // "XFSB"
namespace super {
inline constexpr std::size_t kBlockSize = 4, kDataBlocks = 8, kUuid = 32, kLogStart = 48, kAgBlocks = 84, kAgCount = 88,
                             kLogBlocks = 96, kVersion = 100, kSectorSize = 102, kAgBlockLog = 124, kInProgress = 126,
                             kReadOnlyFeatures = 212, kIncompatible = 216, kLogIncompatible = 220, kChecksum = 224,
                             kMetaUuid = 248, kBytes = 264;
}  // namespace super
inline constexpr std::uint16_t kVersionMask = 0xf;
inline constexpr std::uint32_t kReadOnlyKnown = 0xf;  // finobt, rmapbt, reflink, inobtcount
inline constexpr std::uint32_t kMetaUuidFeature = 0x4;
inline constexpr std::uint32_t kIncompatibleKnown = 0xef;  // all up to parent pointers but needs-repair (0x10)

// AG free space block, in the second sector of each allocation group.
inline constexpr std::uint32_t kAgfMagic = 0x58414746;  // "XAGF"
namespace agf {
inline constexpr std::size_t kVersion = 4, kSequence = 8, kLength = 12, kRoot = 16, kLevels = 28, kFreeBlocks = 52,
                             kUuid = 64, kChecksum = 216, kBytes = 224;
}  // namespace agf

// A block of the B+tree of free space, sorted by block number.
inline constexpr std::uint32_t kTreeMagicV4 = 0x41425442;  // "ABTB"
inline constexpr std::uint32_t kTreeMagicV5 = 0x41423342;  // "AB3B"
namespace tree {
inline constexpr std::size_t kLevel = 4, kRecords = 6, kRight = 12, kBlockNumber = 16, kUuid = 32, kOwner = 48,
                             kChecksum = 52, kHeaderV4 = 16, kHeaderV5 = 56, kRecordBytes = 8;
}  // namespace tree
inline constexpr std::uint32_t kNoBlock = 0xffffffff;
inline constexpr unsigned kLevelsMax = 9;

// The journal: a ring of 512-byte blocks, each beginning with the number of the turn in which it was written; the first
// of a record has the magic there, and the turn behind it.
inline constexpr std::uint32_t kLogMagic = 0xfeedbabe;
inline constexpr std::size_t kLogBlockBytes = 512;
namespace log {
inline constexpr std::size_t kCycle = 4, kVersion = 8, kLength = 12, kLsn = 16, kTailLsn = 24, kOperations = 40,
                             kFormat = 300, kUuid = 304, kSize = 320;
// Of an operation; its first four bytes are covered by the turn.
inline constexpr std::size_t kOperationFlags = 9;
inline constexpr std::uint8_t kUnmount = 0x20;
inline constexpr std::uint32_t kHeaderCoversBytes = 32768;
}  // namespace log

}  // namespace understudy::xfs
