// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/xfs_log.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "daemon/source/xfs_layout.h"

namespace understudy::xfs {
namespace {

// Writes under way at a crash reach back this far at most: 8 buffers of 256 KiB.
constexpr std::uint64_t kUnsettledBlocks = 8 * (256u << 10) / kLogBlockBytes;
// An unmount record is one operation, padded to the stripe unit of the journal.
constexpr std::uint64_t kUnmountBlocksMax = 1024;

class Log {
 public:
  Log(VolumeReader& volume, std::uint64_t offset_bytes, std::uint64_t blocks, std::span<const std::byte> uuid)
      : volume_(volume), offset_bytes_(offset_bytes), blocks_(blocks), uuid_(uuid), block_(kLogBlockBytes) {}

  Result<std::uint64_t> clean_head() {
    if (blocks_ < 2 * kUnsettledBlocks / 8 || blocks_ > UINT32_MAX)
      return Error(ErrorKind::kCorrupt, "size of its journal");
    ASSIGN_OR_RETURN(const std::uint64_t head, find_head());
    RETURN_IF_ERROR(check_cycles(head));
    RETURN_IF_ERROR(check_unmounted(head));
    return head;
  }

 private:
  Status load(std::uint64_t block) { return volume_.read(offset_bytes_ + block * kLogBlockBytes, block_); }

  // In which turn a block was written; 0 = never.
  Result<std::uint32_t> cycle(std::uint64_t block) {
    RETURN_IF_ERROR(load(block));
    const std::uint32_t word = be32(block_, 0);
    return word == kLogMagic ? be32(block_, log::kCycle) : word;
  }

  // Where this turn ends and the blocks of the one before (or none) begin; `blocks_` = it has just ended.
  Result<std::uint64_t> find_head() {
    ASSIGN_OR_RETURN(first_cycle_, cycle(0));
    ASSIGN_OR_RETURN(last_cycle_, cycle(blocks_ - 1));
    if (first_cycle_ == 0) return Error(ErrorKind::kCorrupt, "its journal is empty");
    if (first_cycle_ == last_cycle_) return blocks_;
    if (first_cycle_ - 1 != last_cycle_)
      return Error(ErrorKind::kCorrupt, "the turns of its journal do not follow one another");
    std::uint64_t low = 0;  // of this turn
    std::uint64_t high = blocks_ - 1;
    while (high - low > 1) {
      const std::uint64_t middle = low + (high - low) / 2;
      ASSIGN_OR_RETURN(const std::uint32_t found, cycle(middle));
      (found == first_cycle_ ? low : high) = middle;
    }
    return high;
  }

  // Both sides of the head are of one turn: nothing was cut off in the middle.
  Status check_cycles(std::uint64_t head) {
    for (std::uint64_t i = 1; i <= std::min(kUnsettledBlocks, head); ++i) {
      ASSIGN_OR_RETURN(const std::uint32_t found, cycle(head - i));
      if (found != first_cycle_) return Error(ErrorKind::kBusy, "its journal has to be replayed");
    }
    for (std::uint64_t i = head; i < std::min(head + kUnsettledBlocks, blocks_); ++i) {
      ASSIGN_OR_RETURN(const std::uint32_t found, cycle(i));
      if (found != last_cycle_) return Error(ErrorKind::kBusy, "its journal has to be replayed");
    }
    return ok_status();
  }

  // The last record is one operation that says so.
  Status check_unmounted(std::uint64_t head) {
    const Error dirty(ErrorKind::kBusy, "its journal has to be replayed");
    for (std::uint64_t i = 1; i <= std::min(kUnmountBlocksMax, head); ++i) {
      const std::uint64_t at = head - i;
      RETURN_IF_ERROR(load(at));
      if (be32(block_, 0) != kLogMagic) continue;
      if (std::memcmp(block_.data() + log::kUuid, uuid_.data(), uuid_.size()) != 0) {
        return Error(ErrorKind::kCorrupt, "its journal is that of another file system");
      }
      const std::uint32_t version = be32(block_, log::kVersion);
      const std::uint64_t size = (version & 2) != 0 ? be32(block_, log::kSize) : 0;
      const std::uint64_t headers =
          size > log::kHeaderCoversBytes ? (size + log::kHeaderCoversBytes - 1) / log::kHeaderCoversBytes : 1;
      const std::uint64_t data = (be32(block_, log::kLength) + kLogBlockBytes - 1) / kLogBlockBytes;
      if (be32(block_, log::kOperations) != 1 || data == 0 || at + headers + data != head) return dirty;
      RETURN_IF_ERROR(load(at + headers));
      if ((static_cast<std::uint8_t>(block_[log::kOperationFlags]) & log::kUnmount) == 0) return dirty;
      return ok_status();
    }
    return dirty;  // also a record that goes on at the beginning of the ring: rare, and then all is read
  }

  VolumeReader& volume_;
  std::uint64_t offset_bytes_;
  std::uint64_t blocks_;
  std::span<const std::byte> uuid_;
  std::vector<std::byte> block_;
  std::uint32_t first_cycle_ = 0;
  std::uint32_t last_cycle_ = 0;
};

}  // namespace

Result<std::uint64_t> clean_log_head(VolumeReader& volume, std::uint64_t offset_bytes, std::uint64_t blocks,
                                     std::span<const std::byte> uuid) {
  return Log(volume, offset_bytes, blocks, uuid).clean_head();
}

}  // namespace understudy::xfs
