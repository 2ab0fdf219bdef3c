// SPDX-License-Identifier: Apache-2.0
// From pieces of a disk (view_layers.h) to their bytes, each proved by the checksum made at capture. Thread-safe.
//
// What is kept (ViewCache, kViewCacheBytesMax of memory): the tables of batches; of batches whose payloads are
// compressed together, the decoded payloads, in memory or, when there is a spill, in its file; of long payloads, the
// checksums of their blocks. Bytes that lie in a file as they are (base images, plain batches, the spill) are read each
// time and proved each time: a short payload as a whole, a long one, after the whole was proved once, block by block.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/store/journal.h"
#include "daemon/view/view_cache.h"
#include "daemon/view/view_layers.h"
#include "daemon/view/view_spill.h"

namespace understudy {

class ViewLoader {
 public:
  // Without a spill (nullptr), decoded payloads are kept in memory. With one, up to `spill_bytes_max` of it are used.
  ViewLoader(std::shared_ptr<const JournalSnapshot> snapshot, std::shared_ptr<ViewSpill> spill,
             std::uint64_t spill_bytes_max);

  // Fills `out`, which begins at `offset_bytes` of `disk`: with the bytes of `pieces`, which are sorted and lie within
  // it, and zeros between them. kCorrupt names the file when they are not what was captured; `out` then holds nothing
  // that may be used.
  Status read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const ViewPiece> pieces,
              std::span<std::byte> out) const;

  // The bytes of one piece; `holder` keeps them alive.
  struct Holder {
    std::shared_ptr<const void> owner;
    std::vector<std::byte> memory;
  };
  Result<std::span<const std::byte>> load(std::uint16_t disk, const ViewPiece& piece, Holder& holder) const;

  // What is kept now.
  ViewCacheWeight weight() const { return cache_.weight(); }

 private:
  struct PlacedRecord;
  struct Window;
  class Kept;
  using KeptPointer = ViewCache<Kept>::Pointer;

  Result<KeptPointer> table_of(const ViewPiece& piece) const;
  Result<KeptPointer> batch_of(const ViewPiece& piece) const;
  Result<KeptPointer> read_table(const ViewPiece& piece) const;
  Result<KeptPointer> decode(const ViewPiece& piece, bool may_spill) const;
  Result<KeptPointer> sums_of(Seq seq, const File& file, std::uint64_t offset_bytes, const PlacedRecord& record,
                              const Window& window) const;
  Result<KeptPointer> proof_of_base(std::uint16_t disk, const ViewPiece& piece, const File& file,
                                    const Window& window) const;
  Result<std::size_t> number_of(const Kept& batch, std::uint16_t disk, const ViewPiece& piece) const;

  Status read_base(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const ViewPiece> pieces,
                   std::span<std::byte> out) const;
  Status read_base_run(std::uint16_t disk, const File& file, std::span<const ViewPiece> pieces,
                       std::span<std::byte> out) const;
  Status read_journal(std::uint16_t disk, const ViewPiece& piece, std::span<std::byte> out) const;
  Status read_placed(const Kept& batch, const PlacedRecord& record, const ViewPiece& piece,
                     std::span<std::byte> out) const;
  Error damaged(const ViewPiece& piece, const std::string& what) const;

  const std::shared_ptr<const JournalSnapshot> snapshot_;
  const std::shared_ptr<ViewSpill> spill_;
  mutable ViewCache<Kept> cache_;
};

}  // namespace understudy
