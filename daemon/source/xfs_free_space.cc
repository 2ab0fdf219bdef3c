// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/xfs_free_space.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "daemon/source/crc.h"
#include "daemon/source/xfs_layout.h"
#include "daemon/source/xfs_log.h"

namespace understudy {
namespace {

using namespace xfs;

constexpr std::size_t kUuidBytes = 16;

Error corrupt(const std::string& what) { return Error(ErrorKind::kCorrupt, what); }

bool checksum_agrees(std::span<const std::byte> block, std::size_t offset) {
  static constexpr std::byte kZeros[4] = {};
  std::uint32_t sum = crc32c(~0u, block.first(offset));
  sum = ~crc32c(crc32c(sum, kZeros), block.subspan(offset + 4));
  std::uint32_t stored = 0;  // little-endian, the only ones
  for (int i = 3; i >= 0; --i)
    stored = stored << 8 | static_cast<std::uint32_t>(block[offset + static_cast<std::size_t>(i)]);
  return sum == stored;
}

class XfsReader {
 public:
  XfsReader(VolumeReader& volume, std::uint64_t length_bytes_min) : volume_(volume), free_(length_bytes_min) {}

  Result<ExtentList> read() {
    RETURN_IF_ERROR(read_super());
    RETURN_IF_ERROR(check_super());
    ASSIGN_OR_RETURN(const std::uint64_t head, log_head());
    for (std::uint32_t group = 0; group < group_count_; ++group) {
      if (Status status = read_group(group); !status.ok()) {
        return std::move(status).error().with_context("allocation group " + std::to_string(group));
      }
    }
    // Somebody who mounted it meanwhile has written to the journal, and that before anything else.
    const std::vector<std::byte> before = super_;
    volume_.forget();
    RETURN_IF_ERROR(read_super());
    ASSIGN_OR_RETURN(const std::uint64_t head_after, log_head());
    if (before != super_ || head != head_after) return Error(ErrorKind::kBusy, "it changed while it was read");
    return free_.take();
  }

 private:
  Status read_super() {
    if (volume_.size_bytes() < 4096) return Error(ErrorKind::kInvalidArgument, "too small for XFS");
    super_.resize(512);
    RETURN_IF_ERROR(volume_.read(0, super_));
    if (be32(super_, 0) != kSuperMagic) return Error(ErrorKind::kInvalidArgument, "no XFS super block");
    sector_bytes_ = be16(super_, super::kSectorSize);
    if (sector_bytes_ < 512 || sector_bytes_ > 32768 || !std::has_single_bit(sector_bytes_) ||
        sector_bytes_ > volume_.size_bytes()) {
      return corrupt("sector size");
    }
    super_.resize(sector_bytes_);
    return volume_.read(0, super_);
  }

