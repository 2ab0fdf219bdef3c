// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/direct_read.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/base/check.h"

namespace understudy {

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kPages = 2;
constexpr std::uint64_t kScratchBytes = 1024 * 1024;

}  // namespace

Cookie random_cookie() {
  Cookie cookie;
  CHECK_EQ(::getrandom(cookie.data(), cookie.size(), 0), static_cast<ssize_t>(cookie.size()));
  return cookie;
}

Result<DirectReader> DirectReader::open(const std::string& path, std::uint32_t logical_block_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open '" + path + "' for a direct read");
  const std::size_t block_bytes = std::max<std::size_t>(logical_block_bytes, kPageBytes);
  void* memory = ::mmap(nullptr, kPages * block_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
  if (memory == MAP_FAILED) return Error::from_errno(errno, "allocate locked memory for a direct read");
  return DirectReader(std::move(fd), static_cast<std::byte*>(memory), block_bytes);
}

DirectReader::DirectReader(DirectReader&& other) noexcept
    : fd_(std::move(other.fd_)), memory_(std::exchange(other.memory_, nullptr)), block_bytes_(other.block_bytes_) {}

DirectReader::~DirectReader() {
  if (memory_ != nullptr) ::munmap(memory_, kPages * block_bytes_);
}

void DirectReader::put(const Cookie& cookie, std::size_t page) {
  CHECK_LT(page, kPages);
  std::byte* target = memory_ + page * block_bytes_;
  for (std::size_t offset = 0; offset < block_bytes_; offset += cookie.size())
    std::memcpy(target + offset, cookie.data(), cookie.size());
}

Status DirectReader::read(const Cookie& cookie, std::size_t page) {
  put(cookie, page);
  const ssize_t got = ::pread(fd_.get(), memory_ + page * block_bytes_, block_bytes_, 0);
  if (got < 0) return Error::from_errno(errno, "direct read of " + std::to_string(block_bytes_) + " bytes at offset 0");
  if (static_cast<std::size_t>(got) != block_bytes_)
    return Error(ErrorKind::kIo, "direct read at offset 0: got " + std::to_string(got) + " of " +
                                     std::to_string(block_bytes_) + " bytes");
  return ok_status();
}

Result<std::uint64_t> DirectReader::frame(std::size_t page) const {
  CHECK_LT(page, kPages);
  UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return Error::from_errno(errno, "open /proc/self/pagemap");
  std::uint64_t entry = 0;
  const auto address = reinterpret_cast<std::uintptr_t>(memory_ + page * block_bytes_);
  if (::pread(pagemap.get(), &entry, sizeof(entry), static_cast<off_t>(address / kPageBytes * sizeof(entry))) !=
      static_cast<ssize_t>(sizeof(entry)))
    return Error::from_errno(errno, "read /proc/self/pagemap");
  constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
  constexpr std::uint64_t kFrameMask = (std::uint64_t{1} << 55) - 1;
  if ((entry & kPresent) == 0 || (entry & kFrameMask) == 0)
    return Error(ErrorKind::kPermission, "/proc/self/pagemap shows no frame numbers: CAP_SYS_ADMIN is needed");
  return entry & kFrameMask;
}

Result<ScratchDisk> ScratchDisk::make() {
  UniqueFd file(::memfd_create("understudy-scratch", MFD_CLOEXEC));
  if (!file.valid() || ::ftruncate(file.get(), kScratchBytes) != 0)
    return Error::from_errno(errno, "make a scratch file in memory");
  UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) return Error::from_errno(errno, "open /dev/loop-control (is the loop driver there?)");
  // Another process may take the free number between the two calls: try a few times.
  for (int attempt = 0; attempt < 16; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return Error::from_errno(errno, "find a free loop device");
    std::string path = "/dev/loop" + std::to_string(number);
    UniqueFd disk(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!disk.valid()) return Error::from_errno(errno, "open '" + path + "'");
    struct stat status {};
    if (::fstat(disk.get(), &status) != 0) return Error::from_errno(errno, "stat '" + path + "'");
    // Two calls and not LOOP_CONFIGURE, which kernels before 5.8 lack.
    if (::ioctl(disk.get(), LOOP_SET_FD, file.get()) != 0) {
      if (errno == EBUSY) continue;
      return Error::from_errno(errno, "set up '" + path + "'");
    }
    loop_info64 info{};
    info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (::ioctl(disk.get(), LOOP_SET_STATUS64, &info) != 0) {
      const int error_number = errno;
      ::ioctl(disk.get(), LOOP_CLR_FD, 0);
      return Error::from_errno(error_number, "set up '" + path + "'");
    }
    const std::uint32_t device = major(status.st_rdev) << 20 | minor(status.st_rdev);
    return ScratchDisk(std::move(disk), std::move(path), device);
  }
  return Error(ErrorKind::kBusy, "no free loop device could be taken");
}

}  // namespace understudy
