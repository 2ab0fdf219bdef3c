// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/oracle/write_load.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

#include "tests/integration/oracle/stamp.h"

namespace understudy::oracle {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct OpenTarget {
  std::uint32_t id = 0;
  std::string path;
  int fd = -1;
  bool is_file = false;
  std::uint64_t offset_bytes = 0;
  std::uint64_t sectors = 0;
  std::uint32_t align_sectors = 1;

  explicit OpenTarget(const TargetOptions& options)
      : id(options.id), path(options.path), offset_bytes(options.offset_bytes) {
    fd = ::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    struct stat status {};
    if (fd < 0 || ::fstat(fd, &status) != 0)
      throw std::runtime_error("open target '" + path + "': " + std::strerror(errno));
    is_file = S_ISREG(status.st_mode);
    std::uint64_t size = static_cast<std::uint64_t>(status.st_size);
    int logical_block = static_cast<int>(kSectorBytes);
    if (!is_file && (::ioctl(fd, BLKGETSIZE64, &size) != 0 || ::ioctl(fd, BLKSSZGET, &logical_block) != 0))
      throw std::runtime_error("size of target '" + path + "': " + std::strerror(errno));
    align_sectors = static_cast<std::uint32_t>(logical_block) / kSectorBytes;
    const std::uint64_t align_bytes = align_sectors * kSectorBytes;
    const std::uint64_t length = options.length_bytes != 0 ? options.length_bytes : size - std::min(size, offset_bytes);
    if (offset_bytes % align_bytes != 0 || length < align_bytes || length > size || offset_bytes > size - length)
      throw std::runtime_error("target '" + path + "': offset and length do not lie in its " + std::to_string(size) +
                               " bytes");
    sectors = length / align_bytes * align_sectors;
  }
  ~OpenTarget() {
    if (fd >= 0) ::close(fd);
  }
  OpenTarget(const OpenTarget&) = delete;
  OpenTarget& operator=(const OpenTarget&) = delete;
};

// Extents with an operation in flight.
class ExtentLocks {
 public:
  bool try_lock(std::uint32_t target, std::uint64_t sector, std::uint64_t sectors) {
    const std::lock_guard guard(mutex_);
    for (const Extent& e : extents_)
      if (e.target == target && sector < e.sector + e.sectors && e.sector < sector + sectors) return false;
    extents_.push_back({target, sector, sectors});
    return true;
  }
  void unlock(std::uint32_t target, std::uint64_t sector) {
    const std::lock_guard guard(mutex_);
    std::erase_if(extents_, [&](const Extent& e) { return e.target == target && e.sector == sector; });
  }

 private:
  struct Extent {
    std::uint32_t target = 0;
    std::uint64_t sector = 0;
    std::uint64_t sectors = 0;
  };
  std::mutex mutex_;
  std::vector<Extent> extents_;
};

class Load {
 public:
  Load(const LoadOptions& options, const std::atomic<bool>& stop) : options_(options), stop_(stop) {
    std::vector<LogTarget> logged;
    for (const TargetOptions& target : options.targets) {
      targets_.push_back(std::make_unique<OpenTarget>(target));
      const OpenTarget& open = *targets_.back();
      LogTarget entry{.id = open.id, .is_file = open.is_file ? 1u : 0u, .sectors = open.sectors};
      std::strncpy(entry.path, open.path.c_str(), sizeof(entry.path) - 1);
      logged.push_back(entry);
    }
    log_ = std::make_unique<StampLog>(options.log_path, options.log_slots, logged);
  }

  LoadSummary run() {
    started_ = SteadyClock::now();
    if (options_.fill) fill();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < options_.threads; ++i) threads.emplace_back([this, i] { work(i); });
    for (std::thread& thread : threads) thread.join();
    for (std::size_t i = 0; i < targets_.size() && !failed_; ++i) flush(i);
    return {log_->submitted(), bytes_.load(), elapsed_s(), first_error_};
  }

