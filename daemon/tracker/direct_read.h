// SPDX-License-Identifier: Apache-2.0
// A read of a disk whose buffer is known: the harmless way to make a bio with chosen bytes in its pages. At the moment
// the bio is submitted the buffer still holds what was put there, and the tracepoint shows it to our programs; only
// afterwards does the disk fill it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

using Cookie = std::array<std::byte, 64>;

// Random bytes from getrandom(2).
Cookie random_cookie();

class DirectReader {
 public:
  // Opens `path` read-only with O_DIRECT. Errors as open(2).
  static Result<DirectReader> open(const std::string& path, std::uint32_t logical_block_bytes);
  DirectReader(DirectReader&& other) noexcept;
  ~DirectReader();

  // Fills page number `page` (0 or 1) of the buffer with repetitions of `cookie` and reads the first block of the disk
  // into it. A read that fails on the disk is an error although its bio was submitted.
  Status read(const Cookie& cookie, std::size_t page = 0);
  // Puts other bytes there without reading.
  void put(const Cookie& cookie, std::size_t page = 0);
  // Physical frame of that page, from /proc/self/pagemap. kPermission without CAP_SYS_ADMIN.
  Result<std::uint64_t> frame(std::size_t page = 0) const;
  std::size_t block_bytes() const { return block_bytes_; }

 private:
  DirectReader(UniqueFd fd, std::byte* memory, std::size_t block_bytes)
      : fd_(std::move(fd)), memory_(memory), block_bytes_(block_bytes) {}

  UniqueFd fd_;
  std::byte* memory_;
  std::size_t block_bytes_;
};

// A disk of 1 MiB in memory: a loop device over an anonymous file. It goes away with the descriptor, also when the
// process is killed.
class ScratchDisk {
 public:
  static Result<ScratchDisk> make();
  const std::string& path() const { return path_; }
  std::uint32_t device() const { return device_; }  // kernel dev_t

 private:
  ScratchDisk(UniqueFd fd, std::string path, std::uint32_t device)
      : fd_(std::move(fd)), path_(std::move(path)), device_(device) {}
  UniqueFd fd_;
  std::string path_;
  std::uint32_t device_;
};

}  // namespace understudy
