// SPDX-License-Identifier: Apache-2.0
// Mounts that stem from the files of a view: found in the kernel's own tables, so that nothing is left behind whatever
// was killed at whatever moment. Sources: proc(5) mountinfo; /sys/block/loopN/loop/backing_file; umount(2).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

struct MountEntry {
  std::string directory;
  std::string type;
  std::string source;
};

// The lines of mountinfo in the order of mounting; what cannot be understood is passed over. Pure.
std::vector<MountEntry> parse_mount_table(std::string_view text);

// The name of the file system in memory that holds the mount points of several disks of a view.
std::string mount_frame_name(const std::string& directory);

// Unmounts, newest first: file systems on loop devices whose file lies in `directory`, the frame around them, FUSE
// mounts inside `directory`. kBusy names the first that is in use. With `by_force` those are detached, and go when
// their last user does.
Status unmount_all_of(const std::string& directory, bool by_force);

}  // namespace understudy
