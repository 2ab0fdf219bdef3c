// SPDX-License-Identifier: Apache-2.0
// A nameless file for bytes that a view decoded and may need again: they need not be decoded twice, and no memory but
// the page cache, which the kernel takes back when it wants it. What is read from it is proved by whoever reads.
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/store/file_system.h"

namespace understudy {

class ViewSpill {
 public:
  // A part of the file, given back when it is destroyed. Holds the file.
  class Slot {
   public:
    Slot(std::shared_ptr<ViewSpill> spill, std::uint64_t offset_bytes, std::uint64_t length_bytes)
        : spill_(std::move(spill)), offset_bytes_(offset_bytes), length_bytes_(length_bytes) {}
    ~Slot() { spill_->give_back(offset_bytes_, length_bytes_); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    const File& file() const { return *spill_->file_; }
    std::uint64_t offset_bytes() const { return offset_bytes_; }
    std::uint64_t length_bytes() const { return length_bytes_; }  // that it takes up

   private:
    const std::shared_ptr<ViewSpill> spill_;
    const std::uint64_t offset_bytes_;
    const std::uint64_t length_bytes_;
  };

  // Creates the file in `directory` and removes its name at once.
  static Result<std::shared_ptr<ViewSpill>> create(FileSystem& file_system, const std::string& directory);

  // Writes `data` to a part of the file that is free; nullptr when that failed: the disk is full, say.
  static std::unique_ptr<const Slot> put(const std::shared_ptr<ViewSpill>& spill, std::span<const std::byte> data);

  // How long the file has become.
  std::uint64_t file_bytes() const;

  explicit ViewSpill(std::unique_ptr<File> file) : file_(std::move(file)) {}

 private:
  std::uint64_t take(std::uint64_t length_bytes);
  void give_back(std::uint64_t offset_bytes, std::uint64_t length_bytes);

  const std::unique_ptr<File> file_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> free_;  // offset -> length, not touching
  std::uint64_t end_bytes_ = 0;
};

}  // namespace understudy
