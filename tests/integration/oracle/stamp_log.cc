// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/oracle/stamp_log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace understudy::oracle {
namespace {

std::uint64_t now_ns(clockid_t clock) {
  timespec ts{};
  ::clock_gettime(clock, &ts);
  return static_cast<std::uint64_t>(ts.tv_sec) * 1'000'000'000ull + static_cast<std::uint64_t>(ts.tv_nsec);
}

[[noreturn]] void fail(const std::string& what, const std::string& path) {
  throw std::runtime_error(what + " '" + path + "': " + std::strerror(errno));
}

// Maps the whole file and closes the descriptor, which a mapping does not need.
void* map_file(int fd, const std::string& path, std::size_t bytes, int protection) {
  void* memory = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  const int saved = errno;
  ::close(fd);
  errno = saved;
  if (memory == MAP_FAILED) fail("map stamp log", path);
  return memory;
}

}  // namespace

std::uint64_t boot_now_ns() { return now_ns(CLOCK_BOOTTIME); }
std::uint64_t wall_now_ns() { return now_ns(CLOCK_REALTIME); }

StampLog::StampLog(const std::string& path, std::uint64_t capacity, const std::vector<LogTarget>& targets) {
  if (targets.empty() || targets.size() > kTargetsMax) throw std::runtime_error("a stamp log has 1 to 16 targets");
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) fail("make stamp log", path);
  mapped_bytes_ = sizeof(LogHeader) + capacity * sizeof(LogSlot);
  if (::ftruncate(fd, static_cast<off_t>(mapped_bytes_)) != 0) fail("size stamp log", path);
  void* memory = map_file(fd, path, mapped_bytes_, PROT_READ | PROT_WRITE);
  header_ = static_cast<LogHeader*>(memory);
  slots_ = reinterpret_cast<LogSlot*>(static_cast<std::byte*>(memory) + sizeof(LogHeader));
  LogHeader header;
  header.capacity = capacity;
  header.target_count = static_cast<std::uint32_t>(targets.size());
  std::copy(targets.begin(), targets.end(), header.targets);
  if (::getrandom(&header.run, sizeof(header.run), 0) != sizeof(header.run)) fail("random number for", path);
  *header_ = header;
}

StampLog::~StampLog() {
  if (header_ != nullptr) ::munmap(header_, mapped_bytes_);
}

LogSlot* StampLog::submit(const Operation& operation) {
  const std::uint64_t index = std::atomic_ref(next_).fetch_add(1);
  if (index >= header_->capacity) return nullptr;
  LogSlot* slot = slots_ + index;
  slot->number = index + 1;
  slot->target = operation.target;
  slot->kind = operation.kind;
  slot->durable = operation.durable ? 1 : 0;
  slot->sector = operation.sector;
  slot->sectors = operation.sectors;
  slot->submit_wall_ns = wall_now_ns();
  slot->submit_boot_ns = boot_now_ns();
  std::atomic_ref(slot->state).store(OperationState::kSubmitted, std::memory_order_release);
  return slot;
}

void StampLog::complete(LogSlot* slot, int error_number) {
  slot->complete_boot_ns = boot_now_ns();
  slot->complete_wall_ns = wall_now_ns();
  slot->error_number = error_number;
  const auto state = error_number == 0 ? OperationState::kCompleted : OperationState::kFailed;
  std::atomic_ref(slot->state).store(state, std::memory_order_release);
}

std::uint64_t StampLog::submitted() const {
  return std::min(std::atomic_ref(const_cast<std::uint64_t&>(next_)).load(), header_->capacity);
}

LogContent read_log(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("open stamp log", path);
  struct stat status {};
  if (::fstat(fd, &status) != 0) fail("stat stamp log", path);
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes < sizeof(LogHeader)) throw std::runtime_error("stamp log '" + path + "' is too short");
  void* memory = map_file(fd, path, bytes, PROT_READ);
  LogContent content;
  content.header = *static_cast<const LogHeader*>(memory);
  const auto* slots = reinterpret_cast<const LogSlot*>(static_cast<const std::byte*>(memory) + sizeof(LogHeader));
  const bool valid = content.header.magic == kLogMagic && content.header.target_count <= kTargetsMax &&
                     bytes >= sizeof(LogHeader) + content.header.capacity * sizeof(LogSlot);
  // Numbers are handed out in order but slots fill in parallel: a killed writer may leave a few empty slots before
  // the last full one, at most one a thread.
  constexpr std::uint64_t kEmptyRunMax = 4096;
  std::uint64_t empty_run = 0;
  for (std::uint64_t i = 0; valid && i < content.header.capacity && empty_run < kEmptyRunMax; ++i) {
    empty_run = slots[i].state == OperationState::kEmpty ? empty_run + 1 : 0;
    if (empty_run == 0) content.slots.push_back(slots[i]);
  }
  ::munmap(memory, bytes);
  if (!valid) throw std::runtime_error("'" + path + "' is not a stamp log, or is cut short");
  return content;
}

}  // namespace understudy::oracle
