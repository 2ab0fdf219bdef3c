// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/session.h"

#include <algorithm>

namespace understudy {
namespace {

SessionPlan anew(SessionStart start, GapReason gap_reason, std::uint64_t generation, std::string reason) {
  SessionPlan plan;
  plan.start = start;
  plan.gap_reason = gap_reason;
  plan.generation = generation;
  plan.reason = std::move(reason);
  return plan;
}

SessionPlan refused(ErrorReason reason, std::string text) {
  SessionPlan plan;
  plan.refusal = reason;
  plan.reason = std::move(text);
  return plan;
}

std::string range_text(const SessionFacts& facts) {
  return std::to_string(facts.ring_tail) + " to " + std::to_string(facts.ring_head);
}

SessionPlan plan_start(const SessionFacts& facts, const StreamPosition& position) {
  if (position.seq == 0) {
    return anew(SessionStart::kFirst, GapReason::kInitialCopy, std::max<std::uint64_t>(position.generation, 1),
                "the store is empty");
  }
  if (position.epoch != facts.epoch) {
    return refused(ErrorReason::kFenced, "the store is at epoch " + std::to_string(position.epoch) +
                                             ", this agent at " + std::to_string(facts.epoch) +
                                             ": another writer has taken over");
  }
  const std::uint64_t next = position.generation + 1;
  const std::uint64_t at = position.cursor.position;
  if (position.cursor.capture_id != facts.capture_id) {
    return anew(SessionStart::kNewCapture, GapReason::kNewCapture, next, "the store knows another capture");
  }
  if (at > facts.ring_head || (facts.sent_seq != 0 && position.seq > facts.sent_seq)) {
    return refused(ErrorReason::kReceiverAhead,
                   "the store has records that this agent never sent: seq " + std::to_string(position.seq) +
                       ", ring position " + std::to_string(at) + " of " + range_text(facts));
  }
  if (at < facts.ring_tail || position.seq < facts.acknowledged_seq) {
    return anew(SessionStart::kReceiverBehind, GapReason::kReceiverBehind, next,
                "the store stands at seq " + std::to_string(position.seq) + ", ring position " + std::to_string(at) +
                    ", but acknowledged seq " + std::to_string(facts.acknowledged_seq) + ", ring position " +
                    std::to_string(facts.ring_tail));
  }
  return anew(SessionStart::kContinue, position.gap_reason, position.generation, "");
}

}  // namespace

SessionPlan plan_session(const SessionFacts& facts, const StreamPosition& position) {
  SessionPlan plan = plan_start(facts, position);
  if (plan.start == SessionStart::kRefused) return plan;
  plan.send_geometry = plan.start == SessionStart::kFirst || position.disks != facts.disks;
  if (plan.start != SessionStart::kContinue) return plan;
  for (const DiskGeometry& disk : facts.disks) {
    const auto known = std::find_if(position.disks.begin(), position.disks.end(), [&](const DiskGeometry& other) {
      return other.disk == disk.disk && other.id == disk.id;
    });
    if (known == position.disks.end()) {
      plan.new_parts.push_back({disk.disk, 0});
    } else if (known->size_bytes != disk.size_bytes) {
      plan.new_parts.push_back({disk.disk, std::min(known->size_bytes, disk.size_bytes)});
    }
  }
  return plan;
}

}  // namespace understudy
