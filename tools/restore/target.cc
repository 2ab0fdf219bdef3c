// SPDX-License-Identifier: Apache-2.0
#include "tools/restore/target.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::size_t kHoleBytes = 4096;  // zeros of this size and alignment become holes in a file

Error error_of(const std::string& operation, const std::string& path) {
  return Error::from_errno(errno, operation + " '" + path + "'");
}

bool all_zero(std::span<const std::byte> data) {
  static const std::array<std::byte, kHoleBytes> kZeros{};
  return data.size() <= kZeros.size() && std::memcmp(data.data(), kZeros.data(), data.size()) == 0;
}

// The node of the whole disk that a block device is, or is a partition of.
Result<std::string> whole_disk_of(dev_t device, const std::string& path) {
  const std::string link = "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  char resolved[PATH_MAX];
  if (::realpath(link.c_str(), resolved) == nullptr) return error_of("find in sysfs", path);
  std::string directory = resolved;
  if (::access((directory + "/partition").c_str(), F_OK) == 0) directory = directory.substr(0, directory.rfind('/'));
  std::string name = directory.substr(directory.rfind('/') + 1);
  std::replace(name.begin(), name.end(), '!', '/');
  return "/dev/" + name;
}

}  // namespace

Result<std::unique_ptr<RestoreTarget>> RestoreTarget::open(const std::string& path, std::uint64_t size_bytes,
                                                           bool overwrite) {
  std::unique_ptr<RestoreTarget> target(new RestoreTarget);
  target->path_ = path;
  struct stat info;
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (!exists && errno != ENOENT) return error_of("look at target", path);
  if (exists && S_ISBLK(info.st_mode)) {
    RETURN_IF_ERROR(target->open_device(size_bytes));
  } else if (exists && !S_ISREG(info.st_mode)) {
    return Error(ErrorKind::kInvalidArgument, "target '" + path + "' is neither a file nor a block device");
  } else {
    RETURN_IF_ERROR(target->open_file(size_bytes, overwrite));
  }
  return target;
}

RestoreTarget::~RestoreTarget() {
  if (created_ && !finished_) ::unlink(path_.c_str());
}

Status RestoreTarget::open_file(std::uint64_t size_bytes, bool overwrite) {
  fd_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  created_ = fd_.valid();
  if (!fd_.valid() && errno == EEXIST) fd_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd_.valid()) return error_of("create target", path_);
  struct stat info;
  if (::fstat(fd_.get(), &info) != 0) return error_of("look at target", path_);
  if (info.st_size > 0 && !overwrite)
    return Error(ErrorKind::kAlreadyExists, "target '" + path_ + "' has " +
                                                format_bytes(static_cast<std::uint64_t>(info.st_size)) +
                                                " already; give another name, or --overwrite to replace it");
  if (::ftruncate(fd_.get(), 0) != 0 || ::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) != 0)
    return error_of("set the size of target", path_);
  return ok_status();
}

Status RestoreTarget::open_device(std::uint64_t size_bytes) {
  is_device_ = true;
  struct stat info;
  if (::stat(path_.c_str(), &info) != 0) return error_of("look at target", path_);
  ASSIGN_OR_RETURN(const std::string whole, whole_disk_of(info.st_rdev, path_));
  whole_disk_.reset(::open(whole.c_str(), O_RDONLY | O_CLOEXEC));
  if (!whole_disk_.valid()) return error_of("open the disk of the target,", whole);
  if (::flock(whole_disk_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return error_of("lock", whole);
    return Error(ErrorKind::kBusy, "target '" + path_ + "': another program holds the lock of disk '" + whole + "'");
  }
  // O_EXCL on a block device: fails when it, or a partition of it, is mounted or used by LVM, RAID or the like.
  fd_.reset(::open(path_.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
  if (!fd_.valid()) {
    if (errno != EBUSY) return error_of("open target", path_);
    return Error(ErrorKind::kBusy,
                 "target '" + path_ +
                     "' is in use: it or a partition of it is mounted or belongs to LVM, RAID or "
                     "swap; unmount it first, or restore into a file",
                 EBUSY);
  }
  std::uint64_t device_bytes = 0;
  if (::ioctl(fd_.get(), BLKGETSIZE64, &device_bytes) != 0) return error_of("ask the size of target", path_);
  if (device_bytes < size_bytes)
    return Error(ErrorKind::kInvalidArgument, "target '" + path_ + "' is too small: it has " +
                                                  std::to_string(device_bytes) + " bytes (" +
                                                  format_bytes(device_bytes) + "), the disk needs " +
                                                  std::to_string(size_bytes) + " (" + format_bytes(size_bytes) + ")");
  return ok_status();
}

Status RestoreTarget::write_plain(std::uint64_t offset_bytes, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t got = ::pwrite(fd_.get(), data.data(), data.size(), static_cast<off_t>(offset_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_of("write target", path_);
    data = data.subspan(static_cast<std::size_t>(got));
    offset_bytes += static_cast<std::uint64_t>(got);
  }
  return ok_status();
}

Status RestoreTarget::write(std::uint64_t offset_bytes, std::span<const std::byte> data) {
  if (is_device_) return write_plain(offset_bytes, data);
  // Runs of non-zero blocks are written, zeros between them stay holes.
  while (!data.empty()) {
    std::size_t zeros = 0;
    const auto block_bytes = [&](std::size_t at) {
      return std::min(kHoleBytes - (offset_bytes + at) % kHoleBytes, data.size() - at);
    };
    while (zeros < data.size() && all_zero(data.subspan(zeros, block_bytes(zeros)))) zeros += block_bytes(zeros);
    std::size_t end = zeros;
    while (end < data.size() && !all_zero(data.subspan(end, block_bytes(end)))) end += block_bytes(end);
    RETURN_IF_ERROR(write_plain(offset_bytes + zeros, data.subspan(zeros, end - zeros)));
    offset_bytes += end;
    data = data.subspan(end);
  }
  return ok_status();
}

Status RestoreTarget::zero(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  if (!is_device_) return ok_status();
  std::uint64_t range[2] = {offset_bytes, length_bytes};
  if (::ioctl(fd_.get(), BLKZEROOUT, range) == 0) return ok_status();
  if (errno != EINVAL && errno != EOPNOTSUPP) return error_of("zero a range of target", path_);
  // Not a multiple of the device's block, or no such request: plain zeros.
  static const std::array<std::byte, 1 << 16> kZeros{};
  while (length_bytes > 0) {
    const std::size_t piece = std::min<std::uint64_t>(length_bytes, kZeros.size());
    RETURN_IF_ERROR(write_plain(offset_bytes, std::span(kZeros).first(piece)));
    offset_bytes += piece;
    length_bytes -= piece;
  }
  return ok_status();
}

Status RestoreTarget::finish() {
  if (::fsync(fd_.get()) != 0) return error_of("fsync target", path_);
  finished_ = true;
  return ok_status();
}

}  // namespace understudy
