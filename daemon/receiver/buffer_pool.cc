// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/buffer_pool.h"

#include <bit>

namespace understudy {

namespace {
// Smaller ones are left to the heap.
constexpr std::size_t kPooledBytesMin = 128u << 10;
}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  give_back();
  pool_ = std::exchange(other.pool_, nullptr);
  memory_ = std::move(other.memory_);
  size_ = std::exchange(other.size_, 0);
  capacity_ = std::exchange(other.capacity_, 0);
  return *this;
}

void Buffer::give_back() {
  if (pool_ != nullptr && memory_ && capacity_ >= kPooledBytesMin) pool_->put(std::move(memory_), capacity_);
  memory_.reset();
}

Buffer BufferPool::take(std::size_t bytes) {
  Buffer buffer;
  buffer.pool_ = this;
  buffer.size_ = bytes;
  if (bytes >= kPooledBytesMin) {
    std::lock_guard lock(mutex_);
    for (std::size_t i = spares_.size(); i-- > 0;) {
      if (spares_[i].capacity < bytes) continue;
      buffer.memory_ = std::move(spares_[i].memory);
      buffer.capacity_ = spares_[i].capacity;
      spare_bytes_ -= buffer.capacity_;
      spares_.erase(spares_.begin() + static_cast<std::ptrdiff_t>(i));
      return buffer;
    }
  }
  buffer.capacity_ = bytes >= kPooledBytesMin ? std::bit_ceil(bytes) : bytes;
  buffer.memory_ = std::make_unique_for_overwrite<std::byte[]>(buffer.capacity_);
  return buffer;
}

std::size_t BufferPool::spare_bytes() const {
  std::lock_guard lock(mutex_);
  return spare_bytes_;
}

void BufferPool::put(std::unique_ptr<std::byte[]> memory, std::size_t capacity) {
  std::lock_guard lock(mutex_);
  if (spare_bytes_ + capacity > spare_bytes_max_) return;
  spare_bytes_ += capacity;
  spares_.push_back(Spare{std::move(memory), capacity});
}

}  // namespace understudy
