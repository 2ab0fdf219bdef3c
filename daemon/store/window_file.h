// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "daemon/store/file_system.h"

namespace understudy {

// A file read through a window of kWindowBytes, so that small pieces that follow one another do not cost a call each.
// Used by one thread; the file must outlive it.
class WindowFile final : public File {
 public:
  explicit WindowFile(const File& file) : file_(file) {}

  Result<std::size_t> read(std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    if (out.size() > kWindowBytes) return file_.read(offset_bytes, out);
    if (offset_bytes < begin_bytes_ || offset_bytes + out.size() > begin_bytes_ + window_.size()) {
      window_.resize(kWindowBytes);
      const Result<std::size_t> got = file_.read(offset_bytes, window_);
      begin_bytes_ = offset_bytes;
      window_.resize(got.ok() ? *got : 0);
      if (!got.ok()) return got;
    }
    const std::size_t at = offset_bytes - begin_bytes_;
    const std::size_t count = std::min(out.size(), window_.size() - at);
    std::memcpy(out.data(), window_.data() + at, count);
    return count;
  }
  Status write(std::uint64_t, std::span<const std::byte>) override { return read_only(); }
  Status sync() override { return read_only(); }
  Status truncate(std::uint64_t) override { return read_only(); }
  Result<std::uint64_t> size() const override { return file_.size(); }
  Result<std::uint64_t> allocated_bytes() const override { return file_.allocated_bytes(); }
  Status write_zeros(std::uint64_t, std::uint64_t) override { return read_only(); }

 private:
  static Error read_only() { return Error(ErrorKind::kPermission, "the file is only read"); }
  static constexpr std::size_t kWindowBytes = 64 << 10;
  const File& file_;
  mutable std::vector<std::byte> window_;
  mutable std::uint64_t begin_bytes_ = 0;
};

}  // namespace understudy
