// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/gap_tracker.h"

#include <algorithm>

namespace understudy {

void GapTracker::resume(const StreamPosition& position) {
  open_ = position.gap_open;
  reason_ = position.gap_reason;
  initial_copy_done_ = position.initial_copy_done;
  base_is_open_ = position.generation == kFirstGeneration;
  accounted_losses_ = position.cursor.loss_count;
}

std::optional<GapReason> GapTracker::before_event(std::uint64_t event_loss_count) {
  if (event_loss_count > accounted_losses_) return account(event_loss_count);
  // Made before a loss that the initial GAP already counted: what was lost may have been written over this event.
  if (event_loss_count < accounted_losses_ && copies_are_initial()) return account(accounted_losses_);
  return std::nullopt;
}

std::optional<GapReason> GapTracker::drained(std::uint64_t losses_total) {
  if (losses_total > accounted_losses_) return account(losses_total);
  return std::nullopt;
}

void GapTracker::open(GapReason reason, std::uint64_t losses_total) {
  open_ = true;
  reason_ = reason;
  accounted_losses_ = std::max(accounted_losses_, losses_total);
}

void GapTracker::start_anew(GapReason reason, std::uint64_t losses_total, bool initial_copy_done,
                            std::uint64_t generation) {
  open_ = true;
  reason_ = reason;
  initial_copy_done_ = initial_copy_done;
  base_is_open_ = generation == kFirstGeneration;
  accounted_losses_ = losses_total;
}

void GapTracker::heal() {
  open_ = false;
  initial_copy_done_ = true;
}

std::optional<GapReason> GapTracker::account(std::uint64_t losses) {
  accounted_losses_ = std::max(accounted_losses_, losses);
  if (open_ && !copies_are_initial()) return std::nullopt;
  open_ = true;
  base_is_open_ = false;
  reason_ = GapReason::kOverflow;
  return reason_;
}

}  // namespace understudy
