// SPDX-License-Identifier: Apache-2.0
// The load a stamp writer puts on its targets: threads that write, zero and flush, every operation logged around its
// system call. No two operations are ever in flight on one sector.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/integration/oracle/stamp_log.h"

namespace understudy::oracle {

struct TargetOptions {
  std::uint32_t id = 0;
  std::string path;
  std::uint64_t offset_bytes = 0;  // where the target begins in the device or file
  std::uint64_t length_bytes = 0;  // 0 = to the end
};

struct LoadOptions {
  std::vector<TargetOptions> targets;
  std::string log_path;
  std::uint64_t log_slots = 4u << 20;
  unsigned threads = 4;  // = queue depth
  std::uint64_t write_bytes_min = 512;
  std::uint64_t write_bytes_max = 1u << 20;
  unsigned sequential_percent = 25;    // of the writes; the rest go to random places
  unsigned zero_percent = 0;           // discards, write-zeroes and punched holes; on block devices only
  unsigned durable_percent = 0;        // writes with RWF_DSYNC (FUA where the device has it)
  unsigned flush_every = 64;           // operations of a thread; 0 = never
  std::uint64_t rate_bytes_per_s = 0;  // 0 = full speed
  std::uint64_t operations_max = 0;    // 0 = until stopped
  double seconds_max = 0;              // 0 = until stopped
  std::uint64_t seed = 0;
  bool fill = false;  // write everything once, in order, before the load
  bool compressible = false;
};

struct LoadSummary {
  std::uint64_t operations = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
  std::string first_error;  // empty = none; the load stops at the first
};

// Runs until a limit, an error or `stop`. Throws std::runtime_error when it cannot start.
LoadSummary run_load(const LoadOptions& options, const std::atomic<bool>& stop);

}  // namespace understudy::oracle
