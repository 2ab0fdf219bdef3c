// SPDX-License-Identifier: Apache-2.0
// Decides where the stream must say that it lacks writes (GAP), from the loss figures of the capture. Pure.
//
//   whole --loss--> GAP(overflow) --HEAL--> whole
//   whole --new capture, receiver behind--> GAP(reason) --HEAL--> whole
//   GAP(initial copy) --loss--> GAP(overflow), a second GAP record inside the gap, and the next generation
//
// The last one is why base images stay right: copies of the first full copy go under the journal, where a captured
// write always wins. Once a write of that time was lost, a newer content could hide under an older captured one, so
// from there on copies must be journaled in their place. The generation tells that to an agent that was restarted in
// between: copies go to the base in the first generation only.
#pragma once

#include <cstdint>
#include <optional>

#include "daemon/record/record.h"

namespace understudy {

// Of a stream's beginning.
inline constexpr std::uint64_t kFirstGeneration = 1;

class GapTracker {
 public:
  // Takes over what the receiver says of the stream.
  void resume(const StreamPosition& position);

  // Before an event becomes a record: the GAP to insert in front of it, if any. The caller inserts it.
  std::optional<GapReason> before_event(std::uint64_t event_loss_count);
  // When everything captured became records: the GAP to append, if the figures moved without an event behind them.
  std::optional<GapReason> drained(std::uint64_t losses_total);
  // A GAP for another cause: all losses up to `losses_total` are accounted for by it.
  void open(GapReason reason, std::uint64_t losses_total);
  // The same at the beginning of a new stream or generation: figures of an earlier capture mean nothing any more.
  void start_anew(GapReason reason, std::uint64_t losses_total, bool initial_copy_done, std::uint64_t generation);
  // A HEAL was appended.
  void heal();

  bool is_open() const { return open_; }
  GapReason reason() const { return reason_; }
  bool initial_copy_done() const { return initial_copy_done_; }
  // Losses that the stream accounts for: CaptureCursor::loss_count.
  std::uint64_t accounted_losses() const { return accounted_losses_; }
  // True while copies may go to the base images (kRecordInitial).
  bool copies_are_initial() const { return open_ && !initial_copy_done_ && base_is_open_; }

 private:
  std::optional<GapReason> account(std::uint64_t losses);

  bool open_ = false;
  GapReason reason_ = GapReason::kInitialCopy;
  bool initial_copy_done_ = false;
  bool base_is_open_ = false;  // first generation, nothing lost in it yet
  std::uint64_t accounted_losses_ = 0;
};

}  // namespace understudy
