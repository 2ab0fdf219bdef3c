// SPDX-License-Identifier: Apache-2.0
// The background work of one store: makes the index of each segment that was sealed, merges adjacent segments and runs
// into larger runs, and removes what they replaced. It can be stopped or killed at any time and finds by itself what is
// left. A turn does one index or one step of a merge. Runs on an executor of its own, so that no commit waits for it.
//
// Pace: a merge reads and writes no faster than its rate; while batches come in, a quarter of it, as long as few
// segments wait.
//
// Threads: all functions may be called from any thread, stop() not from a turn.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/receiver/store_executor.h"
#include "daemon/store/journal.h"
#include "daemon/store/merge_policy.h"
#include "daemon/store/run_merge.h"

namespace understudy {

struct MergeSettings {
  std::uint64_t bytes_per_second = 128ull << 20;  // read and written together; 0 = nothing is merged
  std::uint64_t memory_bytes = 128ull << 20;      // for payloads while they are sorted
  std::size_t files = 8;                          // of a size, side by side, are merged into one
  std::uint64_t run_bytes_max = 16ull << 30;
  std::uint32_t block_bytes = 128u << 10;
  bool operator==(const MergeSettings&) const = default;
};

// One of the kMergesMax (limits.h) merges that may run in this process.
class MergeTicket {
 public:
  MergeTicket() = default;
  ~MergeTicket() { give_back(); }
  MergeTicket(const MergeTicket&) = delete;
  MergeTicket& operator=(const MergeTicket&) = delete;
  bool take();  // true also when it was taken before
  void give_back();

 private:
  bool taken_ = false;
};

class StoreJobs final : public StoreTask {
 public:
  // The options of the store: its directory, file system and the size of a full segment.
  StoreJobs(std::string server_name, StoreOptions options, StoreExecutor& executor, const Clock& clock);
  // stop().
  ~StoreJobs() override;

  void set_merge(const MergeSettings& settings);
  // There may be something to do in `store`, which may be closed at any time.
  void post(const std::shared_ptr<Store>& store);
  // A commit took place.
  void committed() { last_commit_ns_ = clock_.boot_ns(); }
  // Appending finds no room: what an unfinished merge takes up is given back, and none is begun until there is room.
  void set_room(bool room);
  void stop();

  struct Figures {
    std::uint64_t indexes_written = 0;  // since the receiver started, and the next two
    std::uint64_t merges = 0;
    std::uint64_t merged_bytes = 0;      // written by merges
    std::uint64_t segments_waiting = 0;  // for their index
    std::uint64_t files = 0;             // segments and runs that the journal is made of
    std::uint64_t files_kept = 0;        // that runs replaced, but a view or pin still needs
    std::string last_error;              // empty when the last job succeeded
  };
  Figures figures() const;

  std::optional<std::uint64_t> turn() override;

 private:
  enum class Did : std::uint8_t { kNothing, kSomething, kFailed };
  Did index_one(const JournalSnapshot& snapshot);
  std::optional<std::uint64_t> merge_some(Store& store);
  enum class Begun : std::uint8_t { kYes, kNo, kLater };
  Begun begin_merge(Store& store);
  void end_merge(Store& store);
  void remove_superseded(Store& store);
  std::uint64_t pause_ns(std::uint64_t work_bytes) const;
  void give_up(const Error& error);
  void drop_merge();
  void failed(const Error& error, const std::string& what_then);

  const std::string server_name_;
  const StoreOptions options_;
  FileSystem& file_system_;
  StoreExecutor& executor_;
  const Clock& clock_;
  std::atomic<std::uint64_t> last_commit_ns_{0};

  mutable std::mutex mutex_;
  std::weak_ptr<Store> store_;
  MergeSettings settings_;
  bool room_ = true;
  bool stopped_ = false;
  Figures figures_;

  // Of turns only.
  std::uint64_t indexed_number_ = 0;  // segments up to this one have their index
  std::set<Seq> unreadable_;          // first seqs of damaged segments and runs: not tried again
  MergeTicket ticket_;                // while there is a merge_
  std::unique_ptr<RunMerge> merge_;
  std::vector<Seq> merged_;        // first seqs of what it merges
  std::uint64_t raw_waiting_ = 0;  // segments that are in no run
  bool removed_ = false;           // what was superseded before this process
  std::uint64_t files_kept_ = 0;
};

}  // namespace understudy
