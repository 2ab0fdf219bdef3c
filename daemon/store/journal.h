// SPDX-License-Identifier: Apache-2.0
// Reading a store: which segments are durable, and the batches in them one after another.
//
// A JournalSnapshot is immutable and independent of the Store it came from: views and jobs keep it as long as they
// like. Thread-safe. A JournalReader is used by one thread.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/batch.h"
#include "daemon/store/file_system.h"
#include "daemon/store/segment_reader.h"
#include "daemon/store/store.h"

namespace understudy {

struct JournalSegment {
  std::string name;
  SegmentInfo info;
  std::uint64_t end_bytes = 0;  // of what is durable
};

class JournalSnapshot {
 public:
  JournalSnapshot(FileSystem& file_system, std::string directory, std::string base_directory, StoreIdentity identity,
                  StreamPosition position, std::vector<JournalSegment> segments, std::vector<Damage> damage);

  const StoreIdentity& identity() const { return identity_; }
  const StreamPosition& position() const { return position_; }
  const std::vector<JournalSegment>& segments() const { return segments_; }
  // Found when the store was opened, torn tail excepted. Nothing at or after it is in segments().
  const std::vector<Damage>& damage() const { return damage_; }
  std::uint64_t journal_bytes() const;

  // Opened on first use; the newest few stay open.
  Result<std::shared_ptr<const File>> open_segment(std::size_t index) const;
  // kNotFound when no initial copy of the disk has put anything there.
  Result<std::shared_ptr<const File>> open_base(std::uint16_t disk) const;
  // Space that the base images take up; those that can't be opened count as nothing.
  std::uint64_t base_allocated_bytes() const;

 private:
  FileSystem& file_system_;
  std::string directory_;
  std::string base_directory_;
  StoreIdentity identity_;
  StreamPosition position_;
  std::vector<JournalSegment> segments_;
  std::vector<Damage> damage_;
  mutable std::mutex mutex_;
  mutable std::list<std::pair<std::size_t, std::shared_ptr<const File>>> open_segments_;  // newest use first
  mutable std::map<std::uint16_t, std::shared_ptr<const File>> open_bases_;
};

// Where a batch lies.
struct BatchLocation {
  std::uint32_t segment = 0;  // index in JournalSnapshot::segments()
  FrameInfo frame;
};

// Walks the tables of a snapshot in order of seq.
class JournalReader {
 public:
  // Begins with the first batch, or at a batch found before.
  explicit JournalReader(std::shared_ptr<const JournalSnapshot> snapshot);
  JournalReader(std::shared_ptr<const JournalSnapshot> snapshot, const BatchLocation& from);

  struct Entry {
    BatchLocation location;
    BatchReader batch;              // as by decode_table(), with the payloads of GAP, MARK and GEOMETRY filled in
    std::vector<std::byte> stored;  // memory of those payloads
  };
  // nullptr = the end. An Error names the segment, and damage() then says what is affected; there is no way to go on.
  Result<std::unique_ptr<Entry>> next();
  const std::optional<Damage>& damage() const { return damage_; }

 private:
  Result<Entry> read_entry(const File& file, const JournalSegment& segment);
  std::shared_ptr<const JournalSnapshot> snapshot_;
  std::shared_ptr<const File> file_;
  std::size_t segment_ = 0;
  std::uint64_t offset_bytes_ = 0;
  Seq expected_seq_ = 0;  // 0 = not known yet
  std::optional<Damage> damage_;
  std::vector<std::byte> scratch_;
};

// The whole batch at a location, checked; `stored` holds its bytes and must live as long as the reader.
Result<BatchReader> read_batch(const JournalSnapshot& snapshot, const BatchLocation& location,
                               std::vector<std::byte>& stored, Verify verify);

}  // namespace understudy
