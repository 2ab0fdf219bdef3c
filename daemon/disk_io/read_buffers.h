// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "daemon/base/result.h"

namespace understudy {

// The page-aligned memory that reads go into: one mapping cut into equal buffers. Movable, unmaps on destruction.
class ReadBuffers {
 public:
  // kInvalidArgument when a figure is zero or buffer_bytes is no multiple of the page; kIo when memory is short.
  static Result<ReadBuffers> make(std::uint32_t buffer_count, std::uint32_t buffer_bytes);

  ReadBuffers(ReadBuffers&& other) noexcept;
  ReadBuffers& operator=(ReadBuffers&& other) noexcept;
  ~ReadBuffers();

  std::uint32_t count() const { return count_; }
  std::uint32_t bytes() const { return bytes_; }
  // CHECKs the index.
  std::span<std::byte> at(std::uint32_t index) const;

 private:
  ReadBuffers(std::byte* memory, std::uint32_t count, std::uint32_t bytes)
      : memory_(memory), count_(count), bytes_(bytes) {}
  void unmap();

  std::byte* memory_ = nullptr;
  std::uint32_t count_ = 0;
  std::uint32_t bytes_ = 0;
};

}  // namespace understudy
