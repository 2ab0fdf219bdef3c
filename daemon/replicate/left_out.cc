// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/left_out.h"

#include <algorithm>
#include <utility>

namespace understudy {
namespace {

constexpr std::uint32_t kAttemptsMax = 3;
// Far longer than a capture program takes from the mark in the dirty map to the loss count.
constexpr std::uint64_t kSettleNs = 50'000'000;
constexpr std::uint64_t kLookNs = 20'000'000;
// A step must not keep events waiting: about 10 ms of work.
constexpr std::uint64_t kGranulesPerStepMax = 1u << 20;

}  // namespace

void LeftOut::begin(std::uint64_t now_ns) {
  reset();
  if (wait_ns_ == 0) return;
  state_ = State::kWanted;
  ++request_;
  wait_until_ns_ = now_ns + wait_ns_;
}

void LeftOut::start_anew() {
  reset();
  bytes_ = 0;
}

void LeftOut::give_up() {
  for (const GranuleRange& range : claimed_) tracker_.dirty().unclaim(range);
  reset();
}

void LeftOut::reset() {
  state_ = State::kIdle;
  attempts_ = 0;
  next_ = 0;
  free_.clear();
  claimed_.clear();
}

std::optional<std::uint64_t> LeftOut::take_request() {
  if (state_ != State::kWanted) return std::nullopt;
  state_ = State::kAsked;
  ++attempts_;
  losses_ = tracker_.losses().total;
  return request_;
}

void LeftOut::offer(std::uint64_t request, std::vector<GranuleRange> free) {
  if (state_ != State::kAsked || request != request_) return;
  std::erase_if(free, [this](const GranuleRange& range) {  // of a disk that is gone
    return std::none_of(tracker_.disks().begin(), tracker_.disks().end(),
                        [&](const TrackedDisk& disk) { return disk.slot == range.disk; });
  });
  free_ = std::move(free);
  next_ = 0;
  state_ = State::kClaiming;
}

std::uint64_t LeftOut::work(std::uint64_t now_ns, bool copier_rests,
                            const std::function<void(const GranuleRange&)>& on_claim) {
  if (state_ == State::kClaiming && copier_rests) claim(now_ns, on_claim);
  if (state_ == State::kSettling && now_ns >= settled_at_ns_) return finish();
  return 0;
}

void LeftOut::claim(std::uint64_t now_ns, const std::function<void(const GranuleRange&)>& on_claim) {
  DirtyMap& dirty = tracker_.dirty();
  std::uint64_t budget = kGranulesPerStepMax;
  while (next_ < free_.size() && budget > 0) {
    GranuleRange& wanted = free_[next_];
    const auto range =
        wanted.count == 0 ? std::nullopt : dirty.claim_next(wanted.disk, wanted.first, std::min(wanted.count, budget));
    const std::uint64_t end = wanted.first + wanted.count;
    if (!range || range->first >= end) {  // nothing dirty in it any more
      if (range) dirty.unclaim(*range);
      ++next_;
      --budget;
      continue;
    }
    GranuleRange mine = *range;
    if (mine.first + mine.count > end) {
      dirty.unclaim({mine.disk, end, mine.first + mine.count - end});
      mine.count = end - mine.first;
    }
    on_claim(mine);
    claimed_.push_back(mine);
    wanted = {mine.disk, mine.first + mine.count, end - (mine.first + mine.count)};
    budget -= std::min(budget, mine.count);
  }
  if (next_ < free_.size()) return;
  free_.clear();
  if (claimed_.empty()) {
    state_ = State::kIdle;
    return;
  }
  state_ = State::kSettling;
  settled_at_ns_ = now_ns + kSettleNs;
}

std::uint64_t LeftOut::finish() {
  DirtyMap& dirty = tracker_.dirty();
  std::vector<GranuleRange> claimed = std::exchange(claimed_, {});
  if (tracker_.losses().total != losses_) {
    for (const GranuleRange& range : claimed) dirty.unclaim(range);
    ask_again();
    return 0;
  }
  std::uint64_t bytes = 0;
  for (const GranuleRange& range : claimed) {
    dirty.finish(range);
    for (const TrackedDisk& disk : tracker_.disks()) {
      if (disk.slot != range.disk) continue;
      const std::uint64_t offset = range.first * disk.granule_bytes;
      bytes += std::min(range.count * disk.granule_bytes, disk.size_bytes - offset);
    }
  }
  bytes_ += bytes;
  left_out_ = std::move(claimed);
  state_ = State::kIdle;
  return bytes;
}

void LeftOut::ask_again() {
  if (attempts_ >= kAttemptsMax) {
    state_ = State::kIdle;
    return;
  }
  state_ = State::kWanted;
  ++request_;
}

bool LeftOut::holds_copy(std::uint64_t now_ns) const {
  if (state_ == State::kWanted || state_ == State::kAsked) return now_ns < wait_until_ns_;
  return holds_heal();
}

std::optional<std::uint64_t> LeftOut::wake_at_ns(std::uint64_t now_ns) const {
  if (state_ == State::kIdle) return std::nullopt;
  if (state_ == State::kAsked) return now_ns < wait_until_ns_ ? std::optional(wait_until_ns_) : std::nullopt;
  return now_ns + kLookNs;
}

}  // namespace understudy
