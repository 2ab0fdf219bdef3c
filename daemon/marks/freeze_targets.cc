// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/freeze_targets.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>

#include "daemon/base/text.h"

namespace understudy {
namespace {

// btrfs gives each subvolume a device number of its own.
bool shows(int fd, const FileSystemMounts& file_system) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return false;
  return file_system.type == "btrfs" || (major(status.st_dev) << 20 | minor(status.st_dev)) == file_system.device;
}

}  // namespace

Result<std::vector<FreezeTarget>> open_freeze_targets(const std::vector<FileSystemMounts>& file_systems) {
  std::vector<FreezeTarget> targets;
  for (const FileSystemMounts& file_system : file_systems) {
    FreezeTarget target;
    target.type = file_system.type;
    target.level = file_system.level;
    std::string why = "another mount hides it";
    for (const std::string& point : file_system.mount_points) {
      UniqueFd fd(::open(point.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
      if (!fd.valid()) why = Error::from_errno(errno, "open it").message();
      if (!fd.valid() || !shows(fd.get(), file_system)) continue;
      target.mount_point = point;
      target.fd = std::move(fd);
      break;
    }
    if (!target.fd.valid()) {
      return Error(ErrorKind::kNotFound,
                   "the file system on " + quote(file_system.mount_points.front()) + " cannot be reached: " + why);
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

}  // namespace understudy
