// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/delta_cache.h"

#include <cstring>
#include <utility>

#include "daemon/base/check.h"
#include "daemon/base/limits.h"

namespace understudy {

static_assert(kDiskBytesMax / kDeltaBlockBytes <= 1ull << 48, "disk and block share a key of 64 bits");

void DeltaCache::resize(std::uint64_t bytes) {
  *this = DeltaCache();
  CHECK_LE(bytes, kDeltaCacheBytesMax);
  entries_max_ = static_cast<std::uint32_t>(bytes / kDeltaBlockBytes);
}

std::span<const std::byte> DeltaCache::find(std::uint16_t disk, std::uint64_t block) const {
  const auto found = index_.find(key_of(disk, block));
  if (found == index_.end()) return {};
  const std::uint32_t slot = found->second;
  return {slabs_[slot / kSlabBlocks].get() + slot % kSlabBlocks * kDeltaBlockBytes, kDeltaBlockBytes};
}

void DeltaCache::store(std::uint16_t disk, std::uint64_t block, std::size_t from, std::span<const std::byte> data,
                       bool insert) {
  CHECK_LE(from + data.size(), kDeltaBlockBytes);
  const std::uint64_t key = key_of(disk, block);
  if (const auto found = index_.find(key); found != index_.end()) {
    entries_[found->second].again = true;
    std::memcpy(memory_of(found->second) + from, data.data(), data.size());
    return;
  }
  if (!insert || entries_max_ == 0) return;
  const std::uint32_t slot = take_slot();
  entries_[slot] = Entry{key, true, false};
  index_.emplace(key, slot);
  std::byte* const memory = memory_of(slot);
  std::memset(memory, 0, from);
  std::memcpy(memory + from, data.data(), data.size());
  std::memset(memory + from + data.size(), 0, kDeltaBlockBytes - from - data.size());
}

void DeltaCache::forget(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  if (length_bytes == 0 || length_bytes > kDeltaForgetBytesMax || index_.empty()) return;
  const std::uint64_t last = (offset_bytes + length_bytes - 1) / kDeltaBlockBytes;
  for (std::uint64_t block = offset_bytes / kDeltaBlockBytes; block <= last; ++block) {
    const auto found = index_.find(key_of(disk, block));
    if (found == index_.end()) continue;
    entries_[found->second] = Entry{};
    free_.push_back(found->second);
    index_.erase(found);
  }
}

std::uint32_t DeltaCache::take_slot() {
  if (!free_.empty()) {
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  if (entries_.size() < entries_max_) {
    if (entries_.size() == slabs_.size() * kSlabBlocks) {
      slabs_.push_back(std::make_unique_for_overwrite<std::byte[]>(kSlabBlocks * kDeltaBlockBytes));
    }
    entries_.emplace_back();
    return static_cast<std::uint32_t>(entries_.size() - 1);
  }
  // Nothing is free, so every entry is live.
  while (true) {
    const std::uint32_t slot = hand_;
    hand_ = (hand_ + 1) % entries_max_;
    if (!std::exchange(entries_[slot].again, false)) {
      index_.erase(entries_[slot].key);
      return slot;
    }
  }
}

}  // namespace understudy
