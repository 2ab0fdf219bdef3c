// SPDX-License-Identifier: Apache-2.0
#include "daemon/disk_io/read_buffers.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "daemon/base/check.h"

namespace understudy {

Result<ReadBuffers> ReadBuffers::make(std::uint32_t buffer_count, std::uint32_t buffer_bytes) {
  const auto page_bytes = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
  if (buffer_count == 0 || buffer_bytes == 0 || buffer_bytes % page_bytes != 0) {
    return Error(ErrorKind::kInvalidArgument, "read buffers: " + std::to_string(buffer_count) + " of " +
                                                  std::to_string(buffer_bytes) +
                                                  " bytes: the count must be at least 1 and the size a multiple of " +
                                                  std::to_string(page_bytes));
  }
  const std::size_t total_bytes = std::size_t{buffer_count} * buffer_bytes;
  void* memory = ::mmap(nullptr, total_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Error::from_errno(errno, "map " + std::to_string(total_bytes) + " bytes of buffers");
  ::madvise(memory, total_bytes, MADV_HUGEPAGE);  // fewer page pins per read; fine when refused
  return ReadBuffers(static_cast<std::byte*>(memory), buffer_count, buffer_bytes);
}

ReadBuffers::ReadBuffers(ReadBuffers&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), count_(other.count_), bytes_(other.bytes_) {}

ReadBuffers& ReadBuffers::operator=(ReadBuffers&& other) noexcept {
  if (this != &other) {
    unmap();
    memory_ = std::exchange(other.memory_, nullptr);
    count_ = other.count_;
    bytes_ = other.bytes_;
  }
  return *this;
}

ReadBuffers::~ReadBuffers() { unmap(); }

std::span<std::byte> ReadBuffers::at(std::uint32_t index) const {
  CHECK_LT(index, count_);
  return {memory_ + std::size_t{index} * bytes_, bytes_};
}

void ReadBuffers::unmap() {
  if (memory_ != nullptr) ::munmap(memory_, std::size_t{count_} * bytes_);
  memory_ = nullptr;
}

}  // namespace understudy
