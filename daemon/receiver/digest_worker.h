// SPDX-License-Identifier: Apache-2.0
// Answers the questions of a digest scan about one store, on a thread of its own, so that appends never wait for the
// reading: the store's thread hands over a snapshot that stands at the question's position and goes on. Snapshots are
// immutable, and questions come in stream order, so the content only ever moves forward (view/end_view.h).
//
// The thread starts with the first question. In the whole process only kDigestStoresAtATimeMax stores are compared at a
// time.
//
// Threads: functions may be called from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/digest/digest_check.h"
#include "daemon/store/journal.h"

namespace understudy {

class DigestWorker {
 public:
  using Answer = std::function<void(const DigestAnswer&)>;

  explicit DigestWorker(std::string server_name);
  ~DigestWorker();
  DigestWorker(const DigestWorker&) = delete;
  DigestWorker& operator=(const DigestWorker&) = delete;

  // `answer` is called on the worker's thread; dropped when the worker ends before.
  void ask(DigestQuestion question, std::shared_ptr<const JournalSnapshot> snapshot, Answer answer);
  // Ends it soon: nothing more is answered. The destructor waits for it.
  void request_stop();
  // Forgets what waits: the session that asked is gone.
  void forget();

  struct Statistics {
    std::uint64_t questions = 0;
    std::uint64_t bytes_compared = 0;
    std::uint64_t regions_different = 0;
  };
  Statistics statistics() const;

 private:
  struct Item {
    DigestQuestion question;
    std::shared_ptr<const JournalSnapshot> snapshot;
    Answer answer;
  };
  class Content;
  void run();
  DigestAnswer answer(const Item& item);

  const std::string server_name_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Item> queue_;
  bool stop_ = false;
  Statistics statistics_;
  std::thread thread_;

  // Of the thread only.
  std::unique_ptr<Content> content_;
  DigestCheck check_;
};

}  // namespace understudy
