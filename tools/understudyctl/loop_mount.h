// SPDX-License-Identifier: Apache-2.0
// File systems of a disk image, found by libblkid and mounted read-only over loop devices that go by themselves: a loop
// device is attached with LO_FLAGS_AUTOCLEAR and held open only until it is mounted, so none is left behind whatever is
// killed when. Sources: libblkid; loop(4); mount(2).
//
// Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

struct ImageVolume {
  unsigned partition = 0;  // 0 = the whole disk
  std::uint64_t begin_bytes = 0;
  std::uint64_t size_bytes = 0;
  std::string type;          // libblkid's TYPE; empty = no signature, or several
  bool file_system = false;  // and not swap, a member of LVM or RAID, encrypted
};

// The volumes of an image in the order of its partition table; one, with partition 0, when it has none.
Result<std::vector<ImageVolume>> find_image_volumes(const std::string& path);

// Mounts a volume of the image at `directory`: read-only, without device nodes and set-user-ID. The log of the file
// system is replayed first, which writes to the image; an image that refuses that fails when its log is not empty.
Status mount_image_volume(const std::string& path, const ImageVolume& volume, const std::string& directory);

// What lies between the disks' mount points and a directory: a read-only file system in memory with one directory for
// each of `names`, mounted from `source` (mount_frame_name()).
Status mount_frame(const std::string& source, const std::string& directory, const std::vector<std::string>& names);

}  // namespace understudy
