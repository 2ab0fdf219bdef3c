// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/disk_inspect.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "daemon/base/mounts.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

namespace {

namespace fs = std::filesystem;

// The first line of a sysfs attribute; empty if it is not there.
std::string attribute(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::string device_text(std::uint32_t device) {
  return std::to_string(device >> 20) + ":" + std::to_string(device & 0xfffff);
}

// Devices that hand the very bio they got to the disk below: the kernel reports it once, for the upper device.
Status refuse_same_bio_holder(const InspectRoots& roots, const DiskInfo& info, const std::string& member,
                              const fs::path& directory) {
  if (is_there(directory / "bcache"))
    return Error(ErrorKind::kUnsupported, "disk '" + info.path + "': '" + member +
                                              "' is part of a bcache, whose writes the kernel reports for the bcache "
                                              "device only; protect that one");
  for (const std::string& holder : names_in(directory / "holders")) {
    const std::string level = attribute(fs::path(roots.sysfs) / "block" / holder / "md" / "level");
    if (level == "linear" || level == "raid0")
      return Error(ErrorKind::kUnsupported, "disk '" + info.path + "': '" + member + "' is a member of '" + holder +
                                                "' (md " + level + "), whose writes the kernel reports for '" + holder +
                                                "' only; protect '/dev/" + holder + "'");
  }
  return ok_status();
}

}  // namespace

Status inspect_sysfs(const InspectRoots& roots, DiskInfo& info) {
  std::error_code error;
  const fs::path link = fs::path(roots.sysfs) / "dev" / "block" / device_text(info.device);
  const fs::path directory = fs::canonical(link, error);
  if (error) return Error(ErrorKind::kNotFound, "disk '" + info.path + "': '" + link.string() + "' does not exist");
  if (is_there(directory / "partition")) {
    const std::string disk = directory.parent_path().filename();
    return Error(ErrorKind::kInvalidArgument, "disk '" + info.path + "' is partition " +
                                                  attribute(directory / "partition") + " of '" + disk +
                                                  "': only whole disks are protected; name '/dev/" + disk + "'");
  }
  info.name = directory.filename();
  info.sequence = std::strtoull(attribute(directory / "diskseq").c_str(), nullptr, 10);
  info.write_cache = attribute(directory / "queue" / "write_cache") == "write back";
  if (attribute(directory / "ro") == "1")
    return Error(ErrorKind::kRefused, "disk '" + info.path + "' is read-only: there are no writes to protect");
  const std::string zoned = attribute(directory / "queue" / "zoned");
  if (!zoned.empty() && zoned != "none")
    return Error(ErrorKind::kRefused,
                 "disk '" + info.path + "' is zoned (" + zoned + "): zone appends have no fixed place");
  if (attribute(directory / "queue" / "dax") == "1")
    return Error(ErrorKind::kUnsupported,
                 "disk '" + info.path + "' allows DAX: stores into mapped files make no block writes");

  std::vector<std::uint32_t> devices{info.device};
  std::vector<std::pair<std::string, fs::path>> members{{info.name, directory}};
  for (const std::string& name : names_in(directory))
    if (is_there(directory / name / "partition")) {
      info.partitions.push_back(name);
      devices.push_back(parse_device_number(attribute(directory / name / "dev")));
      members.emplace_back(name, directory / name);
    }
  for (const auto& [name, member] : members) {
    RETURN_IF_ERROR(refuse_same_bio_holder(roots, info, name, member));
    for (std::string& holder : names_in(member / "holders")) info.holders.push_back(std::move(holder));
  }
  bool writable = false;
  ASSIGN_OR_RETURN(const std::vector<MountPoint> mounts, read_mounts(roots.mountinfo));
  for (const MountPoint& mount : mounts) {
    if (std::find(devices.begin(), devices.end(), mount.device) == devices.end()) continue;
    info.mount_points.push_back(mount.directory);
    writable = writable || mount.writable();
  }
  if (!info.mount_points.empty() && !writable)
    return Error(ErrorKind::kRefused, "disk '" + info.path + "' is mounted read-only on '" + info.mount_points.front() +
                                          "': there are no writes to protect");
  return ok_status();
}

Result<DiskInfo> inspect_disk(const std::string& path) {
  DiskInfo info;
  info.path = path;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return Error::from_errno(errno, "disk '" + path + "'");
  if (!S_ISBLK(status.st_mode)) return Error(ErrorKind::kInvalidArgument, "disk '" + path + "' is not a block device");
  info.device = major(status.st_rdev) << 20 | minor(status.st_rdev);
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() && errno == ENOMEDIUM)
    return Error(ErrorKind::kNotFound, "disk '" + path + "' has no medium", ENOMEDIUM);
  if (!fd.valid()) return Error::from_errno(errno, "open disk '" + path + "'");
  int logical_block_bytes = 0;
  if (::ioctl(fd.get(), BLKGETSIZE64, &info.size_bytes) != 0 || ::ioctl(fd.get(), BLKSSZGET, &logical_block_bytes) != 0)
    return Error::from_errno(errno, "ask the size of disk '" + path + "'");
  info.logical_block_bytes = static_cast<std::uint32_t>(logical_block_bytes);
  RETURN_IF_ERROR(inspect_sysfs({}, info));
  if (info.size_bytes == 0) return Error(ErrorKind::kNotFound, "disk '" + path + "' has no medium (its size is 0)");
  if (info.size_bytes < kDiskBytesMin)
    return Error(ErrorKind::kInvalidArgument, "disk '" + path + "' is too small: " + std::to_string(info.size_bytes) +
                                                  " bytes, at least " + std::to_string(kDiskBytesMin) + " are needed");
  return info;
}

Result<std::uint64_t> writes_in_flight(const std::string& disk_name) {
  const std::string path = "/sys/block/" + disk_name + "/inflight";
  std::ifstream file(path);
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  if (!(file >> reads >> writes)) return Error(ErrorKind::kIo, "read '" + path + "': two numbers expected");
  return writes;
}

}  // namespace understudy
