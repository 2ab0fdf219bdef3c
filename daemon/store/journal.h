// SPDX-License-Identifier: Apache-2.0
// Reading a store: which segments are durable, and the batches in them one after another.
//
// A JournalSnapshot is immutable and independent of the Store it came from: views and jobs keep it as long as they
// like. Thread-safe. A JournalReader is used by one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/batch.h"
#include "daemon/store/file_cache.h"
#include "daemon/store/file_system.h"
#include "daemon/store/run_reader.h"
#include "daemon/store/segment_index.h"
#include "daemon/store/segment_reader.h"
#include "daemon/store/store.h"
#include "daemon/store/store_pin.h"

namespace understudy {

// A segment, or a run that stands for several: then `info` is that of the first of them, and a reader of its frames
// finds the same batches, flagged where their payloads lie in the run's blocks.
struct JournalSegment {
  std::string name;
  SegmentInfo info;
  std::uint64_t end_bytes = 0;                   // of what is durable, in a run of its stream part
  std::shared_ptr<const RunInfo> run = nullptr;  // null = a segment
  Sha256Digest run_digest{};                     // of the whole run, as the MANIFEST says

  bool is_run() const { return run != nullptr; }
  std::uint64_t last_number() const { return is_run() ? run->last_number : info.number; }
  std::uint64_t file_bytes() const { return is_run() ? run->file_bytes : end_bytes; }
  // Where frames may lie, those with blocks included.
  std::uint64_t frames_limit_bytes() const { return is_run() ? run->blocks_end_bytes : end_bytes; }
};

class JournalSnapshot {
 public:
  JournalSnapshot(FileSystem& file_system, std::string directory, std::string base_directory, StoreIdentity identity,
                  StreamPosition position, std::vector<JournalSegment> segments, std::vector<Damage> damage,
                  std::uint64_t layout = 0, std::shared_ptr<const StorePin> pin = nullptr);

  const StoreIdentity& identity() const { return identity_; }
  const StreamPosition& position() const { return position_; }
  const std::vector<JournalSegment>& segments() const { return segments_; }
  // Found when the store was opened, torn tail excepted. Nothing at or after it is in segments().
  const std::vector<Damage>& damage() const { return damage_; }
  std::uint64_t journal_bytes() const;

  std::string journal_directory() const;
  std::string segment_path(std::size_t index) const;
  // Counts the changes of which files there are.
  std::uint64_t layout() const { return layout_; }
  // Whether a run of now stands for a segment or run of this snapshot, so that its file may be gone.
  Result<bool> is_superseded(std::size_t index) const;
  // Opens every file of the journal and keeps it open: for a reader that nothing else keeps them for.
  Status hold_files() const;

  // Of segments and runs. Opened on first use; the newest few stay open.
  Result<std::shared_ptr<const File>> open_segment(std::size_t index) const;

  // The index of a segment: its file, when there is a good one, else one made in memory from the segment's tables and
  // kept with the snapshot. An Error means that reading failed; of damaged tables the index covers what stands before.
  struct Indexed {
    std::shared_ptr<const SegmentIndex> index;
    std::optional<Damage> damage;  // the segment can't be read from here on
  };
  Result<Indexed> segment_index(std::size_t index) const;
  // Runs `use` on the index of a segment; when that fails because the file is damaged, on one made from the segment.
  Status with_segment_index(std::size_t index, const std::function<Status(const SegmentIndex&)>& use) const;
  // Just the file: kNotFound when there is none, kCorrupt when it is damaged or not of this segment.
  Result<std::shared_ptr<const SegmentIndex>> open_segment_index(std::size_t index) const;
  // Number of the segment that holds `seq`, or of the last one; there must be one.
  std::size_t segment_of(Seq seq) const;
  // What the indexes opened so far take up.
  std::uint64_t index_memory_bytes() const;

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
  std::uint64_t layout_ = 0;
  std::shared_ptr<const StorePin> pin_;
  mutable std::map<std::size_t, std::shared_ptr<const File>> held_files_;
  mutable std::map<std::size_t, std::shared_ptr<const File>> held_indexes_;

  Result<Indexed> scan_index(std::size_t index) const;
  std::shared_ptr<const File> index_file(std::size_t index, const std::string& name) const;
  std::shared_ptr<FileCache> index_files_;
  mutable std::mutex index_mutex_;  // before mutex_
  mutable std::map<std::size_t, Indexed> indexes_;
};

// Where a batch lies.
struct BatchLocation {
  std::uint32_t segment = 0;  // index in JournalSnapshot::segments()
  FrameInfo frame;
};

struct JournalEntry {
  BatchLocation location;
  BatchReader batch;              // as by decode_table(), with the payloads of GAP, MARK and GEOMETRY filled in
  std::vector<std::byte> stored;  // memory of those payloads
};

// Walks the tables of one segment. File and segment must outlive it.
class SegmentEntryReader {
 public:
  // Begins with the first batch, or at `offset_bytes`, where a frame begins.
  SegmentEntryReader(const File& file, const JournalSegment& segment, std::uint64_t offset_bytes = 0);

  bool at_end() const { return offset_bytes_ >= segment_.end_bytes; }
  std::uint64_t offset_bytes() const { return offset_bytes_; }
  Seq expected_seq() const { return expected_seq_; }  // 0 = not known yet
  // Not at the end. After an error there is no way to go on.
  Result<JournalEntry> next();

 private:
  const File& file_;
  const JournalSegment& segment_;
  std::uint64_t offset_bytes_ = 0;
  Seq expected_seq_ = 0;
  std::vector<std::byte> scratch_;
};

// Walks the tables of a snapshot in order of seq.
class JournalReader {
 public:
  // Begins with the first batch, or at a batch found before.
  explicit JournalReader(std::shared_ptr<const JournalSnapshot> snapshot);
  JournalReader(std::shared_ptr<const JournalSnapshot> snapshot, const BatchLocation& from);
  // Begins at or before the batch that holds record `seq`, which exists.
  static Result<JournalReader> from_seq(std::shared_ptr<const JournalSnapshot> snapshot, Seq seq);

  using Entry = JournalEntry;
  // nullptr = the end. An Error names the segment, and damage() then says what is affected; there is no way to go on.
  Result<std::unique_ptr<Entry>> next();
  const std::optional<Damage>& damage() const { return damage_; }

 private:
  std::shared_ptr<const JournalSnapshot> snapshot_;
  std::shared_ptr<const File> file_;
  std::optional<SegmentEntryReader> reader_;  // of file_
  std::size_t segment_ = 0;
  std::uint64_t offset_bytes_ = 0;  // where to begin; 0 = with the segment
  std::optional<Damage> damage_;
};

// SHA-256 of what is durable of the last segment; zeros for an empty journal.
Result<Sha256Digest> digest_last_segment(const JournalSnapshot& snapshot);

// The whole batch at a location, checked; `stored` holds its bytes and must live as long as the reader. Of the frame,
// offset and batch_bytes are needed; first_seq is checked unless it is 0.
Result<BatchReader> read_batch(const JournalSnapshot& snapshot, const BatchLocation& location,
                               std::vector<std::byte>& stored, Verify verify, BatchOrder order = BatchOrder::kStream);

// The batch that holds the payload of record `seq`, which covers byte `offset_bytes` of `disk`, wherever it lies: in
// the batch of the stream or, when that is in a run, in one of its blocks.
Result<BatchReader> read_payload_batch(const JournalSnapshot& snapshot, Seq seq, std::uint16_t disk,
                                       std::uint64_t offset_bytes, const FrameInfo& frame,
                                       std::vector<std::byte>& stored);

}  // namespace understudy
