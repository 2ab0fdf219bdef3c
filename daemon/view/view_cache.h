// SPDX-License-Identifier: Apache-2.0
// What a view has read and checked, kept while there is room: the least recently used goes first. Thread-safe.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "daemon/base/limits.h"
#include "daemon/record/batch.h"

namespace understudy {

// One of: the table of a batch, with the places of its payloads; a whole batch, `payload` holding its stored bytes; a
// part of the payload of one record; the checksums of the blocks of such a payload.
struct Loaded {
  BatchReader reader;
  std::uint64_t payload_offset_bytes = 0;  // of the payload section in the segment
  std::vector<std::uint32_t> offsets;      // of the payloads in it
  std::vector<std::byte> payload;
  std::uint64_t payload_begin_bytes = 0;  // where the part begins in the record's payload
  std::vector<std::uint64_t> sums;

  std::size_t bytes() const {
    // A reader that has payloads decompressed them into memory of its own.
    const std::size_t decompressed = payload.empty() ? 0 : reader.info().raw_payload_bytes;
    return sizeof(*this) + reader.records().size() * (sizeof(Record) + 4) + offsets.size() * 4 + payload.size() +
           sums.size() * 8 + decompressed;
  }
};
using LoadedPointer = std::shared_ptr<const Loaded>;

class ViewCache {
 public:
  LoadedPointer find(std::uint64_t key) {
    const std::lock_guard lock(mutex_);
    const auto it = places_.find(key);
    if (it == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, it->second);
    return it->second->value;
  }

  void keep(std::uint64_t key, LoadedPointer value) {
    const std::lock_guard lock(mutex_);
    if (places_.contains(key)) return;  // another thread was faster
    bytes_ += value->bytes();
    entries_.push_front({key, std::move(value)});
    places_[key] = entries_.begin();
    while (bytes_ > kViewCacheBytesMax && entries_.size() > 1) {
      bytes_ -= entries_.back().value->bytes();
      places_.erase(entries_.back().key);
      entries_.pop_back();
    }
  }

 private:
  struct Entry {
    std::uint64_t key = 0;
    LoadedPointer value;
  };
  std::mutex mutex_;
  std::list<Entry> entries_;  // newest use first
  std::unordered_map<std::uint64_t, std::list<Entry>::iterator> places_;
  std::size_t bytes_ = 0;
};

}  // namespace understudy
