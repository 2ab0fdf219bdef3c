// SPDX-License-Identifier: Apache-2.0
// Free space of a mounted file system, as the running kernel knows it.
//
// Source: ioctl_getfsmap(2); ext4 and XFS answer it since Linux 4.12. The list is the kernel's own, in memory: newer
// than what stands on the disk, and no application is stopped for it. A block may be listed although the transaction
// that freed it is not durable yet; so syncfs(2) follows, after which it is (README.md says why that suffices).
// Thread-safe: no state. May sleep as long as a sync of the file system takes.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "daemon/base/result.h"
#include "daemon/source/extents.h"

struct fsmap_head;  // <linux/fsmap.h>

namespace understudy {

// What asks the kernel: as ioctl(fd, FS_IOC_GETFSMAP, head). Another one is for tests.
using AskFreeSpace = int (*)(int fd, fsmap_head* head);
int ask_kernel_free_space(int fd, fsmap_head* head);

// `directory`: where it is mounted; `device`: its device as the kernel numbers it (major << 20 | minor), which must be
// what is found there. Free extents of at least `length_bytes_min`, in bytes from the beginning of the device.
//   kNotFound     something else is mounted over it
//   kUnsupported  kernel (before 4.12) or file system cannot tell: it is to be read whole, which is always right
//   kClosed       `cancel` became true
Result<ExtentList> mounted_free_space(const std::string& directory, std::uint32_t device,
                                      std::uint64_t length_bytes_min, const std::atomic<bool>& cancel,
                                      AskFreeSpace ask_free_space = &ask_kernel_free_space);

}  // namespace understudy
