// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/ext_free_space.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "daemon/base/limits.h"
#include "daemon/source/crc.h"
#include "daemon/source/ext_layout.h"

namespace understudy {
namespace {

using namespace ext;

Error corrupt(const std::string& what) { return Error(ErrorKind::kCorrupt, what); }

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

bool is_power_of(std::uint64_t number, std::uint64_t base) {
  while (number > 1 && number % base == 0) number /= base;
  return number == 1;
}

class ExtReader {
 public:
  ExtReader(VolumeReader& volume, std::uint64_t length_bytes_min) : volume_(volume), free_(length_bytes_min) {}

  Result<ExtentList> read() {
    RETURN_IF_ERROR(read_super());
    RETURN_IF_ERROR(check_super());
    std::uint64_t free_clusters = 0;
    for (std::uint64_t group = 0; group < group_count_; ++group) {
      ASSIGN_OR_RETURN(const std::uint64_t clusters, read_group(group));
      free_clusters += clusters;
    }
    if (free_clusters * cluster_blocks_ != free_blocks_noted()) {
      return corrupt("its super block counts " + std::to_string(free_blocks_noted()) + " free blocks, its bitmaps " +
                     std::to_string(free_clusters * cluster_blocks_));
    }
    // Somebody who mounted it meanwhile has changed the super block.
    const SuperBlock before = super_;
    volume_.forget();
    RETURN_IF_ERROR(read_super());
    if (std::memcmp(&before, &super_, sizeof(before)) != 0)
      return Error(ErrorKind::kBusy, "it changed while it was read");
    return subtracted(free_.take(), normalized(std::move(metadata_)));
  }

 private:
  std::uint64_t free_blocks_noted() const {
    const std::uint64_t high = has_64bit_ ? std::uint64_t{super_.free_blocks_high} : 0;
    return high << 32 | super_.free_blocks_low;
  }

  Status read_super() {
    if (volume_.size_bytes() < kSuperOffsetBytes + sizeof(super_)) {
      return Error(ErrorKind::kInvalidArgument, "too small for an ext file system");
    }
    RETURN_IF_ERROR(volume_.read(kSuperOffsetBytes, std::as_writable_bytes(std::span(&super_, 1))));
    if (super_.magic != kMagic) return Error(ErrorKind::kInvalidArgument, "no ext super block");
    return ok_status();
  }

  Status check_super() {
    const std::uint32_t incompatible = super_.revision == 0 ? 0u : std::uint32_t{super_.incompatible};
    read_only_features_ = super_.revision == 0 ? 0u : std::uint32_t{super_.read_only};
    if (super_.revision > 1)
      return Error(ErrorKind::kUnsupported, "unknown revision " + std::to_string(super_.revision));
    const auto unknown = [](std::uint32_t flags, const char* kind) {
      char text[64];
      std::snprintf(text, sizeof(text), "unknown %s features 0x%x", kind, flags);
      return Error(ErrorKind::kUnsupported, text);
    };
    if ((incompatible & ~kIncompatibleKnown) != 0) return unknown(incompatible & ~kIncompatibleKnown, "incompatible");
    if ((read_only_features_ & ~kReadOnlyKnown) != 0)
      return unknown(read_only_features_ & ~kReadOnlyKnown, "read-only");
    if ((incompatible & kRecover) != 0) return Error(ErrorKind::kBusy, "its journal has to be replayed");
    if (super_.state != kStateValid)
      return Error(ErrorKind::kBusy, "it was not cleanly unmounted, or has errors noted");
    has_64bit_ = (incompatible & k64Bit) != 0;
    meta_bg_ = (incompatible & kMetaBg) != 0;
    metadata_checksum_ = (read_only_features_ & kMetadataChecksum) != 0;
    group_checksum_ = (read_only_features_ & kGroupChecksum) != 0;
    if (metadata_checksum_ && (group_checksum_ || super_.checksum_type != kChecksumCrc32c)) {
      return Error(ErrorKind::kUnsupported, "unknown kind of checksums");
    }
    if (metadata_checksum_ && crc32c(~0u, bytes_of(super_).first(0x3fc)) != super_.checksum) {
      return corrupt("checksum of its super block");
    }
    seed_ = (incompatible & kChecksumSeed) != 0 ? std::uint32_t{super_.checksum_seed}
                                                : crc32c(~0u, std::as_bytes(std::span(super_.uuid)));
    return check_geometry();
  }

