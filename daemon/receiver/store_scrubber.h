// SPDX-License-Identifier: Apache-2.0
// Reads all stores back in the background and proves every byte of them, one store after another, at a bounded rate:
// bytes that go bad on the disk are noticed while there is still another copy. A store is opened read-only for it, as
// it stands on the disk, so a pass never waits for the store's writer nor the writer for it.
//
// Threads: one of its own; all functions may be called from any thread. Damage is logged once a pass.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/store/store.h"
#include "daemon/view/damage_reach.h"

namespace understudy {

struct ScrubSettings {
  std::uint64_t bytes_per_second = 16ull << 20;               // read; 0 = no scrub
  std::uint64_t every_ns = 7ull * 24 * 3600 * 1'000'000'000;  // from the begin of a pass to that of the next
  bool operator==(const ScrubSettings&) const = default;
};

struct ScrubStatus {
  bool running = false;
  std::uint64_t done_bytes = 0;  // of the pass that runs, or of the last one
  std::uint64_t total_bytes = 0;
  std::uint64_t passes = 0;            // that came to the end, since the receiver started
  std::uint64_t bytes = 0;             // read in all, since the receiver started
  std::uint64_t last_end_wall_ns = 0;  // of the last pass that came to the end; 0 = none yet
  std::uint64_t damages_total = 0;     // of the pass that runs, or of the last one
  std::vector<std::string> damages;    // the first kStoreDamagesMax of them: object, place, reason, points affected
  // What of the disks the newest point has lost to it: the first kStoreDamagedExtentsMax places.
  std::vector<DamagedExtent> damaged_extents;
  std::string damaged_points;          // "from seq 3 (...) to seq 17 (...)", as far as it is known; empty = none
  std::string last_error;              // why the last pass did not come to the end; empty = it did
};

class StoreScrubber {
 public:
  // The first pass over a store begins this long after it became known, or after `every` when that is shorter: a start
  // has other things to do.
  static constexpr std::uint64_t kFirstPassDelayNs = 600'000'000'000;

  // Told at the end of a pass what the newest point has lost, so that it is compared with its source and copied anew.
  // Called from the scrub's thread.
  using Lost = std::function<void(const std::string& server_name, const std::vector<DamagedExtent>& extents)>;

  explicit StoreScrubber(const Clock& clock = system_clock(), Lost lost = {});
  ~StoreScrubber();
  StoreScrubber(const StoreScrubber&) = delete;
  StoreScrubber& operator=(const StoreScrubber&) = delete;

  // The stores by server name. A pass over one that is gone ends soon after.
  void set(std::map<std::string, StoreOptions> stores, const ScrubSettings& settings);
  ScrubStatus status(const std::string& server_name) const;
  // Ends the pass that runs. Nothing begins after it.
  void stop();

 private:
  struct Entry {
    StoreOptions options;
    std::uint64_t due_ns = 0;  // boot clock
    ScrubStatus status;
  };
  void run();
  void run_pass(std::unique_lock<std::mutex>& lock, const std::string& server_name);
  // Waits until `done_bytes` may have been read since `begin_ns`; false = the pass is to end.
  bool pace(const std::string& server_name, const std::string& directory, std::uint64_t begin_ns,
            std::uint64_t done_bytes, std::uint64_t total_bytes);
  void add_damage(const std::string& server_name, const std::string& directory, const Damage& damage);
  // Says what the damages of a pass mean, and has it mended.
  void find_reach(const std::string& server_name, const Store& store, const std::string& directory,
                  const std::vector<Damage>& damages);
  Entry* find(const std::string& server_name, const std::string& directory);  // under mutex_

  const Clock& clock_;
  const Lost lost_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Entry> entries_;
  ScrubSettings settings_;
  bool stop_ = false;
  std::thread thread_;
};

// "'base/0.img' at byte 4096, 65536 bytes: ...; points from seq 17 on may be affected"
std::string describe_damage(const Damage& damage);

}  // namespace understudy
