// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/in_flight_map.h"

#include <bpf/bpf.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "daemon/tracker/disk_inspect.h"

namespace understudy {

namespace {

constexpr std::uint64_t kSectorBytes = 1 << UNDERSTUDY_SECTOR_SHIFT;
constexpr std::uint64_t kStepNs = 5'000'000;

void sleep_ns(std::uint64_t duration_ns) {
  const timespec pause{static_cast<time_t>(duration_ns / 1'000'000'000),
                       static_cast<long>(duration_ns % 1'000'000'000)};
  ::nanosleep(&pause, nullptr);
}

// Returns when every program that runs now, and may have seen an older value of the control block, has ended: BPF
// tracepoint programs are RCU readers, and the global membarrier is a grace period.
void wait_for_running_programs() {
  if (::syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0) return;
  // Not there on kernels with nohz_full: a program runs for microseconds.
  constexpr std::uint64_t kLongEnoughNs = 100'000'000;
  sleep_ns(kLongEnoughNs);
}

}  // namespace

InFlightMap::InFlightMap(KernelSide& side, GranuleMap& dirty, std::vector<std::string> disk_names)
    : side_(side),
      dirty_(dirty),
      disk_names_(std::move(disk_names)),
      keys_(side.sizes().in_flight_max),
      values_(side.sizes().in_flight_max) {
  // The copies of the completing program died with the agent that wanted them: what it left must be settled anew.
  if (shared_load(side_.control().copy_mode) != UNDERSTUDY_COPY_OFF)
    shared_store(side_.control().copy_mode, __u32{UNDERSTUDY_COPY_DRAINING});
}

Result<std::vector<InFlightMap::Entry>> InFlightMap::entries() {
  std::vector<Entry> result;
  __u32 at = 0;
  void* from = nullptr;
  for (;;) {
    auto count = static_cast<__u32>(keys_.size());
    const int error =
        bpf_map_lookup_batch(side_.in_flight_fd(), from, &at, keys_.data(), values_.data(), &count, nullptr);
    if (error != 0 && error != -ENOENT) return Error::from_errno(-error, "read the map of writes in flight");
    for (__u32 i = 0; i < count; ++i) result.push_back({keys_[i], values_[i]});
    if (error == -ENOENT) return result;
    from = &at;
  }
}

Result<std::vector<InFlightWrite>> InFlightMap::snapshot() {
  ASSIGN_OR_RETURN(const std::vector<Entry> all, entries());
  std::vector<InFlightWrite> writes;
  writes.reserve(all.size());
  for (const Entry& entry : all)
    if (entry.write.sectors > 0)
      writes.push_back({entry.write.disk, entry.write.sector * kSectorBytes, entry.write.sectors * kSectorBytes,
                        entry.write.lost != 0});
  return writes;
}

Result<bool> InFlightMap::set_copy_mode(bool on) {
  if (!on) return turn_off();
  const std::uint32_t mode = shared_load(side_.control().copy_mode);
  if (mode == UNDERSTUDY_COPY_SETTLED) return true;
  if (mode != UNDERSTUDY_COPY_SETTLING) RETURN_IF_ERROR(begin_settling());
  if (!wait_until_quiet()) return false;
  shared_store(side_.control().copy_mode, __u32{UNDERSTUDY_COPY_SETTLED});
  RETURN_IF_ERROR(forget_old_entries());
  return true;
}

Status InFlightMap::begin_settling() {
  if (completion_copies_.empty()) {
    ASSIGN_OR_RETURN(completion_copies_, side_.attach_completion_copies());
  }
  ASSIGN_OR_RETURN(old_entries_, entries());
  shared_store(side_.control().copy_mode, __u32{UNDERSTUDY_COPY_SETTLING});
  wait_for_running_programs();
  return ok_status();
}

bool InFlightMap::wait_until_quiet() {
  std::vector<bool> was_idle(disk_names_.size(), false);
  const std::uint64_t start_ns = system_clock().boot_ns();
  std::uint64_t completions = shared_load(side_.control().old_completions);
  std::uint64_t quiet_since_ns = start_ns;
  for (;;) {
    for (std::size_t i = 0; i < disk_names_.size(); ++i) {
      if (was_idle[i]) continue;
      const auto writes = writes_in_flight(disk_names_[i]);
      was_idle[i] = writes.ok() && writes.value() == 0;
    }
    const std::uint64_t now_ns = system_clock().boot_ns();
    const std::uint64_t completions_now = shared_load(side_.control().old_completions);
    if (completions_now != completions) quiet_since_ns = now_ns;
    completions = completions_now;
    const bool all_idle = std::all_of(was_idle.begin(), was_idle.end(), [](bool idle) { return idle; });
    // A few steps at least: a bio may wait in its submitter's plug and not be counted yet.
    if (all_idle && now_ns - quiet_since_ns >= 4 * kStepNs) return true;
    if (now_ns - quiet_since_ns >= kQuietNs) return true;
    if (now_ns - start_ns >= kSettleNsMax) return false;
    sleep_ns(kStepNs);
  }
}

Status InFlightMap::forget_old_entries() {
  for (const Entry& entry : old_entries_) {
    understudy_in_flight now{};
    if (bpf_map_lookup_elem(side_.in_flight_fd(), &entry.bio, &now) != 0) continue;
    if (now.stamp != entry.write.stamp || now.sector != entry.write.sector) continue;  // the address has a new bio
    if (now.lost != 0) dirty_.mark(now.disk, now.sector * kSectorBytes, now.sectors * kSectorBytes);
    if (bpf_map_delete_elem(side_.in_flight_fd(), &entry.bio) == 0 && now.lost != 0)
      std::atomic_ref<__u64>(side_.control().in_flight_lost).fetch_sub(1);
  }
  old_entries_.clear();
  return ok_status();
}

Result<bool> InFlightMap::turn_off() {
  if (shared_load(side_.control().copy_mode) == UNDERSTUDY_COPY_OFF) return true;
  shared_store(side_.control().copy_mode, __u32{UNDERSTUDY_COPY_DRAINING});
  wait_for_running_programs();
  // Off only when nothing that copy mode noted is left: with it off, completions would not take it out. Otherwise it
  // stays draining, which costs a look into the map per completion, until copy mode is wanted again.
  constexpr int kSteps = 20;
  for (int step = 0; step < kSteps; ++step) {
    ASSIGN_OR_RETURN(const std::vector<Entry> all, entries());
    if (std::all_of(all.begin(), all.end(), [](const Entry& entry) { return entry.write.lost != 0; })) {
      shared_store(side_.control().copy_mode, __u32{UNDERSTUDY_COPY_OFF});
      completion_copies_.clear();
      break;
    }
    sleep_ns(kStepNs);
  }
  return true;
}

}  // namespace understudy