  Status check_geometry() {
    if (super_.log_block_size > 6) return corrupt("block size");
    block_bytes_ = 1024u << super_.log_block_size;
    const bool bigalloc = (read_only_features_ & kBigAlloc) != 0;
    if (bigalloc && (super_.log_cluster_size < super_.log_block_size || super_.log_cluster_size > 20)) {
      return corrupt("cluster size");
    }
    cluster_blocks_ = bigalloc ? 1ull << (super_.log_cluster_size - super_.log_block_size) : 1;
    clusters_per_group_ = bigalloc ? std::uint64_t{super_.clusters_per_group} : std::uint64_t{super_.blocks_per_group};
    blocks_per_group_ = super_.blocks_per_group;
    if (clusters_per_group_ == 0 || clusters_per_group_ % 8 != 0 || clusters_per_group_ > 8 * block_bytes_ ||
        blocks_per_group_ != clusters_per_group_ * cluster_blocks_) {
      return corrupt("blocks per group");
    }
    blocks_count_ = (has_64bit_ ? std::uint64_t{super_.blocks_count_high} << 32 : 0) | super_.blocks_count_low;
    first_data_block_ = super_.first_data_block;
    if (first_data_block_ > 1 || blocks_count_ <= first_data_block_ ||
        blocks_count_ > volume_.size_bytes() / block_bytes_) {
      return corrupt("it is larger than what it stands on");
    }
    group_count_ = (blocks_count_ - first_data_block_ + blocks_per_group_ - 1) / blocks_per_group_;
    if (group_count_ > kExtGroupsMax) return Error(ErrorKind::kUnsupported, "too many block groups");
    descriptor_bytes_ = has_64bit_ ? std::uint64_t{super_.descriptor_size} : kShortDescriptorBytes;
    if (descriptor_bytes_ < kShortDescriptorBytes || descriptor_bytes_ > 1024 ||
        !std::has_single_bit(descriptor_bytes_) || (has_64bit_ && descriptor_bytes_ < sizeof(GroupDescriptor))) {
      return corrupt("size of group descriptors");
    }
    descriptors_per_block_ = block_bytes_ / descriptor_bytes_;
    const std::uint64_t inodes_per_block = block_bytes_ / std::max<std::uint64_t>(inode_bytes(), 1);
    if (inode_bytes() < 128 || inode_bytes() > block_bytes_ || super_.inodes_per_group == 0 ||
        super_.inodes_per_group > 8 * block_bytes_) {
      return corrupt("inode size or count");
    }
    inode_table_blocks_ = (super_.inodes_per_group + inodes_per_block - 1) / inodes_per_block;
    return ok_status();
  }

  std::uint64_t inode_bytes() const { return super_.revision == 0 ? 128u : std::uint32_t{super_.inode_size}; }

  // Whether the group begins with a copy of the super block.
  bool has_super(std::uint64_t group) const {
    if (group == 0) return true;
    if (super_.revision != 0 && (super_.compatible & kSparseSuper2) != 0) {
      return group == super_.backup_groups[0] || group == super_.backup_groups[1];
    }
    if (group == 1 || (read_only_features_ & kSparseSuper) == 0) return true;
    return is_power_of(group, 3) || is_power_of(group, 5) || is_power_of(group, 7);
  }

  std::uint64_t group_first_block(std::uint64_t group) const { return first_data_block_ + group * blocks_per_group_; }

  // Super block and group descriptors at the beginning of a group, in blocks.
  std::uint64_t base_blocks(std::uint64_t group) const {
    const std::uint64_t super = has_super(group) ? 1 : 0;
    const std::uint64_t meta_group = group / descriptors_per_block_;
    if (!meta_bg_ || meta_group < super_.first_meta_group) {
      const std::uint64_t all = (group_count_ + descriptors_per_block_ - 1) / descriptors_per_block_;
      const std::uint64_t descriptors = meta_bg_ ? std::uint64_t{super_.first_meta_group} : all;
      return super != 0 ? 1 + descriptors + super_.reserved_descriptor_blocks : 0;
    }
    const std::uint64_t within = group % descriptors_per_block_;
    return super + (within == 0 || within == 1 || within == descriptors_per_block_ - 1 ? 1 : 0);
  }