 private:
  struct Buffer {
    explicit Buffer(std::size_t bytes) : memory(static_cast<std::byte*>(std::aligned_alloc(4096, bytes))) {
      if (memory == nullptr) throw std::runtime_error("out of memory");
    }
    ~Buffer() { std::free(memory); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    std::byte* memory;
  };

  double elapsed_s() const { return std::chrono::duration<double>(SteadyClock::now() - started_).count(); }

  bool done() const {
    return stop_ || failed_ || (options_.seconds_max > 0 && elapsed_s() >= options_.seconds_max) ||
           (options_.operations_max > 0 && log_->submitted() >= options_.operations_max);
  }

  void fail(const std::string& what, int error_number) {
    const std::lock_guard guard(error_mutex_);
    if (first_error_.empty())
      first_error_ = what + (error_number != 0 ? std::string(": ") + std::strerror(error_number) : "");
    failed_ = true;
  }

  // One logged operation: `action` makes the system call and returns 0 or an errno.
  template <typename Action>
  bool perform(const Operation& operation, Action action) {
    LogSlot* slot = log_->submit(operation);
    if (slot == nullptr) {
      fail("the stamp log is full (" + std::to_string(options_.log_slots) + " slots)", 0);
      return false;
    }
    const int error_number = action(*slot);
    StampLog::complete(slot, error_number);
    if (error_number == 0) return true;
    fail("operation " + std::to_string(slot->number) + " on target " + std::to_string(operation.target) + " sector " +
             std::to_string(operation.sector) + "+" + std::to_string(operation.sectors),
         error_number);
    return false;
  }

  bool write(std::size_t index, std::uint64_t sector, std::uint32_t sectors, bool durable, std::byte* memory) {
    const OpenTarget& target = *targets_[index];
    const Operation operation{OperationKind::kWrite, durable, static_cast<std::uint16_t>(target.id), sector, sectors};
    return perform(operation, [&](const LogSlot& slot) {
      Stamp stamp{.run = log_->run(), .write_number = slot.number, .wall_ns = slot.submit_wall_ns, .target = target.id};
      for (std::uint32_t i = 0; i < sectors; ++i) {
        stamp.sector = sector + i;
        write_stamp(stamp, options_.compressible,
                    std::span<std::byte, kSectorBytes>(memory + i * kSectorBytes, kSectorBytes));
      }
      const iovec vector{memory, sectors * kSectorBytes};
      const auto offset = static_cast<off_t>(target.offset_bytes + sector * kSectorBytes);
      const ssize_t written = ::pwritev2(target.fd, &vector, 1, offset, durable ? RWF_DSYNC : 0);
      if (written < 0) return errno;
      bytes_ += static_cast<std::uint64_t>(written);
      return written == static_cast<ssize_t>(vector.iov_len) ? 0 : EIO;
    });
  }

  bool zero(std::size_t index, std::uint64_t sector, std::uint32_t sectors, unsigned way) {
    const OpenTarget& target = *targets_[index];
    const Operation operation{OperationKind::kZero, false, static_cast<std::uint16_t>(target.id), sector, sectors};
    return perform(operation, [&](const LogSlot&) {
      std::uint64_t range[2] = {target.offset_bytes + sector * kSectorBytes, sectors * kSectorBytes};
      int status = 0;
      switch (way % 3) {
        case 0: status = ::ioctl(target.fd, BLKDISCARD, range); break;
        case 1: status = ::ioctl(target.fd, BLKZEROOUT, range); break;
        default:
          status = ::fallocate(target.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(range[0]),
                               static_cast<off_t>(range[1]));
          // A loop device over tmpfs loses this ability at its first write-zeroes without unmapping.
          if (status != 0 && errno == EOPNOTSUPP) status = ::ioctl(target.fd, BLKZEROOUT, range);
      }
      return status == 0 ? 0 : errno;
    });
  }

  bool flush(std::size_t index) {
    const OpenTarget& target = *targets_[index];
    const Operation operation{OperationKind::kFlush, true, static_cast<std::uint16_t>(target.id), 0, 0};
    return perform(operation, [&](const LogSlot&) { return ::fdatasync(target.fd) == 0 ? 0 : errno; });
  }

