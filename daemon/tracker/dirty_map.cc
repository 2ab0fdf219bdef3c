// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/dirty_map.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include <linux/types.h>

#include "daemon/base/check.h"
#include "kmod-shim/capture_abi.h"

namespace understudy {

namespace {

constexpr std::uint8_t kClean = UNDERSTUDY_GRANULE_CLEAN;
constexpr std::uint8_t kDirty = UNDERSTUDY_GRANULE_DIRTY;
constexpr std::uint8_t kClaimed = UNDERSTUDY_GRANULE_CLAIMED;

std::uint8_t load(const std::uint8_t& state) {
  // atomic_ref wants a mutable object, also for a load.
  return std::atomic_ref<std::uint8_t>(const_cast<std::uint8_t&>(state)).load(std::memory_order_acquire);
}

bool change(std::uint8_t& state, std::uint8_t from, std::uint8_t to) {
  return std::atomic_ref<std::uint8_t>(state).compare_exchange_strong(from, to, std::memory_order_acq_rel);
}

// Eight granules at once; a disk that is all clean is scanned at memory speed. `states` is 8-byte aligned and the
// memory behind it reaches to the end of an 8-byte word (dirty pages are 4096 bytes).
std::uint64_t load_word(const std::uint8_t* states) {
  auto* word = reinterpret_cast<std::uint64_t*>(const_cast<std::uint8_t*>(states));
  return std::atomic_ref<std::uint64_t>(*word).load(std::memory_order_acquire);
}

template <typename Predicate>
std::uint64_t count_states(const DirtyRegion& region, Predicate&& wanted) {
  const std::uint64_t granules = region.granule_count();
  std::uint64_t count = 0;
  std::uint64_t granule = 0;
  for (; granule + 8 <= granules; granule += 8) {
    if (load_word(region.states + granule) == 0) continue;
    for (std::uint64_t i = granule; i < granule + 8; ++i) count += wanted(load(region.states[i])) ? 1 : 0;
  }
  for (; granule < granules; ++granule) count += wanted(load(region.states[granule])) ? 1 : 0;
  return count;
}

}  // namespace

static_assert(UNDERSTUDY_GRANULE_CLEAN == 0, "scans skip words of zeros");

GranuleMap::GranuleMap(std::vector<DirtyRegion> regions) : regions_(std::move(regions)) {
  for (const DirtyRegion& region : regions_) {
    CHECK(region.states != nullptr);
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(region.states) % 8, 0u);
    CHECK_GT(region.granule_bytes, 0u);
  }
}

const DirtyRegion& GranuleMap::region(std::uint16_t disk) const {
  for (const DirtyRegion& region : regions_)
    if (region.disk == disk) return region;
  check_failed("disk slot is known", __FILE__, __LINE__, std::to_string(disk));
}

void GranuleMap::fold(const DirtyRegion& region) const {
  if (region.all_dirty == nullptr) return;
  std::atomic_ref<std::uint32_t> all_dirty(*region.all_dirty);
  if (all_dirty.load(std::memory_order_acquire) == 0) return;
  std::lock_guard lock(fold_mutex_);
  // Cleared first: a loss that comes while we mark sets it again. Dying in between must not lose it, so the flag goes
  // to 2 ("being folded", still counts as set) and to 0 only when the granules are marked and nobody set it to 1.
  all_dirty.store(2, std::memory_order_seq_cst);
  for (std::uint64_t granule = 0; granule < region.granule_count(); ++granule)
    std::atomic_ref<std::uint8_t>(region.states[granule]).store(kDirty, std::memory_order_release);
  std::uint32_t folding = 2;
  all_dirty.compare_exchange_strong(folding, 0, std::memory_order_acq_rel);
}

void GranuleMap::fold_all_dirty() const {
  for (const DirtyRegion& region : regions_) fold(region);
}

void GranuleMap::mark(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  const DirtyRegion& target = region(disk);
  if (length_bytes == 0 || offset_bytes >= target.size_bytes) return;
  const std::uint64_t end = offset_bytes + std::min(length_bytes, target.size_bytes - offset_bytes);
  const std::uint64_t last = (end - 1) / target.granule_bytes;
  for (std::uint64_t granule = offset_bytes / target.granule_bytes; granule <= last; ++granule)
    std::atomic_ref<std::uint8_t>(target.states[granule]).store(kDirty, std::memory_order_release);
}

std::optional<GranuleRange> GranuleMap::claim_next(std::uint16_t disk, std::uint64_t from, std::uint64_t count_max) {
  CHECK_GT(count_max, 0u);
  const DirtyRegion& source = region(disk);
  fold(source);
  const std::uint64_t granules = source.granule_count();
  std::uint64_t granule = from;
  while (granule < granules) {
    if (granule % 8 == 0 && granule + 8 <= granules && load_word(source.states + granule) == 0) {
      granule += 8;
      continue;
    }
    if (change(source.states[granule], kDirty, kClaimed)) break;
    ++granule;
  }
  if (granule >= granules) return std::nullopt;
  GranuleRange range{disk, granule, 1};
  while (range.count < count_max && range.first + range.count < granules &&
         change(source.states[range.first + range.count], kDirty, kClaimed))
    ++range.count;
  return range;
}

std::span<std::uint8_t> GranuleMap::states_of(const DirtyRegion& region, const GranuleRange& range) {
  CHECK_LE(range.first, region.granule_count());
  CHECK_LE(range.count, region.granule_count() - range.first);
  return {region.states + range.first, range.count};
}

void GranuleMap::finish(const GranuleRange& range) {
  const DirtyRegion& target = region(range.disk);
  for (std::uint8_t& state : states_of(target, range)) change(state, kClaimed, kClean);
}

void GranuleMap::unclaim(const GranuleRange& range) {
  const DirtyRegion& target = region(range.disk);
  for (std::uint8_t& state : states_of(target, range)) change(state, kClaimed, kDirty);
}

void GranuleMap::unclaim_all() {
  for (const DirtyRegion& target : regions_) {
    const std::uint64_t granules = target.granule_count();
    std::uint64_t granule = 0;
    while (granule < granules) {
      if (granule % 8 == 0 && granule + 8 <= granules && load_word(target.states + granule) == 0) {
        granule += 8;
        continue;
      }
      change(target.states[granule], kClaimed, kDirty);
      ++granule;
    }
  }
}

std::uint64_t GranuleMap::pending_count(std::uint16_t disk) const {
  const DirtyRegion& source = region(disk);
  fold(source);
  return count_states(source, [](std::uint8_t state) { return state != kClean; });
}

std::uint64_t GranuleMap::dirty_count(std::uint16_t disk) const {
  const DirtyRegion& source = region(disk);
  fold(source);
  return count_states(source, [](std::uint8_t state) { return state == kDirty; });
}

}  // namespace understudy
