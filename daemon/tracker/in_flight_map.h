// SPDX-License-Identifier: Apache-2.0
// The kernel side's map of writes under way, and copy mode, which decides what is in it.
//
// Turning copy mode on has to make sure that no write of before is still under way. Nothing in the kernel says so
// outright, so it is done in two steps that do not rest on each other:
//   1. From SETTLING on every write is noted; completions of writes that were not noted are counted. It is settled when
//      every disk was seen without a write in flight (/sys/block/<disk>/inflight), or no such completion came for
//      kQuietNs.
//   2. Should such a write complete after all (a disk that took longer than that for one write), the completing program
//      makes its extent dirty and moves the loss counters: whatever was read meanwhile is read again.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/result.h"
#include "daemon/tracker/dirty_map.h"
#include "daemon/tracker/kernel_side.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

class InFlightMap {
 public:
  static constexpr std::uint64_t kQuietNs = 1'000'000'000;
  static constexpr std::uint64_t kSettleNsMax = 5'000'000'000;  // then set_copy_mode() answers false

  // All outlive the object. `disk_names` as below /sys/block. What an earlier agent left in copy mode is ended.
  InFlightMap(KernelSide& side, GranuleMap& dirty, std::vector<std::string> disk_names);

  Result<bool> set_copy_mode(bool on);
  // Everything in the map that writes data.
  Result<std::vector<InFlightWrite>> snapshot();

 private:
  struct Entry {
    std::uint64_t bio;
    understudy_in_flight write;
  };

  Result<std::vector<Entry>> entries();
  Status begin_settling();
  bool wait_until_quiet();
  // Entries that were there before copy mode and still are: completions that were not seen.
  Status forget_old_entries();
  Result<bool> turn_off();

  KernelSide& side_;
  GranuleMap& dirty_;
  std::vector<std::string> disk_names_;
  std::vector<UniqueFd> completion_copies_;
  std::vector<Entry> old_entries_;
  std::vector<std::uint64_t> keys_;
  std::vector<understudy_in_flight> values_;
};

}  // namespace understudy
