// SPDX-License-Identifier: Apache-2.0
// What was made once, kept while there is room: about the least recently used goes first. Of several threads that want
// the same thing, one makes it and the others wait for it. Thread-safe: keys are spread over shards with a lock each,
// and nothing is made, waited for or destroyed under one.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// What a value takes up: memory, and space of the file that holds what does not fit into memory (view_spill.h).
struct ViewCacheWeight {
  std::uint64_t memory_bytes = 0;
  std::uint64_t file_bytes = 0;
};

// Value has `ViewCacheWeight weight() const`. The newest value stays, however heavy it is.
template <typename Value>
class ViewCache {
 public:
  using Pointer = std::shared_ptr<const Value>;

  explicit ViewCache(const ViewCacheWeight& weight_max) : weight_max_(weight_max) {}
  ViewCache(const ViewCache&) = delete;
  ViewCache& operator=(const ViewCache&) = delete;

  Pointer find(std::uint64_t key) {
    Shard& shard = shards_[shard_of(key)];
    const std::lock_guard lock(shard.mutex);
    return shard.find(key);
  }

  // The value of `key`; when there is none, `make` (-> Result<Pointer>) makes it. Its error goes to all who wait, and
  // is forgotten.
  template <typename Make>
  Result<Pointer> get(std::uint64_t key, Make make) {
    const std::size_t number = shard_of(key);
    Shard& shard = shards_[number];
    std::shared_ptr<Flight> flight;
    {
      std::unique_lock lock(shard.mutex);
      if (Pointer kept = shard.find(key)) return kept;
      const auto running = shard.flights.find(key);
      if (running != shard.flights.end()) {
        flight = running->second;
        shard.landed.wait(lock, [&] { return flight->result.has_value(); });
        return *flight->result;
      }
      flight = std::make_shared<Flight>();
      shard.flights.emplace(key, flight);
    }
    // Also when making it throws, nobody waits for ever.
    struct Landing {
      Shard& shard;
      std::uint64_t key;
      Flight& flight;
      ~Landing() {
        const std::lock_guard lock(shard.mutex);
        if (!flight.result) flight.result.emplace(Error(ErrorKind::kInternal, "out of memory"));
        shard.flights.erase(key);
        shard.landed.notify_all();
      }
    };
    Result<Pointer> made = [&] {
      Landing landing{shard, key, *flight};
      Result<Pointer> result = make();
      if (result.ok()) keep(shard, key, *result);
      const std::lock_guard lock(shard.mutex);
      flight->result.emplace(result);
      return result;
    }();
    if (made.ok()) make_room(number);
    return made;
  }

  // The next get() makes it anew.
  void forget(std::uint64_t key) {
    Shard& shard = shards_[shard_of(key)];
    Pointer dropped;
    const std::lock_guard lock(shard.mutex);
    const auto it = shard.places.find(key);
    if (it != shard.places.end()) dropped = remove(shard, it->second);
  }

  ViewCacheWeight weight() const { return {memory_bytes_.load(), file_bytes_.load()}; }

 private:
  static constexpr std::size_t kShards = 16;
  using Entries = std::list<std::pair<std::uint64_t, Pointer>>;  // newest use first
  struct Flight {
    std::optional<Result<Pointer>> result;
  };
  struct Shard {
    std::mutex mutex;
    std::condition_variable landed;
    Entries entries;
    std::unordered_map<std::uint64_t, typename Entries::iterator> places;
    std::unordered_map<std::uint64_t, std::shared_ptr<Flight>> flights;

    Pointer find(std::uint64_t key) {
      const auto it = places.find(key);
      if (it == places.end()) return nullptr;
      entries.splice(entries.begin(), entries, it->second);
      return it->second->second;
    }
  };

  static std::size_t shard_of(std::uint64_t key) {
    return static_cast<std::size_t>(key * 0x9e3779b97f4a7c15ull >> 32) % kShards;
  }

  void keep(Shard& shard, std::uint64_t key, const Pointer& value) {
    const ViewCacheWeight weight = value->weight();
    const std::lock_guard lock(shard.mutex);
    shard.entries.emplace_front(key, value);
    shard.places[key] = shard.entries.begin();
    memory_bytes_ += weight.memory_bytes;
    file_bytes_ += weight.file_bytes;
  }

  Pointer remove(Shard& shard, typename Entries::iterator entry) {
    Pointer value = std::move(entry->second);
    memory_bytes_ -= value->weight().memory_bytes;
    file_bytes_ -= value->weight().file_bytes;
    shard.places.erase(entry->first);
    shard.entries.erase(entry);
    return value;
  }

  bool is_full() const {
    return memory_bytes_.load() > weight_max_.memory_bytes || file_bytes_.load() > weight_max_.file_bytes;
  }

  // The oldest of each shard in turn, beginning behind the one that got the newest value; that shard keeps one.
  void make_room(std::size_t newest) {
    std::size_t empty = 0;
    for (std::size_t i = newest + 1; is_full() && empty < kShards; ++i) {
      Shard& shard = shards_[i % kShards];
      Pointer dropped;
      const std::lock_guard lock(shard.mutex);
      if (shard.entries.size() > (i % kShards == newest ? 1u : 0u)) {
        dropped = remove(shard, std::prev(shard.entries.end()));
        empty = 0;
      } else {
        ++empty;
      }
    }
  }

  const ViewCacheWeight weight_max_;
  std::array<Shard, kShards> shards_;
  std::atomic<std::uint64_t> memory_bytes_{0};
  std::atomic<std::uint64_t> file_bytes_{0};
};

}  // namespace understudy