  Status check_super() {
    const std::uint16_t version = be16(super_, super::kVersion) & kVersionMask;
    if (version != 4 && version != 5)
      return Error(ErrorKind::kUnsupported, "format version " + std::to_string(version));
    version5_ = version == 5;
    std::size_t uuid_at = super::kUuid;
    if (version5_) {
      const std::uint32_t incompatible = be32(super_, super::kIncompatible);
      const std::uint32_t read_only = be32(super_, super::kReadOnlyFeatures);
      if ((incompatible & ~kIncompatibleKnown) != 0 || (read_only & ~kReadOnlyKnown) != 0 ||
          be32(super_, super::kLogIncompatible) != 0) {
        char text[96];
        std::snprintf(text, sizeof(text), "unknown features 0x%x, 0x%x, 0x%x", incompatible & ~kIncompatibleKnown,
                      read_only & ~kReadOnlyKnown, be32(super_, super::kLogIncompatible));
        return Error(ErrorKind::kUnsupported, text);
      }
      if (!checksum_agrees(super_, super::kChecksum)) return corrupt("checksum of its super block");
      if ((incompatible & kMetaUuidFeature) != 0) uuid_at = super::kMetaUuid;
    }
    std::copy_n(super_.begin() + static_cast<std::ptrdiff_t>(uuid_at), kUuidBytes, meta_uuid_);
    std::copy_n(super_.begin() + super::kUuid, kUuidBytes, uuid_);
    if (super_[super::kInProgress] != std::byte{0}) return Error(ErrorKind::kBusy, "it is being made");
    block_bytes_ = be32(super_, super::kBlockSize);
    group_blocks_ = be32(super_, super::kAgBlocks);
    group_count_ = be32(super_, super::kAgCount);
    blocks_count_ = be64(super_, super::kDataBlocks);
    if (block_bytes_ < 512 || block_bytes_ > 65536 || !std::has_single_bit(block_bytes_) ||
        block_bytes_ < sector_bytes_ || 4 * sector_bytes_ > group_bytes()) {
      return corrupt("block size");
    }
    if (group_blocks_ < 64 || group_count_ == 0 || blocks_count_ > volume_.size_bytes() / block_bytes_ ||
        blocks_count_ <= std::uint64_t{group_count_ - 1} * group_blocks_ ||
        blocks_count_ > std::uint64_t{group_count_} * group_blocks_) {
      return corrupt("it is larger than what it stands on");
    }
    return ok_status();
  }

  std::uint64_t group_bytes() const { return std::uint64_t{group_blocks_} * block_bytes_; }

  Result<std::uint64_t> log_head() {
    const std::uint64_t start = be64(super_, super::kLogStart);
    const auto shift = static_cast<unsigned>(super_[super::kAgBlockLog]);
    if (start == 0) return Error(ErrorKind::kUnsupported, "its journal lies on another device");
    if (shift == 0 || shift > 31) return corrupt("place of its journal");
    const std::uint64_t group = start >> shift;
    const std::uint64_t block = start & ((std::uint64_t{1} << shift) - 1);
    const std::uint64_t blocks = be32(super_, super::kLogBlocks);
    if (group >= group_count_ || block >= group_blocks_ || blocks > group_blocks_ - block ||
        group * group_blocks_ + block + blocks > blocks_count_) {
      return corrupt("place of its journal");
    }
    return clean_log_head(volume_, group * group_bytes() + block * block_bytes_, blocks * block_bytes_ / kLogBlockBytes,
                          uuid_);
  }

  Status read_group(std::uint32_t group) {
    header_.resize(sector_bytes_);
    RETURN_IF_ERROR(volume_.read(group * group_bytes() + sector_bytes_, header_));
    const std::uint64_t length =
        std::min<std::uint64_t>(group_blocks_, blocks_count_ - std::uint64_t{group} * group_blocks_);
    if (be32(header_, 0) != kAgfMagic || be32(header_, agf::kVersion) != 1 || be32(header_, agf::kSequence) != group ||
        be32(header_, agf::kLength) != length) {
      return corrupt("header of its free space");
    }
    if (version5_ && (!checksum_agrees(header_, agf::kChecksum) ||
                      std::memcmp(header_.data() + agf::kUuid, meta_uuid_, kUuidBytes) != 0)) {
      return corrupt("checksum of the header of its free space");
    }
    length_ = static_cast<std::uint32_t>(length);
    ASSIGN_OR_RETURN(const std::uint64_t found, read_tree(group));
    if (found != be32(header_, agf::kFreeBlocks)) {
      return corrupt("counts " + std::to_string(be32(header_, agf::kFreeBlocks)) + " free blocks, its tree has " +
                     std::to_string(found));
    }
    return ok_status();
  }

