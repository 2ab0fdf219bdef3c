// SPDX-License-Identifier: Apache-2.0
// The background work of one store: makes the index of each segment that was sealed. It works on snapshots, so the
// store may go on, or be closed, meanwhile; it can be stopped or killed at any time and finds by itself what is left.
// A turn does one segment. Runs on an executor of its own, so that no commit waits for it.
//
// Threads: all functions may be called from any thread, stop() not from a turn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "daemon/receiver/store_executor.h"
#include "daemon/store/journal.h"

namespace understudy {

class StoreJobs final : public StoreTask {
 public:
  StoreJobs(std::string server_name, FileSystem& file_system, StoreExecutor& executor);
  // stop().
  ~StoreJobs() override;

  // There may be something to do in what was sealed of `snapshot`.
  void post(std::shared_ptr<const JournalSnapshot> snapshot);
  void stop();

  struct Figures {
    std::uint64_t indexes_written = 0;  // since the receiver started
    std::uint64_t segments_waiting = 0;
    std::string last_error;  // empty when the last one was written
  };
  Figures figures() const;

  std::optional<std::uint64_t> turn() override;

 private:
  const std::string server_name_;
  FileSystem& file_system_;
  StoreExecutor& executor_;

  mutable std::mutex mutex_;
  std::shared_ptr<const JournalSnapshot> posted_;
  bool stopped_ = false;
  Figures figures_;

  // Of turns only.
  std::shared_ptr<const JournalSnapshot> snapshot_;
  std::size_t next_ = 0;      // segments before it are done
  std::set<Seq> unreadable_;  // first seqs of damaged segments: not tried again
};

}  // namespace understudy
