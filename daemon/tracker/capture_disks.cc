// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/capture_disks.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "daemon/base/check.h"

namespace understudy {

namespace {

constexpr std::uint64_t kSectorBytes = 1 << UNDERSTUDY_SECTOR_SHIFT;

std::uint64_t pages_of(std::uint64_t size_bytes, std::uint64_t granule_bytes) {
  const std::uint64_t granules = (size_bytes + granule_bytes - 1) / granule_bytes;
  return (granules + UNDERSTUDY_DIRTY_PAGE_BYTES - 1) / UNDERSTUDY_DIRTY_PAGE_BYTES;
}

std::uint64_t granule_bytes_of(const understudy_disk& disk) { return kSectorBytes << disk.granule_shift; }

std::uint64_t size_bytes_of(const understudy_disk& disk) { return disk.sectors * kSectorBytes; }

// The slot that watches `device`, or none.
std::optional<std::uint16_t> active_slot(const understudy_disk_table& table, std::uint32_t device) {
  for (std::uint16_t slot = 0; slot < UNDERSTUDY_DISKS_MAX; ++slot)
    if (table.disks[slot].dev == device && table.disks[slot].active != 0) return slot;
  return std::nullopt;
}

// Where `device` stands, or could stand, among the keys; none if its few places are taken.
std::optional<std::size_t> key_place(const understudy_disk_table& table, std::uint32_t device,
                                     const std::vector<std::uint32_t>& planned) {
  const std::uint32_t first = (device * table.multiplier) >> 24;
  std::vector<std::uint32_t> keys(std::begin(table.keys), std::end(table.keys));
  for (const std::uint32_t other : planned)
    for (std::size_t i = 0; i < UNDERSTUDY_DISK_KEY_TRIES; ++i) {
      std::uint32_t& key = keys[(((other * table.multiplier) >> 24) + i) % UNDERSTUDY_DISK_KEYS];
      if (key != 0 && key != other) continue;
      key = other;
      break;
    }
  for (std::size_t i = 0; i < UNDERSTUDY_DISK_KEY_TRIES; ++i) {
    const std::size_t place = (first + i) % UNDERSTUDY_DISK_KEYS;
    if (keys[place] == 0 || keys[place] == device) return place;
  }
  return std::nullopt;
}

// A multiplier under which all of these find a place. Any odd number spreads well; the first nearly always does.
std::uint32_t find_multiplier(understudy_disk_table& table, const std::vector<DiskInfo>& disks) {
  for (std::uint32_t multiplier = 2654435761u;; multiplier += 2 * 1013904223u) {
    table.multiplier = multiplier;
    std::vector<std::uint32_t> planned;
    const bool all = std::all_of(disks.begin(), disks.end(), [&](const DiskInfo& disk) {
      const bool found = key_place(table, disk.device, planned).has_value();
      planned.push_back(disk.device);
      return found;
    });
    if (all) return multiplier;
  }
}

std::optional<std::string> change_of(const understudy_disk& before, const DiskInfo& now) {
  if (size_bytes_of(before) > now.size_bytes)
    return "disk '" + now.path + "' has shrunk from " + std::to_string(size_bytes_of(before)) + " to " +
           std::to_string(now.size_bytes) + " bytes";
  if (before.identity != 0 && now.sequence != 0 && before.identity != now.sequence)
    return "disk '" + now.path + "' is not the same disk as before (diskseq was " + std::to_string(before.identity) +
           ", is " + std::to_string(now.sequence) + ")";
  return std::nullopt;
}

struct Usage {
  std::uint16_t next_slot = 0;
  std::uint64_t next_page = 0;
};

Usage usage_of(const understudy_disk_table& table) {
  Usage usage;
  for (std::uint16_t slot = 0; slot < UNDERSTUDY_DISKS_MAX; ++slot) {
    const understudy_disk& disk = table.disks[slot];
    if (disk.dev == 0) continue;
    usage.next_slot = static_cast<std::uint16_t>(slot + 1);
    const std::uint64_t first_page = disk.dirty_first / UNDERSTUDY_DIRTY_PAGE_BYTES;
    usage.next_page = std::max(usage.next_page, first_page + pages_of(size_bytes_of(disk), granule_bytes_of(disk)));
  }
  return usage;
}

TrackedDisk tracked_disk(const understudy_disk& disk, std::uint16_t slot, const DiskInfo& info) {
  TrackedDisk tracked;
  tracked.slot = slot;
  tracked.path = info.path;
  tracked.device = info.device;
  tracked.size_bytes = info.size_bytes;
  tracked.logical_block_bytes = info.logical_block_bytes;
  tracked.granule_bytes = static_cast<std::uint32_t>(granule_bytes_of(disk));
  return tracked;
}

// Fills the next slot; capture of the disk begins with the last store.
std::uint16_t add_disk(KernelSide& side, Usage& usage, const DiskInfo& info, std::uint32_t granule_bytes,
                       bool mark_new) {
  understudy_disk_table& table = side.table();
  const std::uint16_t slot = usage.next_slot++;
  understudy_disk& disk = table.disks[slot];
  disk.dev = info.device;
  disk.sectors = info.size_bytes / kSectorBytes;
  disk.dirty_first = usage.next_page * UNDERSTUDY_DIRTY_PAGE_BYTES;
  disk.granule_shift = static_cast<std::uint32_t>(std::countr_zero(granule_bytes / kSectorBytes));
  disk.all_dirty = 0;
  disk.identity = info.sequence;
  usage.next_page += pages_of(info.size_bytes, granule_bytes);
  CHECK_LE(usage.next_page, side.sizes().dirty_pages);
  if (mark_new) GranuleMap(dirty_regions(side, {tracked_disk(disk, slot, info)})).mark(slot, 0, info.size_bytes);
  shared_store(disk.active, __u32{1});
  const auto place = key_place(table, info.device, {});
  CHECK(place.has_value());
  shared_store(table.slots[*place], static_cast<__u8>(slot));
  shared_store(table.keys[*place], info.device);
  return slot;
}

// Waits until every BPF program that began before has ended: they run inside RCU read-side sections, and this system
// call waits for a grace period. False where the kernel refuses it (nohz_full).
bool wait_for_programs() { return ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0; }

// reserved[0] of a disk whose part of the dirty map is being moved: an agent that was killed in the middle leaves it.
constexpr __u64 kMoving = 1;

bool needs_more_pages(const understudy_disk& disk, const DiskInfo& info) {
  return pages_of(info.size_bytes, granule_bytes_of(disk)) > pages_of(size_bytes_of(disk), granule_bytes_of(disk));
}

// The kernel side goes on marking granules all the time. The new part is dirty before anything is, the old part is
// taken over after the last program that may mark it where it was.
void grow_disk(KernelSide& side, Usage& usage, std::uint16_t slot, const DiskInfo& info) {
  understudy_disk& disk = side.table().disks[slot];
  const std::uint64_t granule_bytes = granule_bytes_of(disk);
  const std::uint64_t old_granules = (size_bytes_of(disk) + granule_bytes - 1) / granule_bytes;
  const std::uint64_t new_granules = (info.size_bytes + granule_bytes - 1) / granule_bytes;
  const std::uint64_t before = disk.dirty_first;
  std::uint64_t after = before;
  if (needs_more_pages(disk, info)) {
    after = usage.next_page * UNDERSTUDY_DIRTY_PAGE_BYTES;
    usage.next_page += pages_of(info.size_bytes, granule_bytes);
    CHECK_LE(usage.next_page, side.sizes().dirty_pages);
  }
  std::uint8_t* const states = side.dirty_states();
  const auto mark = [states](std::uint64_t granule) {
    shared_store(states[granule], std::uint8_t{UNDERSTUDY_GRANULE_DIRTY});
  };
  // The last granule may have been a short one.
  for (std::uint64_t i = size_bytes_of(disk) / granule_bytes; i < new_granules; ++i) mark(after + i);
  if (after != before) {
    shared_store(disk.reserved[0], kMoving);
    shared_store(disk.dirty_first, static_cast<__u64>(after));
    const bool waited = wait_for_programs();
    for (std::uint64_t i = 0; i < old_granules; ++i) {
      if (!waited || shared_load(states[before + i]) != UNDERSTUDY_GRANULE_CLEAN) mark(after + i);
    }
  }
  shared_store(disk.sectors, static_cast<__u64>(info.size_bytes / kSectorBytes));
  shared_store(disk.reserved[0], __u64{0});
}

// What an agent left that was killed while it moved the disk's granules: which of them were dirty is not known.
void finish_move(KernelSide& side, std::uint16_t slot) {
  understudy_disk& disk = side.table().disks[slot];
  if (shared_load(disk.reserved[0]) != kMoving) return;
  shared_store(disk.all_dirty, __u32{1});
  shared_store(disk.reserved[0], __u64{0});
}

}  // namespace

std::uint32_t dirty_pages_for(const std::vector<DiskInfo>& disks, std::uint32_t granule_bytes) {
  constexpr std::uint64_t kSparePagesMin = 512;
  std::uint64_t pages = 0;
  for (const DiskInfo& disk : disks) pages += pages_of(disk.size_bytes, granule_bytes);
  return static_cast<std::uint32_t>(pages + std::max(pages / 4, kSparePagesMin));
}

WatchOutcome watch_disks(KernelSide& side, const std::vector<DiskInfo>& disks, std::uint32_t granule_bytes,
                         bool mark_new) {
  understudy_disk_table& table = side.table();
  Usage usage = usage_of(table);
  if (usage.next_slot == 0) table.multiplier = find_multiplier(table, disks);

  // First look, then change.
  std::uint64_t pages_wanted = usage.next_page;
  std::size_t slots_wanted = usage.next_slot;
  std::vector<std::uint32_t> planned;
  for (const DiskInfo& info : disks) {
    if (const auto slot = active_slot(table, info.device)) {
      if (auto change = change_of(table.disks[*slot], info)) return {std::move(change), {}};
      if (needs_more_pages(table.disks[*slot], info)) pages_wanted += pages_of(info.size_bytes, granule_bytes);
      continue;
    }
    ++slots_wanted;
    pages_wanted += pages_of(info.size_bytes, granule_bytes);
    if (!key_place(table, info.device, planned).has_value())
      return {"there is no place left to find disk '" + info.path + "' by", {}};
    planned.push_back(info.device);
  }
  if (slots_wanted > UNDERSTUDY_DISKS_MAX)
    return {"disks were added and removed until all " + std::to_string(UNDERSTUDY_DISKS_MAX) + " slots were used", {}};
  if (pages_wanted > side.sizes().dirty_pages) return {"the dirty map has no room for the added disks", {}};

  WatchOutcome outcome;
  for (std::uint16_t slot = 0; slot < UNDERSTUDY_DISKS_MAX; ++slot) {
    const understudy_disk& disk = table.disks[slot];
    const auto is_wanted = [&](const DiskInfo& info) { return info.device == disk.dev; };
    if (disk.active == 0 || std::any_of(disks.begin(), disks.end(), is_wanted)) continue;
    unwatch(side, slot);
    outcome.watched.removed.push_back(slot);
  }
  for (const DiskInfo& info : disks) {
    auto slot = active_slot(table, info.device);
    if (!slot.has_value()) {
      slot = add_disk(side, usage, info, granule_bytes, mark_new);
      outcome.watched.added.push_back(*slot);
    } else {
      finish_move(side, *slot);
      if (size_bytes_of(table.disks[*slot]) < info.size_bytes) grow_disk(side, usage, *slot, info);
    }
    outcome.watched.disks.push_back(tracked_disk(table.disks[*slot], *slot, info));
  }
  return outcome;
}

void unwatch(KernelSide& side, std::uint16_t slot) {
  CHECK_LT(slot, UNDERSTUDY_DISKS_MAX);
  shared_store(side.table().disks[slot].active, __u32{0});
}

std::vector<DirtyRegion> dirty_regions(KernelSide& side, const std::vector<TrackedDisk>& disks) {
  std::vector<DirtyRegion> regions;
  for (const TrackedDisk& tracked : disks) {
    understudy_disk& disk = side.table().disks[tracked.slot];
    DirtyRegion region;
    region.disk = tracked.slot;
    region.states = side.dirty_states() + disk.dirty_first;
    region.size_bytes = tracked.size_bytes;
    region.granule_bytes = tracked.granule_bytes;
    region.all_dirty = &disk.all_dirty;
    regions.push_back(region);
  }
  return regions;
}

}  // namespace understudy
