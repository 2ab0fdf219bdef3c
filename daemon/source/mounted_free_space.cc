// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/mounted_free_space.h"

#include <fcntl.h>
#include <linux/fsmap.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "daemon/base/unique_fd.h"

namespace understudy {
namespace {

constexpr std::uint32_t kRecords = 4096;  // of one call

struct Free {
  void operator()(fsmap_head* head) const { std::free(head); }
};

// How the kernel writes a dev_t into fmr_device (new_encode_dev).
std::uint32_t encoded(std::uint32_t device) {
  const std::uint32_t high = device >> 20;
  const std::uint32_t low = device & 0xfffff;
  return (low & 0xff) | high << 8 | (low & ~0xffu) << 12;
}

Result<ExtentList> ask(int fd, std::uint32_t device, std::uint64_t length_bytes_min, const std::atomic<bool>& cancel,
                       AskFreeSpace ask_free_space) {
  std::unique_ptr<fsmap_head, Free> head(static_cast<fsmap_head*>(std::calloc(1, fsmap_sizeof(kRecords))));
  if (!head) return Error(ErrorKind::kNoSpace, "no memory for its free space");
  head->fmh_count = kRecords;
  fsmap& last = head->fmh_keys[1];
  last.fmr_device = UINT32_MAX;
  last.fmr_flags = UINT32_MAX;
  last.fmr_physical = UINT64_MAX;
  last.fmr_owner = UINT64_MAX;
  last.fmr_offset = UINT64_MAX;
  ExtentBuilder list(length_bytes_min);
  while (!cancel.load(std::memory_order_relaxed)) {
    if (ask_free_space(fd, head.get()) != 0) {
      if (errno == EINTR) continue;
      if (errno == ENOTTY || errno == EOPNOTSUPP) {
        return Error(ErrorKind::kUnsupported, "the kernel cannot say what is free in it", errno);
      }
      return Error::from_errno(errno, "ask for its free space");
    }
    if (head->fmh_entries == 0) return list.take();
    for (std::uint32_t i = 0; i < head->fmh_entries && i < kRecords; ++i) {
      const fsmap& record = head->fmh_recs[i];
      if (record.fmr_device != encoded(device) || (record.fmr_flags & FMR_OF_SPECIAL_OWNER) == 0 ||
          record.fmr_owner != FMR_OWN_FREE) {
        continue;
      }
      if (!list.add(record.fmr_physical, record.fmr_length)) {
        return Error(ErrorKind::kCorrupt, "the kernel's list of its free space is not in order");
      }
    }
    if ((head->fmh_recs[head->fmh_entries - 1].fmr_flags & FMR_OF_LAST) != 0) return list.take();
    fsmap_advance(head.get());
  }
  return Error(ErrorKind::kClosed, "stopping");
}

}  // namespace

int ask_kernel_free_space(int fd, fsmap_head* head) { return ::ioctl(fd, FS_IOC_GETFSMAP, head); }

Result<ExtentList> mounted_free_space(const std::string& directory, std::uint32_t device,
                                      std::uint64_t length_bytes_min, const std::atomic<bool>& cancel,
                                      AskFreeSpace ask_free_space) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return Error::from_errno(errno, "open '" + directory + "'");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return Error::from_errno(errno, "stat '" + directory + "'");
  if ((major(status.st_dev) << 20 | minor(status.st_dev)) != device) {
    return Error(ErrorKind::kNotFound, "something else is mounted over '" + directory + "'");
  }
  ASSIGN_OR_RETURN(ExtentList free, ask(fd.get(), device, length_bytes_min, cancel, ask_free_space));
  // What was freed in memory becomes durable: no point of the replica can show a file that still owns such a block.
  if (::syncfs(fd.get()) != 0) return Error::from_errno(errno, "sync '" + directory + "'");
  return free;
}

}  // namespace understudy
