// SPDX-License-Identifier: Apache-2.0
// The log of a stamping run: what was asked of the disk and when. One slot per operation: written before the operation
// is submitted, completed once after it returned. Lives in a file mapped shared on a file system that is not under
// test, so everything logged survives a kill -9 of the writer at any instruction.
//
// File: LogHeader (4096 bytes), then LogSlot[capacity]; slot i belongs to operation number i + 1. A slot with state
// kEmpty was never submitted. Host byte order. Slots are only ever filled, never changed back or reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace understudy::oracle {

inline constexpr std::uint64_t kLogMagic = 0x3147'4f4c'5453'5555ull;  // "UUSTLOG1"
inline constexpr std::uint32_t kTargetsMax = 16;

enum class OperationKind : std::uint8_t { kWrite = 1, kZero = 2, kFlush = 3 };
enum class OperationState : std::uint32_t { kEmpty = 0, kSubmitted = 1, kCompleted = 2, kFailed = 3 };

struct LogTarget {
  std::uint32_t id = 0;       // as stamped
  std::uint32_t is_file = 0;  // 1 = a file in a file system, 0 = a block device
  std::uint64_t sectors = 0;  // length of the target
  char path[112] = {};        // where it was written, for messages only
};
static_assert(sizeof(LogTarget) == 128);

struct LogHeader {
  std::uint64_t magic = kLogMagic;
  std::uint64_t run = 0;       // random; also in every stamp
  std::uint64_t capacity = 0;  // slots
  std::uint32_t target_count = 0;
  std::uint32_t reserved = 0;
  LogTarget targets[kTargetsMax];
  std::uint8_t padding[4096 - 32 - kTargetsMax * sizeof(LogTarget)] = {};
};
static_assert(sizeof(LogHeader) == 4096);

// Times: boot = CLOCK_BOOTTIME (ordering), wall = CLOCK_REALTIME (comparison with points). Submission times are taken
// before the system call, completion times after it: what completed before another's submission in boot time really
// did so.
struct LogSlot {
  std::uint64_t number = 0;
  OperationState state = OperationState::kEmpty;  // stored last, with release order
  std::uint16_t target = 0;                       // id, not index
  OperationKind kind = OperationKind::kWrite;
  std::uint8_t durable = 0;  // 1 = RWF_DSYNC: completion means durable
  std::uint64_t sector = 0;
  std::uint32_t sectors = 0;      // 0 for a flush
  std::int32_t error_number = 0;  // of kFailed
  std::uint64_t submit_boot_ns = 0;
  std::uint64_t submit_wall_ns = 0;
  std::uint64_t complete_boot_ns = 0;
  std::uint64_t complete_wall_ns = 0;
};
static_assert(sizeof(LogSlot) == 64);

struct Operation {
  OperationKind kind = OperationKind::kWrite;
  bool durable = false;
  std::uint16_t target = 0;
  std::uint64_t sector = 0;
  std::uint32_t sectors = 0;
};

// The writing side. Thread-safe: each operation has a slot of its own.
class StampLog {
 public:
  // Makes the file (which must not exist) and maps it; throws std::runtime_error.
  StampLog(const std::string& path, std::uint64_t capacity, const std::vector<LogTarget>& targets);
  ~StampLog();
  StampLog(const StampLog&) = delete;
  StampLog& operator=(const StampLog&) = delete;

  std::uint64_t run() const { return header_->run; }
  // Takes the next number and fills its slot; nullptr = the log is full. Call just before submission; the stamp takes
  // number and submit_wall_ns from the slot, which stays valid as long as the log.
  LogSlot* submit(const Operation& operation);
  static void complete(LogSlot* slot, int error_number);
  std::uint64_t submitted() const;

 private:
  LogHeader* header_ = nullptr;
  LogSlot* slots_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::uint64_t next_ = 0;  // accessed with std::atomic_ref
};

// What the reading side takes from a log file; throws std::runtime_error when it is not one.
struct LogContent {
  LogHeader header;
  std::vector<LogSlot> slots;  // submitted ones, in order of number
};
LogContent read_log(const std::string& path);

std::uint64_t boot_now_ns();
std::uint64_t wall_now_ns();

}  // namespace understudy::oracle
