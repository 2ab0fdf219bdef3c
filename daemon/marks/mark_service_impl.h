// SPDX-License-Identifier: Apache-2.0
// What the files of the mark service share; for them only.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "daemon/marks/freezer.h"
#include "daemon/marks/mark_schedule.h"
#include "daemon/marks/mark_service.h"

namespace understudy {

// Older ones are forgotten.
inline constexpr std::size_t kMarkOutcomesKept = 256;

struct MarkService::Shared {
  explicit Shared(const MarkPolicy& wanted, std::uint64_t wall_ns)
      : policy(wanted), crash(wanted.crash_consistent, wall_ns), application(wanted.application_consistent, wall_ns) {}

  MarkOutcome* find(std::uint64_t id) {
    for (MarkOutcome& outcome : outcomes)
      if (outcome.id == id) return &outcome;
    return nullptr;
  }
  std::uint64_t add(MarkRequest request, bool scheduled) {
    if (outcomes.size() >= kMarkOutcomesKept) outcomes.pop_front();
    outcomes.push_back({});
    outcomes.back().id = ++last_id;
    outcomes.back().request = std::move(request);
    outcomes.back().scheduled = scheduled;
    return last_id;
  }

  mutable std::mutex mutex;  // guards everything but the two below
  std::condition_variable changed;
  MarkPolicy policy;
  MarkSchedule crash;
  MarkSchedule application;
  std::deque<std::uint64_t> queue;
  std::deque<MarkOutcome> outcomes;
  std::uint64_t last_id = 0;
  std::optional<Consistency> owed;  // a scheduled mark that could not be made at its time
  std::uint64_t retry_ns = 0;
  bool owed_told = false;
  std::atomic<bool> stop{false};
  std::function<void(const MarkEvent&)> on_event;  // set once
};

}  // namespace understudy
