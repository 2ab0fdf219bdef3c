// SPDX-License-Identifier: Apache-2.0
// Recent contents of blocks, kept at both ends of a session so that a rewritten block can travel as its changed bytes.
//
// It is a dictionary, not a picture of the disk: what it holds is a function of the calls made since resize(), nothing
// else. Both ends make the same calls, driven by the same frames in the same order (FORMAT.md, "Deltas"), so both hold
// the same bytes. Whether these are what the disk holds does not matter for correctness, only for how small deltas get.
//
// Replacement is CLOCK: a block that was written once goes first, one that was written again gets another round. New
// blocks begin without that mark, so a long sequential write does not drive out what is rewritten all the time.
//
// Memory: blocks come in slabs as they are needed, at most the bytes given to resize() and about 2 % for the index.
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace understudy {

inline constexpr std::size_t kDeltaBlockBytes = 4096;
// A ZERO record longer than this leaves the cache alone: looking up what it covers would cost more than it frees.
inline constexpr std::uint64_t kDeltaForgetBytesMax = 1u << 20;

class DeltaCache {
 public:
  // Forgets everything; from now on at most `bytes` of blocks are kept. 0 = none.
  void resize(std::uint64_t bytes);

  // The whole block, or nothing. Does not count as a use.
  std::span<const std::byte> find(std::uint16_t disk, std::uint64_t block) const;
  // Takes `data` as the new content of the block from byte `from` on. A block that is there keeps its other bytes and
  // counts as used again; one that is not is added only with `insert`, its other bytes zero.
  void store(std::uint16_t disk, std::uint64_t block, std::size_t from, std::span<const std::byte> data, bool insert);
  // Drops every block that the extent touches, unless the extent is longer than kDeltaForgetBytesMax.
  void forget(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes);

  // Memory that holds blocks now.
  std::uint64_t bytes_used() const { return slabs_.size() * kSlabBlocks * kDeltaBlockBytes; }
  std::uint64_t bytes_max() const { return std::uint64_t{entries_max_} * kDeltaBlockBytes; }
  std::size_t block_count() const { return index_.size(); }

 private:
  static constexpr std::size_t kSlabBlocks = 64;
  struct Entry {
    std::uint64_t key = 0;
    bool live = false;
    bool again = false;  // written again since the hand passed
  };
  static std::uint64_t key_of(std::uint16_t disk, std::uint64_t block) { return block | std::uint64_t{disk} << 48; }
  std::byte* memory_of(std::uint32_t slot) {
    return slabs_[slot / kSlabBlocks].get() + slot % kSlabBlocks * kDeltaBlockBytes;
  }
  std::uint32_t take_slot();

  std::uint32_t entries_max_ = 0;
  std::uint32_t hand_ = 0;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;
  std::vector<std::unique_ptr<std::byte[]>> slabs_;
  std::unordered_map<std::uint64_t, std::uint32_t> index_;  // key -> entry
};

}  // namespace understudy
