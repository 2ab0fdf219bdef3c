// SPDX-License-Identifier: Apache-2.0
// From a piece of a disk (view_layers.h) to its bytes, each proved by the checksum made at capture. What is read often
// is kept: tables of batches, batches whose payloads are compressed together, checksums of the blocks of large payloads
// that have been proved. Payloads stored as they are, are read again instead: the page cache has them. Thread-safe.
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

namespace understudy {

class ViewLoader {
 public:
  explicit ViewLoader(std::shared_ptr<const JournalSnapshot> snapshot) : snapshot_(std::move(snapshot)) {}

  // The bytes of a piece of `disk`; `holder` keeps them alive. kCorrupt names the file when they are not what was
  // captured.
  Result<std::span<const std::byte>> load(std::uint16_t disk, const ViewPiece& piece, LoadedPointer& holder) const;

 private:
  Result<LoadedPointer> table_of(const ViewPiece& piece) const;
  Result<LoadedPointer> batch_of(const ViewPiece& piece) const;
  Result<LoadedPointer> plain_payload(const ViewPiece& piece, const Loaded& table, std::size_t record) const;
  Result<LoadedPointer> base_payload(const ViewPiece& piece, const Record& record) const;
  Result<LoadedPointer> payload_in(const File& file, std::uint64_t offset_bytes, const Record& record,
                                   const ViewPiece& piece) const;
  Error damaged(const ViewPiece& piece, const std::string& what) const;

  std::shared_ptr<const JournalSnapshot> snapshot_;
  mutable ViewCache cache_;
};

}  // namespace understudy