  std::uint64_t descriptor_block(std::uint64_t index) const {
    const std::uint64_t odd =
        block_bytes_ == 1024 && first_data_block_ == 0 ? 1 : 0;  // block 0 is not the super block's
    if (!meta_bg_ || index < super_.first_meta_group) return first_data_block_ + odd + index + 1;
    const std::uint64_t group = index * descriptors_per_block_;
    return group_first_block(group) + (has_super(group) ? 1 : 0) + (index == 0 ? odd : 0);
  }

  Status read_block(std::uint64_t block, std::vector<std::byte>& out) {
    if (block >= blocks_count_) return corrupt("block " + std::to_string(block) + " lies behind its end");
    out.resize(block_bytes_);
    return volume_.read(block * block_bytes_, out);
  }

  Result<GroupDescriptor> descriptor(std::uint64_t group) {
    const std::uint64_t index = group / descriptors_per_block_;
    if (index != descriptors_index_) {
      RETURN_IF_ERROR(read_block(descriptor_block(index), descriptors_));
      descriptors_index_ = index;
    }
    const auto raw = std::span<const std::byte>(descriptors_)
                         .subspan(group % descriptors_per_block_ * descriptor_bytes_, descriptor_bytes_);
    GroupDescriptor found{};
    std::memcpy(&found, raw.data(), std::min(raw.size(), sizeof(found)));
    const le32 number = static_cast<std::uint32_t>(group);
    if (metadata_checksum_) {
      std::vector<std::byte> zeroed(raw.begin(), raw.end());
      std::memset(zeroed.data() + offsetof(GroupDescriptor, checksum), 0, 2);
      if ((crc32c(crc32c(seed_, bytes_of(number)), zeroed) & 0xffff) != found.checksum) {
        return corrupt("checksum of group descriptor " + std::to_string(group));
      }
    } else if (group_checksum_) {
      std::uint16_t sum = crc16(0xffff, std::as_bytes(std::span(super_.uuid)));
      sum = crc16(crc16(sum, bytes_of(number)), raw.first(offsetof(GroupDescriptor, checksum)));
      sum = crc16(sum, raw.subspan(offsetof(GroupDescriptor, block_bitmap_high)));
      if (sum != found.checksum) return corrupt("checksum of group descriptor " + std::to_string(group));
    }
    return found;
  }

  // Blocks that are never free, whatever a bitmap says.
  Status note_metadata(std::uint64_t first, std::uint64_t count) {
    if (first < first_data_block_ || first >= blocks_count_ || count > blocks_count_ - first) {
      return corrupt("metadata lies behind its end");
    }
    if (!metadata_.empty() && metadata_.back().end_bytes() == first * block_bytes_) {
      metadata_.back().length_bytes += count * block_bytes_;
    } else {
      metadata_.push_back({first * block_bytes_, count * block_bytes_});
    }
    return ok_status();
  }

  // The number of its free clusters.
  Result<std::uint64_t> read_group(std::uint64_t group) {
    ASSIGN_OR_RETURN(const GroupDescriptor found, descriptor(group));
    const auto joined = [this](std::uint64_t low, std::uint64_t high) { return has_64bit_ ? high << 32 | low : low; };
    const std::uint64_t bitmap_block = joined(found.block_bitmap_low, found.block_bitmap_high);
    const std::uint64_t inode_bitmap = joined(found.inode_bitmap_low, found.inode_bitmap_high);
    const std::uint64_t inode_table = joined(found.inode_table_low, found.inode_table_high);
    const std::uint64_t first = group_first_block(group);
    const std::uint64_t blocks = std::min(blocks_per_group_, blocks_count_ - first);
    const std::uint64_t base = std::min(base_blocks(group), blocks);
    if (base > 0) RETURN_IF_ERROR(note_metadata(first, base));
    RETURN_IF_ERROR(note_metadata(bitmap_block, 1));
    RETURN_IF_ERROR(note_metadata(inode_bitmap, 1));
    RETURN_IF_ERROR(note_metadata(inode_table, inode_table_blocks_));

    const std::uint64_t clusters = (blocks + cluster_blocks_ - 1) / cluster_blocks_;
    const bool uninitialized = (found.flags & kBlocksUninitialized) != 0 && (group_checksum_ || metadata_checksum_);
    if (uninitialized) {
      std::vector<Extent> used{{0, base}};
      for (const Extent& part :
           {Extent{bitmap_block, 1}, Extent{inode_bitmap, 1}, Extent{inode_table, inode_table_blocks_}}) {
        if (part.offset_bytes >= first && part.offset_bytes < first + blocks) {
          used.push_back({part.offset_bytes - first, std::min(part.length_bytes, first + blocks - part.offset_bytes)});
        }
      }
      imply_bitmap(normalized(std::move(used)), clusters);
    } else {
      RETURN_IF_ERROR(read_block(bitmap_block, bitmap_));
      RETURN_IF_ERROR(check_bitmap(found, group));
    }
    const std::uint64_t free_clusters = take_free(first, clusters, blocks);
    const std::uint64_t noted =
        joined(found.free_blocks_low, 0) | (has_64bit_ ? std::uint64_t{found.free_blocks_high} << 16 : 0);
    if (free_clusters != noted) {
      return corrupt("group " + std::to_string(group) + " counts " + std::to_string(noted) + " free, its bitmap " +
                     std::to_string(free_clusters));
    }
    return free_clusters;
  }

