// SPDX-License-Identifier: Apache-2.0
// Answers the questions of digest scans about one store, beside the appending: the store's turn hands over a snapshot
// that stands at the question's position and goes on. Snapshots are immutable, and questions come in stream order, so
// the content only ever moves forward (view/end_view.h).
//
// It has no thread of its own: a turn looks at kDigestSliceBatches of the journal, or reads and hashes
// kDigestSliceBytes, and then others have theirs. So a store with a long journal, or on a slow disk, holds up neither
// appends nor, for long, the comparing of other stores.
//
// Memory: what is known of the journal is kept between questions, and dropped when there was none for a while. All
// stores of the process together have kDigestIndexBytesMax of it; a store that would need more is not compared
// (DigestVerdict::kUnavailable: a repair copies it instead, a scrub proves nothing).
//
// Threads: functions may be called from any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/digest/digest_check.h"
#include "daemon/receiver/store_executor.h"
#include "daemon/store/journal.h"

namespace understudy {

class DigestWorker final : public StoreTask {
 public:
  using Answer = std::function<void(const DigestAnswer&)>;

  // Executor and clock must outlive it.
  DigestWorker(std::string server_name, StoreExecutor& executor, const Clock& clock);
  // Waits for the end of a turn that runs.
  ~DigestWorker() override;
  DigestWorker(const DigestWorker&) = delete;
  DigestWorker& operator=(const DigestWorker&) = delete;

  // `answer` is called from a turn; dropped when the worker ends before.
  void ask(DigestQuestion question, std::shared_ptr<const JournalSnapshot> snapshot, Answer answer);
  // Nothing more is answered. Does not wait.
  void stop_soon();
  // Forgets what waits: the session that asked is gone.
  void forget();

  struct Statistics {
    std::uint64_t questions = 0;
    std::uint64_t bytes_compared = 0;
    std::uint64_t regions_different = 0;
  };
  Statistics statistics() const;

  std::optional<std::uint64_t> turn() override;

 private:
  struct Item {
    DigestQuestion question;
    std::shared_ptr<const JournalSnapshot> snapshot;
    Answer answer;
  };
  class Content;
  enum class Stage : std::uint8_t { kNew, kIndexing, kReading };

  bool next_item();
  // One slice of the item's work; the answer when all is done.
  std::optional<DigestAnswer> work();
  std::optional<DigestAnswer> begin();
  std::optional<DigestAnswer> index();
  void finish(const DigestAnswer& answer);
  DigestAnswer not_now(DigestVerdict verdict) const;
  void drop_content();

  const std::string server_name_;
  StoreExecutor& executor_;
  const Clock& clock_;
  mutable std::mutex mutex_;  // guards the next three
  std::deque<Item> queue_;
  bool stop_ = false;
  Statistics statistics_;

  // Of turns only.
  std::optional<Item> item_;  // under way
  Stage stage_ = Stage::kNew;
  std::unique_ptr<Content> content_;
  std::uint64_t index_bytes_ = 0;      // of content_, counted against the bound of the process
  std::uint64_t too_large_until_ns_ = 0;  // boot clock: until then it is not tried again
  std::uint64_t last_used_ns_ = 0;
  DigestCheck check_;
};

}  // namespace understudy
