// SPDX-License-Identifier: Apache-2.0
// What an acknowledgement sets free: ring space up to a position, and granules whose copies are durable. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "daemon/record/record.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

class Acknowledgement {
 public:
  // A batch was given to the link. `oldest_event_ns` is the capture time of its first event, 0 = it has none.
  void batch_sent(Seq last_seq, std::uint64_t ring_position, std::uint64_t oldest_event_ns);
  // The granules of `range` are in the stream with the copy at `seq` (and everything captured before it).
  void copy_emitted(Seq seq, const GranuleRange& range);
  // `range` was claimed again: an acknowledgement of an older copy of it must not finish it.
  void copy_superseded(const GranuleRange& range);
  // Forgets copies from `seq` on (their records were dropped before they were sent), or all with seq 0.
  void forget_copies(Seq seq = 0);
  // Forgets batches, too: the connection is gone.
  void clear();

  struct Outcome {
    std::optional<std::uint64_t> release_position;
    std::vector<GranuleRange> finished;
  };
  // Everything up to `seq` is durable. The result is valid until the next call.
  const Outcome& acknowledge(Seq seq);

  // Capture time of the oldest event that is sent and not acknowledged; 0 = none.
  std::uint64_t oldest_event_ns() const;
  std::size_t pending_batches() const { return batches_.size(); }
  std::size_t pending_copies() const { return copies_.size(); }

 private:
  struct Batch {
    Seq last_seq = 0;
    std::uint64_t ring_position = 0;
    std::uint64_t oldest_event_ns = 0;
  };
  struct Copy {
    Seq seq = 0;
    GranuleRange range;
  };
  std::deque<Batch> batches_;
  std::deque<Copy> copies_;
  Outcome outcome_;
};

}  // namespace understudy
