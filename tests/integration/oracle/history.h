// SPDX-License-Identifier: Apache-2.0
// Everything that was asked of the disks in a test, from one or several stamp logs, and what a set of images holds of
// it. Input of the prefix check (prefix_check.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/integration/oracle/stamp_log.h"

namespace understudy::oracle {

inline constexpr std::uint64_t kNever = ~0ull;  // completion time of what was not seen to complete

// One logged operation. An operation that failed counts like one that never completed: it may or may not have acted.
struct LoggedOperation {
  LogSlot slot;
  std::uint32_t log = 0;     // index of its log
  std::uint32_t target = 0;  // index in History::targets()

  bool completed() const { return slot.state == OperationState::kCompleted; }
  std::uint64_t submitted_ns() const { return slot.submit_boot_ns; }
  std::uint64_t completed_ns() const { return completed() ? slot.complete_boot_ns : kNever; }
};

class History {
 public:
  // Merges logs; a target id may stand in one log only. Throws std::runtime_error.
  explicit History(const std::vector<LogContent>& logs);

  const std::vector<LogTarget>& targets() const { return targets_; }
  // All operations in order of submission (boot time).
  const std::vector<LoggedOperation>& operations() const { return operations_; }
  // Index in operations() of a stamp's write, if it was ever logged.
  std::optional<std::uint32_t> find(std::uint64_t run, std::uint64_t number) const;
  std::optional<std::uint32_t> target_index(std::uint32_t id) const;

 private:
  std::vector<LogTarget> targets_;
  std::vector<LoggedOperation> operations_;
  std::map<std::uint64_t, std::vector<std::uint32_t>> by_number_;  // run -> number - 1 -> index + 1; 0 = none
};

// What one target's image holds: for every sector 0 = zeros, else index in History::operations() + 1.
struct ImageContent {
  std::uint32_t target = 0;  // index in History::targets()
  std::vector<std::uint32_t> sectors;
};

// Classifies one sector: nullopt and `*ret_error` when it holds what no logged write put there.
std::optional<std::uint32_t> identify_sector(const History& history, std::uint32_t target, std::uint64_t sector,
                                             const std::byte* data, std::string* ret_error);

// Reads a target's image from `path` at `offset_bytes`; throws std::runtime_error for I/O errors and for the first
// sector that no logged write explains.
ImageContent read_image(const History& history, std::uint32_t target, const std::string& path,
                        std::uint64_t offset_bytes);

}  // namespace understudy::oracle
