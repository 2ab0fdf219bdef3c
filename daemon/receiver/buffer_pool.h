// SPDX-License-Identifier: Apache-2.0
// Memory for received batches. Large buffers are kept and reused, last one first, because fresh memory costs a page
// fault per 4 KiB; small ones come from the heap. Contents are not initialised.
//
// Threads: any. The pool must outlive its buffers.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace understudy {

class BufferPool;

// Owns some bytes; gives them back to its pool when it dies. Move-only.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        memory_(std::move(other.memory_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { give_back(); }

  std::span<std::byte> bytes() { return {memory_.get(), size_}; }
  std::span<const std::byte> bytes() const { return {memory_.get(), size_}; }
  std::size_t size() const { return size_; }

 private:
  friend class BufferPool;
  void give_back();

  BufferPool* pool_ = nullptr;
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

class BufferPool {
 public:
  explicit BufferPool(std::size_t spare_bytes_max) : spare_bytes_max_(spare_bytes_max) {}

  Buffer take(std::size_t bytes);
  // Bytes kept for reuse.
  std::size_t spare_bytes() const;

 private:
  friend class Buffer;
  struct Spare {
    std::unique_ptr<std::byte[]> memory;
    std::size_t capacity = 0;
  };
  void put(std::unique_ptr<std::byte[]> memory, std::size_t capacity);

  const std::size_t spare_bytes_max_;
  mutable std::mutex mutex_;
  std::size_t spare_bytes_ = 0;
  std::vector<Spare> spares_;
};

}  // namespace understudy
