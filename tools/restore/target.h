// SPDX-License-Identifier: Apache-2.0
// What a disk is restored into: a new sparse file, or a block device that nobody uses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

// One thread. Everything written is durable only after finish().
class RestoreTarget {
 public:
  // Refuses a device that is mounted or otherwise in use, one that is smaller than `size_bytes`, and, unless
  // `overwrite`, a file that has content. Devices are locked (flock on the whole disk) against udev and others:
  // https://systemd.io/BLOCK_DEVICE_LOCKING/
  static Result<std::unique_ptr<RestoreTarget>> open(const std::string& path, std::uint64_t size_bytes, bool overwrite);
  // Removes a file that was made here and not finished.
  ~RestoreTarget();

  bool is_device() const { return is_device_; }
  const std::string& path() const { return path_; }

  Status write(std::uint64_t offset_bytes, std::span<const std::byte> data);
  // Makes a range read as zeros. In a new file it does already.
  Status zero(std::uint64_t offset_bytes, std::uint64_t length_bytes);
  Status finish();

 private:
  RestoreTarget() = default;
  Status open_file(std::uint64_t size_bytes, bool overwrite);
  Status open_device(std::uint64_t size_bytes);
  Status write_plain(std::uint64_t offset_bytes, std::span<const std::byte> data);

  std::string path_;
  UniqueFd fd_;
  UniqueFd whole_disk_;  // holds the lock
  bool is_device_ = false;
  bool created_ = false;
  bool finished_ = false;
};

}  // namespace understudy
