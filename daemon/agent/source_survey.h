// SPDX-License-Identifier: Apache-2.0
// The thread that surveys the protected disks (daemon/source): once at the start for its findings, and whenever a full
// copy asks what it may leave out.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "daemon/source/survey.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

class SourceSurvey {
 public:
  // `free_space`: false = findings only, answers are empty.
  SourceSurvey(const std::vector<TrackedDisk>& disks, bool free_space, bool leave_out_swap);
  ~SourceSurvey() { stop(); }
  SourceSurvey(const SourceSurvey&) = delete;
  SourceSurvey& operator=(const SourceSurvey&) = delete;

  // Called on the survey's thread.
  using Answer = std::function<void(std::uint64_t request, std::vector<GranuleRange> free)>;
  Status start(Answer answer);
  // Ends the thread; a survey under way is given up. No answer comes afterwards.
  void stop();
  // Thread-safe, also before start(). Of several that wait, the newest is answered.
  void ask(std::uint64_t request);
  // Of the newest survey. Thread-safe.
  std::vector<Finding> findings() const;

 private:
  void run(const Answer& answer);
  std::vector<GranuleRange> look(bool free_space);

  std::vector<SurveyDisk> disks_;
  const bool free_space_;
  const bool leave_out_swap_;
  std::atomic<bool> cancel_{false};
  mutable std::mutex mutex_;  // guards request_ and findings_
  std::condition_variable asked_;
  std::optional<std::uint64_t> request_;
  std::vector<Finding> findings_;
  std::thread thread_;
};

}  // namespace understudy
