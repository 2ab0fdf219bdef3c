// SPDX-License-Identifier: Apache-2.0
// The simulation's time: events in order of their time, one after another, in one thread. Events of the same instant
// happen in the order in which they were asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "daemon/base/clock.h"

namespace understudy::sim {

class Scheduler {
 public:
  using Time = std::uint64_t;  // nanoseconds since the simulated world began
  using EventId = std::uint64_t;  // 0 = none

  Time now() const { return now_; }
  EventId at(Time when, std::function<void()> what) {
    const EventId id = next_id_++;
    when = when < now_ ? now_ : when;
    queue_.emplace(std::pair(when, id), std::move(what));
    times_.emplace(id, when);
    return id;
  }
  EventId after(Time delay, std::function<void()> what) { return at(now_ + delay, std::move(what)); }
  // Nothing when it has happened already.
  void cancel(EventId id) {
    const auto found = times_.find(id);
    if (found == times_.end()) return;
    queue_.erase(std::pair(found->second, id));
    times_.erase(found);
  }
  // False = nothing is left to happen.
  bool run_next() {
    if (queue_.empty()) return false;
    auto first = queue_.begin();
    now_ = first->first.first;
    times_.erase(first->first.second);
    const std::function<void()> what = std::move(first->second);
    queue_.erase(first);
    ++events_run_;
    what();
    return true;
  }
  std::uint64_t events_run() const { return events_run_; }

 private:
  Time now_ = 0;
  EventId next_id_ = 1;
  std::uint64_t events_run_ = 0;
  std::map<std::pair<Time, EventId>, std::function<void()>> queue_;
  std::map<EventId, Time> times_;
};

// The clocks of one machine. The boot clock begins anew with each boot and never jumps; the wall clock may.
class MachineClock final : public Clock {
 public:
  MachineClock(const Scheduler& scheduler, std::uint64_t wall_offset_ns)
      : scheduler_(scheduler), wall_offset_ns_(wall_offset_ns) {}

  std::uint64_t boot_ns() const override { return scheduler_.now() - booted_at_ + kFirstBootNs; }
  std::uint64_t wall_ns() const override { return scheduler_.now() + wall_offset_ns_; }

  void reboot() { booted_at_ = scheduler_.now(); }
  void step_wall(std::int64_t by_ns) { wall_offset_ns_ += static_cast<std::uint64_t>(by_ns); }
  Scheduler::Time world_time(std::uint64_t boot_ns) const {
    return boot_ns <= kFirstBootNs ? booted_at_ : booted_at_ + boot_ns - kFirstBootNs;
  }

 private:
  static constexpr std::uint64_t kFirstBootNs = 1'000'000'000;
  const Scheduler& scheduler_;
  std::uint64_t wall_offset_ns_;
  Scheduler::Time booted_at_ = 0;
};

}  // namespace understudy::sim
