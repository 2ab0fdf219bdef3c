// SPDX-License-Identifier: Apache-2.0
// Makes one run out of adjacent sealed segments and runs (run_format.h): the same records, each payload once, in the
// order of the index. A step is a bounded piece of work, so that a job can be paced, stopped and killed anywhere.
//
// Nothing is taken over unproved: what is merged is hashed as a whole against the hash chain, or, of a run, against the
// MANIFEST; every payload is checked against the checksum of its capture; and what was written is read back and hashed.
//
// Memory: `payload_bytes_max` and 100 bytes for each record that lies in it, 16 for each batch, the fences of the
// index. Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/base/result.h"
#include "daemon/store/file_system.h"
#include "daemon/store/journal.h"
#include "daemon/store/run_reader.h"
#include "daemon/store/segment_index.h"
#include "daemon/store/segment_index_writer.h"

namespace understudy {

struct MergedRun {
  std::string name;
  RunInfo info;
  Sha256Digest digest{};
};

struct RunMergeOptions {
  // Payload sorted in memory at a time: what is merged is read once for each of these. One record may be larger.
  std::uint64_t payload_bytes_max = 128ull << 20;
  // Payload of a block, before compression.
  std::uint32_t block_bytes = 128u << 10;
};

class RunMerge {
 public:
  // Of segments()[first] to segments()[first + count - 1] of the snapshot, which is held until the end. kCorrupt when
  // the index of one of them can't be made.
  static Result<std::unique_ptr<RunMerge>> begin(FileSystem& file_system, const std::string& store_directory,
                                                 std::shared_ptr<const JournalSnapshot> snapshot, std::size_t first,
                                                 std::size_t count, const RunMergeOptions& options);
  // Removes what is not finished.
  ~RunMerge();

  // true = the run is there under its name, durable. kCorrupt: what was to be merged is damaged, and stays as it is.
  // After an error there is no way to go on.
  Result<bool> step();
  const MergedRun& run() const { return run_; }
  // Read and written so far.
  std::uint64_t work_bytes() const { return work_bytes_; }
  std::uint64_t written_bytes() const { return written_bytes_; }

 private:
  enum class Phase { kStream, kGather, kLoad, kWrite, kFinish, kProve, kDone };
  struct Input {
    std::size_t segment = 0;  // in the snapshot
    std::shared_ptr<const SegmentIndex> index;
    std::unique_ptr<SegmentIndexScan> scan;
    std::optional<SegmentIndexScan::Entry> head;
  };
  struct Item {
    SegmentIndexScan::Entry entry;
    std::uint32_t input = 0;
    std::uint64_t payload_offset = 0;  // in payload_
    std::uint64_t checksum = 0;
    RecordKind kind = RecordKind::kWrite;
    std::uint8_t flags = 0;
    Codec codec = Codec::kNone;
  };
  struct StreamFrame {
    Seq first_seq = 0;
    std::uint32_t place = 0;
    std::uint32_t batch_bytes = 0;
  };

  RunMerge(FileSystem& file_system, std::string directory, std::shared_ptr<const JournalSnapshot> snapshot,
           const RunMergeOptions& options);
  Status prepare(std::size_t first, std::size_t count);
  Status open_input();
  Status end_input();
  Status stream_some();
  Status hash_some();
  Status stream_batch();
  Status write_stream_frame(const BatchReader& batch, const FrameInfo& frame, const Sha256Digest& head);
  Status begin_index();
  Status gather();
  Status load_some();
  Status load_frame(std::size_t begin, std::size_t end);
  Status write_some();
  Status write_block(std::size_t begin, std::size_t end);
  Result<IndexEntry> entry_of(const Item& item);
  Status flush_pages();
  Status flush_blocks();
  Status finish();
  Status prove_some();
  Error damaged(const Input& input, const std::string& what) const;

  FileSystem& file_system_;
  const std::string directory_;  // of runs
  const std::shared_ptr<const JournalSnapshot> snapshot_;
  const RunMergeOptions options_;
  Phase phase_ = Phase::kStream;
  MergedRun run_;
  std::string temporary_;
  std::unique_ptr<File> file_;
  bool made_ = false;  // temporary_ is ours to remove
  std::uint64_t work_bytes_ = 0;
  std::uint64_t written_bytes_ = 0;

  std::vector<Input> inputs_;
  // Of the stream part.
  std::size_t input_ = 0;
  std::shared_ptr<const File> input_file_;
  std::optional<SegmentEntryReader> reader_;
  Sha256 digest_;
  std::uint64_t hashed_bytes_ = 0;
  std::vector<std::byte> stored_;
  std::vector<std::byte> out_;
  std::uint64_t stream_end_ = 0;  // written, out_ included
  std::optional<SegmentIndexBuilder> events_;
  std::vector<StreamFrame> stream_frames_;

  // Of the blocks.
  std::optional<IndexPages> pages_;
  std::uint64_t pages_at_ = 0;
  std::uint64_t pages_end_ = 0;
  std::uint64_t blocks_at_ = 0;  // written, out_ not included
  std::uint64_t block_count_ = 0;
  std::vector<Item> items_;
  std::vector<std::uint32_t> by_frame_;
  std::size_t next_ = 0;  // in by_frame_ or items_
  std::vector<std::byte> payload_;
};

}  // namespace understudy
