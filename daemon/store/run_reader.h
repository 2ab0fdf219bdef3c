// SPDX-License-Identifier: Apache-2.0
// What a run says of itself (run_format.h). Its stream part is read as that of a segment, its index as that of a
// segment. Nothing in the file is trusted.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/base/result.h"
#include "daemon/store/file_system.h"
#include "daemon/store/segment_reader.h"

namespace understudy {

struct RunInfo {
  SegmentInfo segment;            // of the first segment that it stands for, but frames_offset_bytes of the run
  std::uint64_t last_number = 0;  // of the last of them
  Seq last_seq = 0;
  std::uint64_t last_bytes = 0;  // of the last of them, and
  Sha256Digest last_digest{};    // its SHA-256: what the header behind it says
  std::uint64_t frames_end_bytes = 0;
  std::uint64_t index_offset_bytes = 0;
  std::uint64_t blocks_offset_bytes = 0;
  std::uint64_t blocks_end_bytes = 0;
  std::uint64_t file_bytes = 0;
};

// Header and state; info.segment.frames_offset_bytes is not needed.
std::vector<std::byte> encode_run_header(const RunInfo& info);
// kCorrupt for damage, kUnsupported for a newer format.
Result<RunInfo> read_run_header(const File& file);

// SHA-256 of [0, end_bytes) of a file. kCorrupt when it is shorter.
Result<Sha256Digest> digest_file(const File& file, std::uint64_t end_bytes);

// A file from `begin_bytes` on, for reading.
class FileTail final : public File {
 public:
  FileTail(std::shared_ptr<const File> file, std::uint64_t begin_bytes)
      : file_(std::move(file)), begin_bytes_(begin_bytes) {}

  Result<std::size_t> read(std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    return file_->read(begin_bytes_ + offset_bytes, out);
  }
  Result<std::uint64_t> size() const override {
    ASSIGN_OR_RETURN(const std::uint64_t bytes, file_->size());
    return bytes > begin_bytes_ ? bytes - begin_bytes_ : 0;
  }
  Result<std::uint64_t> allocated_bytes() const override { return file_->allocated_bytes(); }
  Status write(std::uint64_t, std::span<const std::byte>) override { return read_only(); }
  Status sync() override { return read_only(); }
  Status truncate(std::uint64_t) override { return read_only(); }
  Status write_zeros(std::uint64_t, std::uint64_t) override { return read_only(); }

 private:
  static Error read_only() { return Error(ErrorKind::kPermission, "the file is only read"); }
  std::shared_ptr<const File> file_;
  const std::uint64_t begin_bytes_;
};

}  // namespace understudy
