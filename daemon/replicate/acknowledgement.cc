// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/acknowledgement.h"

#include <algorithm>

#include "daemon/base/check.h"

namespace understudy {

void Acknowledgement::batch_sent(Seq last_seq, std::uint64_t ring_position, std::uint64_t oldest_event_ns) {
  if (!batches_.empty()) {
    CHECK_GT(last_seq, batches_.back().last_seq);
    CHECK_GE(ring_position, batches_.back().ring_position);
  }
  batches_.push_back({last_seq, ring_position, oldest_event_ns});
}

void Acknowledgement::copy_emitted(Seq seq, const GranuleRange& range) {
  if (!copies_.empty()) CHECK_GE(seq, copies_.back().seq);
  copies_.push_back({seq, range});
}

void Acknowledgement::copy_superseded(const GranuleRange& range) {
  const std::uint64_t end = range.first + range.count;
  for (std::size_t i = 0; i < copies_.size(); ++i) {
    GranuleRange& old = copies_[i].range;
    const std::uint64_t old_end = old.first + old.count;
    if (old.disk != range.disk || old.first >= end || range.first >= old_end) continue;
    const std::uint64_t left = old.first < range.first ? range.first - old.first : 0;
    const std::uint64_t right = old_end > end ? old_end - end : 0;
    if (left > 0 && right > 0) {
      const Copy tail{copies_[i].seq, {old.disk, end, right}};
      old.count = left;
      copies_.insert(copies_.begin() + static_cast<std::ptrdiff_t>(i) + 1, tail);
    } else if (right > 0) {
      old.first = end;
      old.count = right;
    } else {
      old.count = left;  // 0 = nothing of it is left; it goes when its seq is acknowledged
    }
  }
}

void Acknowledgement::forget_copies(Seq seq) {
  while (!copies_.empty() && copies_.back().seq >= seq) copies_.pop_back();
}

void Acknowledgement::clear() {
  batches_.clear();
  copies_.clear();
}

const Acknowledgement::Outcome& Acknowledgement::acknowledge(Seq seq) {
  outcome_.release_position.reset();
  outcome_.finished.clear();
  while (!batches_.empty() && batches_.front().last_seq <= seq) {
    outcome_.release_position = batches_.front().ring_position;
    batches_.pop_front();
  }
  while (!copies_.empty() && copies_.front().seq <= seq) {
    if (copies_.front().range.count > 0) outcome_.finished.push_back(copies_.front().range);
    copies_.pop_front();
  }
  return outcome_;
}

std::uint64_t Acknowledgement::oldest_event_ns() const {
  for (const Batch& batch : batches_) {
    if (batch.oldest_event_ns != 0) return batch.oldest_event_ns;
  }
  return 0;
}

}  // namespace understudy