  void fill() {
    const std::uint32_t step = (1u << 20) / kSectorBytes;
    const Buffer buffer(1u << 20);
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const std::uint64_t end = targets_[i]->sectors;
      for (std::uint64_t at = 0; at < end && !stop_ && !failed_; at += step)
        write(i, at, static_cast<std::uint32_t>(std::min<std::uint64_t>(step, end - at)), false, buffer.memory);
      if (!stop_ && !failed_) flush(i);
    }
  }

  // Sizes are spread evenly over their logarithm: as many of 512 bytes to 1 KiB as of 512 KiB to 1 MiB.
  std::uint32_t pick_sectors(std::mt19937_64& random, const OpenTarget& target) const {
    const double low = std::log2(static_cast<double>(options_.write_bytes_min));
    const double high = std::log2(static_cast<double>(options_.write_bytes_max));
    const double bytes = std::exp2(std::uniform_real_distribution<double>(low, high + 1e-9)(random));
    std::uint64_t sectors =
        static_cast<std::uint64_t>(bytes + 0.5) / kSectorBytes / target.align_sectors * target.align_sectors;
    sectors = std::clamp<std::uint64_t>(sectors, target.align_sectors, options_.write_bytes_max / kSectorBytes);
    return static_cast<std::uint32_t>(std::min(sectors, target.sectors));
  }

  void pace(std::uint64_t bytes) {
    if (options_.rate_bytes_per_s == 0) return;
    const std::uint64_t before = paced_bytes_.fetch_add(bytes);
    const auto due =
        started_ + std::chrono::nanoseconds(static_cast<std::int64_t>(
                       static_cast<double>(before) / static_cast<double>(options_.rate_bytes_per_s) * 1e9));
    while (!done() && SteadyClock::now() < due)
      std::this_thread::sleep_until(std::min(due, SteadyClock::now() + std::chrono::milliseconds(50)));
  }

  void work(unsigned thread) {
    std::mt19937_64 random(options_.seed * 1000003 + thread);
    const Buffer buffer(options_.write_bytes_max);
    std::vector<std::uint64_t> cursor(targets_.size());
    for (std::size_t i = 0; i < cursor.size(); ++i) cursor[i] = targets_[i]->sectors / options_.threads * thread;
    for (std::uint64_t turn = 1; !done(); ++turn) {
      const std::size_t index = random() % targets_.size();
      const OpenTarget& target = *targets_[index];
      const std::uint32_t sectors = pick_sectors(random, target);
      const bool sequential = random() % 100 < options_.sequential_percent;
      std::uint64_t sector = random() % ((target.sectors - sectors) / target.align_sectors + 1) * target.align_sectors;
      if (sequential) sector = cursor[index] + sectors <= target.sectors ? cursor[index] : 0;
      if (!locks_.try_lock(target.id, sector, sectors)) {
        if (sequential) cursor[index] = sector / target.align_sectors * target.align_sectors + target.align_sectors;
        continue;
      }
      if (sequential) cursor[index] = sector + sectors;
      // In a file, zeroing would give its blocks back and later writes would go to others.
      const bool zeroing = random() % 100 < options_.zero_percent && !target.is_file;
      pace(sectors * kSectorBytes);
      const bool ok =
          done() || (zeroing ? zero(index, sector, sectors, static_cast<unsigned>(random()))
                             : write(index, sector, sectors, random() % 100 < options_.durable_percent, buffer.memory));
      locks_.unlock(target.id, sector);
      if (ok && options_.flush_every != 0 && turn % options_.flush_every == 0 && !done()) flush(index);
    }
  }

  const LoadOptions& options_;
  const std::atomic<bool>& stop_;
  std::vector<std::unique_ptr<OpenTarget>> targets_;
  std::unique_ptr<StampLog> log_;
  ExtentLocks locks_;
  SteadyClock::time_point started_;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<std::uint64_t> paced_bytes_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex error_mutex_;
  std::string first_error_;
};

}  // namespace

LoadSummary run_load(const LoadOptions& options, const std::atomic<bool>& stop) { return Load(options, stop).run(); }

}  // namespace understudy::oracle