  // Down along the left side, then through the leaves from left to right. The number of free blocks.
  Result<std::uint64_t> read_tree(std::uint32_t group) {
    const std::uint32_t levels = be32(header_, agf::kLevels);
    if (levels == 0 || levels > kLevelsMax) return corrupt("depth of its tree");
    std::uint32_t block = be32(header_, agf::kRoot);
    for (std::uint32_t level = levels - 1; level > 0; --level) {
      RETURN_IF_ERROR(load_node(group, block, level));
      const std::size_t header = version5_ ? tree::kHeaderV5 : tree::kHeaderV4;
      const std::size_t records_max = (block_bytes_ - header) / (tree::kRecordBytes + 4);
      if (be16(node_, tree::kRecords) == 0 || be16(node_, tree::kRecords) > records_max)
        return corrupt("node of its tree");
      block = be32(node_, header + records_max * tree::kRecordBytes);
    }
    std::uint64_t count = 0;
    std::uint64_t behind = 0;  // everything before is known
    std::uint64_t visited = 0;
    while (block != kNoBlock) {
      if (++visited > length_) return corrupt("its tree goes round in circles");
      RETURN_IF_ERROR(load_node(group, block, 0));
      RETURN_IF_ERROR(take_records(group, count, behind));
      block = be32(node_, tree::kRight);
    }
    return count;
  }

  Status load_node(std::uint32_t group, std::uint32_t block, std::uint32_t level) {
    if (block >= length_) return corrupt("a node of its tree lies outside");
    node_.resize(block_bytes_);
    const std::uint64_t offset_bytes = group * group_bytes() + std::uint64_t{block} * block_bytes_;
    RETURN_IF_ERROR(volume_.read(offset_bytes, node_));
    if (be32(node_, 0) != (version5_ ? kTreeMagicV5 : kTreeMagicV4) || be16(node_, tree::kLevel) != level) {
      return corrupt("node of its tree");
    }
    if (version5_ && (!checksum_agrees(node_, tree::kChecksum) || be32(node_, tree::kOwner) != group ||
                      be64(node_, tree::kBlockNumber) != offset_bytes / 512 ||
                      std::memcmp(node_.data() + tree::kUuid, meta_uuid_, kUuidBytes) != 0)) {
      return corrupt("checksum or owner of a node of its tree");
    }
    return ok_status();
  }

  Status take_records(std::uint32_t group, std::uint64_t& count, std::uint64_t& behind) {
    const std::size_t header = version5_ ? tree::kHeaderV5 : tree::kHeaderV4;
    const std::size_t records = be16(node_, tree::kRecords);
    if (records > (block_bytes_ - header) / tree::kRecordBytes) return corrupt("leaf of its tree");
    for (std::size_t i = 0; i < records; ++i) {
      const std::uint64_t start = be32(node_, header + i * tree::kRecordBytes);
      const std::uint64_t blocks = be32(node_, header + i * tree::kRecordBytes + 4);
      if (blocks == 0 || start < behind || start + blocks > length_) return corrupt("record of its tree");
      behind = start + blocks;
      count += blocks;
      if (!free_.add(group * group_bytes() + start * block_bytes_, blocks * block_bytes_))
        return corrupt("order of its tree");
    }
    return ok_status();
  }

  VolumeReader& volume_;
  ExtentBuilder free_;
  std::vector<std::byte> super_;
  std::vector<std::byte> header_;  // of the group
  std::vector<std::byte> node_;
  std::byte uuid_[kUuidBytes] = {};
  std::byte meta_uuid_[kUuidBytes] = {};
  bool version5_ = false;
  std::uint32_t sector_bytes_ = 0;
  std::uint32_t block_bytes_ = 0;
  std::uint32_t group_blocks_ = 0;
  std::uint32_t group_count_ = 0;
  std::uint32_t length_ = 0;  // of the group, in blocks
  std::uint64_t blocks_count_ = 0;
};

}  // namespace

Result<ExtentList> xfs_free_space(VolumeReader& volume, std::uint64_t length_bytes_min) {
  return XfsReader(volume, length_bytes_min).read();
}

}  // namespace understudy
