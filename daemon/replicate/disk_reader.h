// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "daemon/base/result.h"
#include "daemon/disk_io/read_engine.h"

namespace understudy {

// Reads of the protected disks by slot, many at a time, into numbered buffers: a ReadEngine that knows the disks. The
// agent implements it over a ReadEngine and the opened disks, the simulator in memory. Errors and short reads as in
// ReadEngine. Threads: one thread uses it.
class DiskReader {
 public:
  virtual ~DiskReader() = default;
  virtual std::uint32_t buffer_count() const = 0;
  virtual std::uint32_t buffer_bytes() const = 0;
  virtual std::span<std::byte> buffer(std::uint32_t index) = 0;

  // Offset and bytes are multiples of the disk's logical block. The read must not be served from a cache that writes
  // to the disk can bypass.
  virtual Status submit(std::uint16_t disk, std::uint64_t offset_bytes, std::uint32_t bytes, std::uint32_t index,
                        std::uint64_t tag) = 0;
  // The next finished read; never blocks.
  virtual std::optional<ReadCompletion> reap() = 0;
  virtual std::uint32_t in_progress() const = 0;

  // The disk's size now. An error means that the disk is gone.
  virtual Result<std::uint64_t> size_bytes(std::uint16_t disk) = 0;

  // Bytes written to the disk by anybody since some moment, for the write load that status shows; nullopt = not known.
  virtual std::optional<std::uint64_t> written_bytes(std::uint16_t /*disk*/) { return std::nullopt; }
};

}  // namespace understudy
