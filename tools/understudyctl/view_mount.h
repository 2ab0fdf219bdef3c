// SPDX-License-Identifier: Apache-2.0
// The file systems of a server at a point, as directories: nbdkit and nbdfuse show each disk as a file, a loop device
// makes a block device of it, the kernel mounts it.
//
// A point is what a power cut would have left, so the logs of its file systems are not empty. They are replayed at the
// mount, as on a host that comes back, into a temporary overlay: what is seen is what the recovered host would see, and
// the view below stays as it is. (Mounted without replay, metadata that was only in the log would be missing.)
#pragma once

#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "tools/understudyctl/loop_mount.h"
#include "tools/understudyctl/view_server.h"

namespace understudy {

struct MountedVolume {
  OpenViewDisk disk;
  ImageVolume volume;
  std::string name;       // "0" a whole disk, "0p2" its second partition
  std::string directory;  // empty = not mounted
  std::string problem;    // why not
};

// Starts the servers of `view` (reserved in the registry), mounts what is there: a single file system at `directory`,
// several at directory/<name>. Sets view.mounted_at; the view is to be kept or closed by the caller. kNotFound = there
// is no file system; an error of a single one is the result.
Result<std::vector<MountedVolume>> mount_view(ViewServerOptions options, const std::string& directory, OpenView& view);

// "disk 0 (/dev/vda), partition 2: ext4, 8 GiB"
std::string describe(const MountedVolume& volume);

}  // namespace understudy
