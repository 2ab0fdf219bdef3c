// SPDX-License-Identifier: Apache-2.0
// What the kernel says about a block device, and whether its writes can be captured. Nothing is written to the disk.
//
// Sources: sysfs (Documentation/ABI/stable/sysfs-block), /proc/self/mountinfo (proc(5)), BLKGETSIZE64 and BLKSSZGET
// of <linux/fs.h>. Thread-safe: no state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// Disks smaller than this are refused: no file system or database lives on them.
inline constexpr std::uint64_t kDiskBytesMin = 1024 * 1024;

struct DiskInfo {
  std::string path;          // as given
  std::string name;          // kernel name, the directory below /sys/block, e.g. "vdb"
  std::uint32_t device = 0;  // kernel dev_t of the disk: major << 20 | minor
  std::uint64_t sequence =
      0;  // /sys/block/<name>/diskseq: changes when another disk takes the same number; 0 = unknown
  std::uint64_t size_bytes = 0;
  std::uint32_t logical_block_bytes = 512;
  bool write_cache = false;               // the disk takes flushes
  std::vector<std::string> holders;       // devices stacked on it or on its partitions: "dm-0", "md0" ...
  std::vector<std::string> partitions;    // "vdb1" ...
  std::vector<std::string> mount_points;  // of the disk itself and of its partitions
};

// Resolves `path` (symbolic links followed) to a whole disk whose writes can be captured. Errors, each naming the path
// and the reason:
//   kNotFound         there is nothing at the path, or the device has no medium
//   kInvalidArgument  not a block device; a partition (the whole disk is named); smaller than kDiskBytesMin
//   kRefused          read-only device; mounted read-only everywhere it is mounted; zoned
//   kUnsupported      writes that capture would miss: a member of md linear/raid0 or of bcache (these send the same bio
//                     on, which the kernel reports once, for the upper device only), or DAX (stores without any bio)
Result<DiskInfo> inspect_disk(const std::string& path);

// The same, but reads below `sysfs_root` and `mountinfo_path` in place of /sys and /proc/self/mountinfo (tests).
struct InspectRoots {
  std::string sysfs = "/sys";
  std::string mountinfo = "/proc/self/mountinfo";
};
// The part of inspect_disk() that judges sysfs: `device` is the kernel dev_t, `info` has path and sizes filled in.
Status inspect_sysfs(const InspectRoots& roots, DiskInfo& info);

// Writes that were started on the disk and have not completed, as /sys/block/<name>/inflight counts them.
Result<std::uint64_t> writes_in_flight(const std::string& disk_name);

}  // namespace understudy
