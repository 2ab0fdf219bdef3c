// SPDX-License-Identifier: Apache-2.0
// The disks as they are at the end of a store's stream: an index that moves forward with the journal, so that asking
// again and again costs what is new and not the whole journal. Unlike a point's view (view.h) it is not refused inside
// a gap: it says what the receiver holds, not what can be recovered.
//
// Every payload that is used is checked against the checksum of its capture or copy, in the base, too, as a point's
// view does: what that would refuse is an error here.
//
// Memory: about 80 bytes for each stretch of a disk whose bytes lie together, 40 for each batch, 24 for each copy in
// the base.
//
// Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/store/journal.h"

namespace understudy {

class EndView {
 public:
  // Whether `snapshot`, of the same store as the ones before, still has the records that the view was made of, merged
  // or not: else it has to be made anew.
  bool continues(const JournalSnapshot& snapshot) const;
  // Begins to take in what `snapshot` has more; continues() it. go_on() does it, `batches_max` at a time: true = the
  // view stands at the snapshot's end. An error leaves the view unusable: make a new one. The records of initial copies
  // that are still to come change the base under the view: it is true only of a snapshot behind the last of them.
  void follow(std::shared_ptr<const JournalSnapshot> snapshot);
  Result<bool> go_on(std::size_t batches_max);
  // Both, to the end.
  Status advance(std::shared_ptr<const JournalSnapshot> snapshot);

  // Behind go_on() == true only, here and below.
  Seq seq() const { return seq_; }
  std::optional<std::uint64_t> disk_bytes(std::uint16_t disk) const;
  // True when no record put anything but zeros there.
  bool known_zeros(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes) const;
  // The bytes of an extent within the disk: where they lie together, in the view's own memory, until its next call;
  // else in `room`, which is as long.
  Result<std::span<const std::byte>> read(std::uint16_t disk, std::uint64_t offset_bytes,
                                          std::span<std::byte> room) const;
  // Memory of what is known of the journal, about.
  std::uint64_t index_bytes() const;

 private:
  struct Piece {
    std::uint64_t end_bytes = 0;
    std::uint32_t batch = 0;   // index into batches_, or kInBase
    std::uint32_t record = 0;  // in the batch; in the base: index into base_records_
  };
  struct BaseRecord {
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    std::uint64_t checksum = 0;
  };
  using Pieces = std::map<std::uint64_t, Piece>;  // by first byte, not overlapping
  struct LoadedBatch {
    std::uint32_t batch = 0;
    std::vector<std::byte> stored;
    BatchReader reader;
  };

  void begin_at_start();
  Result<JournalReader> reader_behind_last() const;
  Status add(const JournalReader::Entry& entry);
  void clear(std::uint16_t disk, std::uint64_t begin_bytes, std::uint64_t end_bytes);
  Status set_geometry(const Record& record);
  Result<std::shared_ptr<const LoadedBatch>> load(std::uint32_t batch, Seq seq, std::uint16_t disk,
                                                  std::uint64_t offset_bytes) const;
  Status load_base(std::uint16_t disk, std::uint32_t index) const;
  // `length_bytes` of it, from there on.
  Result<std::span<const std::byte>> read_piece(std::uint16_t disk, std::uint64_t offset_bytes, const Piece& piece,
                                                std::uint64_t length_bytes) const;

  std::shared_ptr<const JournalSnapshot> snapshot_;
  std::optional<JournalReader> reader_;  // of snapshot_, while it is being taken in
  bool started_ = false;
  bool due_ = false;   // snapshot_ is to be taken in
  Seq first_seq_ = 0;  // the journal's first record
  Seq seq_ = 0;
  std::vector<DiskGeometry> disks_;
  std::map<std::uint16_t, Pieces> pieces_;
  // Those that a piece may name, where they lay when they were taken in: in a segment, which stays as it is until a run
  // takes its place, or in a run, where only the seq counts.
  std::vector<FrameInfo> batches_;
  std::optional<FrameInfo> last_;                                // taken in last, likewise
  mutable std::list<std::shared_ptr<const LoadedBatch>> cache_;  // newest use first
  mutable std::size_t cache_bytes_ = 0;
  std::vector<BaseRecord> base_records_;
  mutable std::vector<std::byte> base_;  // of the record base_index_
  mutable std::optional<std::uint32_t> base_index_;
};

}  // namespace understudy
