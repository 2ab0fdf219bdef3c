// SPDX-License-Identifier: Apache-2.0
// One look at the protected disks: what of them is certainly free, and what an operator should know. README.md has the
// proof that free extents may be left out of a copy, and what the caller owes for it.
//
// Threads: survey() may run on any thread, sleeps (it reads disks and syncs mounted file systems), and ends soon after
// `cancel` becomes true. It writes nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/source/extents.h"
#include "daemon/base/mounts.h"
#include "daemon/source/volumes.h"

namespace understudy {

// Something about the disks that an operator should know. Codes are stable:
//   low-free-space, boot-elsewhere, root-elsewhere, file-system-kind, no-file-system, volume-elsewhere, swap-copied,
//   not-left-out
struct Finding {
  std::string code;
  std::string text;    // what was found, with names and figures
  std::string advice;  // what to do; may be empty
  bool operator==(const Finding&) const = default;
};

struct SurveyOptions {
  std::vector<SurveyDisk> disks;
  bool leave_out_swap = false;
  bool free_space = true;  // false: findings only, nothing is read but signatures, nothing is synced
};

struct DiskFreeSpace {
  std::uint16_t slot = 0;
  ExtentList free;  // whole granules of the disk
};

struct Survey {
  std::vector<DiskFreeSpace> disks;  // one per disk asked for
  std::vector<Finding> findings;
  std::uint64_t free_bytes() const;
};

Survey survey(const SurveyOptions& options, const std::atomic<bool>& cancel);

// The parts of a survey that are pure, for tests.
struct FileSystemFacts {
  std::string name;  // of the volume
  std::string type;
  std::vector<std::string> directories;
  std::uint64_t size_bytes = 0;  // 0 = not known
  std::uint64_t available_bytes = 0;
  bool complete = true;
};
std::vector<Finding> judge(const std::vector<FileSystemFacts>& volumes, const std::vector<MountPoint>& mounts,
                           bool leave_out_swap);
// Extents cut down to whole granules of a disk.
ExtentList whole_granules(const ExtentList& extents, std::uint32_t granule_bytes, std::uint64_t disk_bytes);

}  // namespace understudy
