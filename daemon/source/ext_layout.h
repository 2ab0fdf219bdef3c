// SPDX-License-Identifier: Apache-2.0
// The part of ext2, ext3 and ext4 that says which blocks are free. Source: Documentation/filesystems/ext4/ of Linux
// (super.rst, group_descr.rst, bitmaps.rst, blockgroup.rst).
#pragma once

#include <cstddef>
#include <cstdint>

#include "daemon/base/little_endian.h"

namespace understudy::ext {

inline constexpr std::uint64_t kSuperOffsetBytes = 1024;
inline constexpr std::uint16_t kMagic = 0xef53;
inline constexpr std::uint16_t kStateValid = 1;   // unmounted cleanly
inline constexpr std::uint16_t kStateErrors = 2;  // damage was seen
inline constexpr std::uint16_t kStateOrphans = 4;
inline constexpr std::uint8_t kChecksumCrc32c = 1;

// Compatible features.
inline constexpr std::uint32_t kSparseSuper2 = 0x200;
// Incompatible features.
inline constexpr std::uint32_t kRecover = 0x4;  // the journal has to be replayed
inline constexpr std::uint32_t kMetaBg = 0x10;
inline constexpr std::uint32_t k64Bit = 0x80;
inline constexpr std::uint32_t kChecksumSeed = 0x2000;
// file types, meta_bg, extents, 64bit, flex_bg, ea_inode, csum_seed, large_dir, inline_data, encrypt, casefold: none
// but meta_bg, 64bit and csum_seed says anything about free blocks. Not here, hence refused: compression, journal
// device, MMP (another host may write), dirdata, and what is yet to come.
inline constexpr std::uint32_t kIncompatibleKnown =
    0x2 | kRecover | kMetaBg | 0x40 | k64Bit | 0x200 | 0x400 | kChecksumSeed | 0x4000 | 0x8000 | 0x10000 | 0x20000;
// Features without which a file system can be read, but not written.
inline constexpr std::uint32_t kSparseSuper = 0x1;
inline constexpr std::uint32_t kGroupChecksum = 0x10;
inline constexpr std::uint32_t kBigAlloc = 0x200;
inline constexpr std::uint32_t kMetadataChecksum = 0x400;
// ... and large_file, btree_dir, huge_file, dir_nlink, extra_isize, quota, read-only, project, verity. Not here, hence
// refused: snapshots, replicas, shared blocks, orphans present.
inline constexpr std::uint32_t kReadOnlyKnown = kSparseSuper | 0x2 | 0x4 | 0x8 | kGroupChecksum | 0x20 | 0x40 | 0x100 |
                                                kBigAlloc | kMetadataChecksum | 0x1000 | 0x2000 | 0x8000;

struct SuperBlock {
  le32 inodes_count;
  le32 blocks_count_low;
  le32 reserved_blocks_low;
  le32 free_blocks_low;
  le32 free_inodes;
  le32 first_data_block;
  le32 log_block_size;  // block = 1024 << this
  le32 log_cluster_size;
  le32 blocks_per_group;
  le32 clusters_per_group;
  le32 inodes_per_group;
  unsigned char times_and_counts[12];
  le16 magic;
  le16 state;
  unsigned char checks[16];
  le32 revision;
  le32 owners;
  le32 first_inode;
  le16 inode_size;
  le16 group_of_this;
  le32 compatible;
  le32 incompatible;
  le32 read_only;
  unsigned char uuid[16];
  unsigned char names[0xce - 0x78];
  le16 reserved_descriptor_blocks;
  unsigned char journal[0xfe - 0xd0];
  le16 descriptor_size;
  le32 mount_options;
  le32 first_meta_group;
  unsigned char made[0x150 - 0x108];
  le32 blocks_count_high;
  le32 reserved_blocks_high;
  le32 free_blocks_high;
  unsigned char sizes[0x175 - 0x15c];
  std::uint8_t checksum_type;
  unsigned char history[0x24c - 0x176];
  le32 backup_groups[2];
  unsigned char encryption[0x270 - 0x254];
  le32 checksum_seed;
  unsigned char reserved[0x3fc - 0x274];
  le32 checksum;
};
static_assert(sizeof(SuperBlock) == 1024);
static_assert(offsetof(SuperBlock, magic) == 0x38 && offsetof(SuperBlock, compatible) == 0x5c);
static_assert(offsetof(SuperBlock, reserved_descriptor_blocks) == 0xce &&
              offsetof(SuperBlock, descriptor_size) == 0xfe);
static_assert(offsetof(SuperBlock, blocks_count_high) == 0x150 && offsetof(SuperBlock, backup_groups) == 0x24c);
static_assert(offsetof(SuperBlock, checksum_seed) == 0x270 && alignof(SuperBlock) == 1);

inline constexpr std::uint16_t kBlocksUninitialized = 2;  // the group's bitmap was never written

// The second half is there with a descriptor size of 64 only.
struct GroupDescriptor {
  le32 block_bitmap_low;
  le32 inode_bitmap_low;
  le32 inode_table_low;
  le16 free_blocks_low;
  le16 free_inodes_low;
  le16 directories_low;
  le16 flags;
  le32 exclude_bitmap_low;
  le16 block_bitmap_checksum_low;
  le16 inode_bitmap_checksum_low;
  le16 unused_inodes_low;
  le16 checksum;
  le32 block_bitmap_high;
  le32 inode_bitmap_high;
  le32 inode_table_high;
  le16 free_blocks_high;
  le16 free_inodes_high;
  le16 directories_high;
  le16 unused_inodes_high;
  le32 exclude_bitmap_high;
  le16 block_bitmap_checksum_high;
  le16 inode_bitmap_checksum_high;
  le32 reserved;
};
static_assert(sizeof(GroupDescriptor) == 64 && offsetof(GroupDescriptor, checksum) == 0x1e);
static_assert(offsetof(GroupDescriptor, block_bitmap_checksum_high) == 0x38);
inline constexpr std::size_t kShortDescriptorBytes = 32;

}  // namespace understudy::ext
