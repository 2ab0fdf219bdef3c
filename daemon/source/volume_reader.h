// SPDX-License-Identifier: Apache-2.0
// Positioned reads of what stands on a volume (a partition, a whole disk, a logical volume), past the page cache: what
// is asked is what the medium holds, and only for that the proof of README.md is right.
//
// Threads: one thread uses a reader. Ownership: owns its descriptor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

namespace understudy {

class VolumeReader {
 public:
  virtual ~VolumeReader() = default;
  virtual std::uint64_t size_bytes() const = 0;
  // All of `out`, from `offset_bytes` on; any alignment. kInvalidArgument: not within the volume. kIo as the device
  // says.
  virtual Status read(std::uint64_t offset_bytes, std::span<std::byte> out) = 0;
  // The next read asks the medium again.
  virtual void forget() {}
};

// `size_bytes` of the device at `path` from `begin_bytes` on. Reads O_DIRECT (without it where the file's system does
// not know it: image files in tests), through a window of 1 MiB, so that reading on and on costs few system calls.
// Reads end with kClosed once `cancel` (may be null; outlives the reader) is true.
Result<std::unique_ptr<VolumeReader>> open_volume(const std::string& path, std::uint64_t begin_bytes,
                                                  std::uint64_t size_bytes, const std::atomic<bool>* cancel);

}  // namespace understudy