  Status check_bitmap(const GroupDescriptor& found, std::uint64_t group) const {
    if (!metadata_checksum_) return ok_status();
    const std::uint32_t sum = crc32c(seed_, std::span<const std::byte>(bitmap_).first(clusters_per_group_ / 8));
    const std::uint32_t high = has_64bit_ ? std::uint32_t{found.block_bitmap_checksum_high} : sum >> 16;
    if ((high << 16 | found.block_bitmap_checksum_low) != sum) {
      return corrupt("checksum of the block bitmap of group " + std::to_string(group));
    }
    return ok_status();
  }

  // The bitmap of a group that was never written to: its own metadata (`used`, in blocks from its beginning) only.
  void imply_bitmap(const ExtentList& used, std::uint64_t clusters) {
    bitmap_.assign(block_bytes_, std::byte{0});
    for (const Extent& part : used) {
      if (part.length_bytes == 0) continue;
      const std::uint64_t last = (part.end_bytes() - 1) / cluster_blocks_;
      for (std::uint64_t bit = part.offset_bytes / cluster_blocks_; bit <= last && bit < clusters; ++bit) {
        bitmap_[bit / 8] |= std::byte{1} << (bit % 8);
      }
    }
  }

  std::uint64_t take_free(std::uint64_t first_block, std::uint64_t clusters, std::uint64_t blocks) {
    std::uint64_t count = 0;
    std::uint64_t begin = 0;  // of the free run that ends at `bit`
    const auto add = [&](std::uint64_t end) {
      if (end <= begin) return;
      count += end - begin;
      const std::uint64_t first = begin * cluster_blocks_;
      const std::uint64_t length = std::min(end * cluster_blocks_, blocks) - first;
      CHECK(free_.add((first_block + first) * block_bytes_, length * block_bytes_));
    };
    for (std::uint64_t bit = 0; bit < clusters; ++bit) {
      if (bit % 8 == 0 && bit + 8 <= clusters && bitmap_[bit / 8] == std::byte{0}) {
        bit += 7;
        continue;
      }
      if ((bitmap_[bit / 8] >> (bit % 8) & std::byte{1}) != std::byte{0}) {
        add(bit);
        begin = bit + 1;
      }
    }
    add(clusters);
    return count;
  }

  VolumeReader& volume_;
  ExtentBuilder free_;
  std::vector<Extent> metadata_;
  SuperBlock super_{};
  std::uint32_t read_only_features_ = 0;
  std::uint32_t seed_ = 0;
  bool has_64bit_ = false;
  bool meta_bg_ = false;
  bool metadata_checksum_ = false;
  bool group_checksum_ = false;
  std::uint64_t block_bytes_ = 0;
  std::uint64_t cluster_blocks_ = 1;
  std::uint64_t clusters_per_group_ = 0;
  std::uint64_t blocks_per_group_ = 0;
  std::uint64_t blocks_count_ = 0;
  std::uint64_t first_data_block_ = 0;
  std::uint64_t group_count_ = 0;
  std::uint64_t descriptor_bytes_ = 0;
  std::uint64_t descriptors_per_block_ = 0;
  std::uint64_t inode_table_blocks_ = 0;
  std::uint64_t descriptors_index_ = UINT64_MAX;
  std::vector<std::byte> descriptors_;
  std::vector<std::byte> bitmap_;
};

}  // namespace

Result<ExtentList> ext_free_space(VolumeReader& volume, std::uint64_t length_bytes_min) {
  return ExtReader(volume, length_bytes_min).read();
}

}  // namespace understudy
