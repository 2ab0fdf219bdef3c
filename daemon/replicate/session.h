// SPDX-License-Identifier: Apache-2.0
// How a stream goes on when a receiver has said where it stands. Pure.
//
//   store empty                                   -> kFirst           everything is copied, into the base images
//   epoch of another                              -> kRefused         somebody else is the writer now (I9)
//   a position we never gave                      -> kRefused         it is ahead, or lies: an operator decides
//   other capture                                 -> kNewCapture      next generation, everything is copied
//   events behind its cursor are already released,
//   or records it had acknowledged are missing    -> kReceiverBehind  next generation, everything is copied
//   else                                          -> kContinue        from its cursor, nothing is lost
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/record/record.h"
#include "daemon/replicate/error_reason.h"

namespace understudy {

enum class SessionStart : std::uint8_t { kFirst, kContinue, kNewCapture, kReceiverBehind, kRefused };

struct SessionFacts {
  std::uint64_t epoch = 0;           // ours
  Uuid capture_id;                   // of the tracker, now
  std::uint64_t ring_tail = 0;
  std::uint64_t ring_head = 0;
  std::vector<DiskGeometry> disks;   // ours
  // What is known of the stream from earlier sessions; 0 = nothing.
  Seq acknowledged_seq = 0;          // of this process, or kept with the ring
  Seq sent_seq = 0;                  // of this process, with the same capture
};

struct SessionPlan {
  SessionStart start = SessionStart::kRefused;
  ErrorReason refusal = ErrorReason::kNone;
  std::string reason;                       // for kRefused, kNewCapture and kReceiverBehind: one line for people
  GapReason gap_reason = GapReason::kInitialCopy;  // unless kContinue or kRefused
  std::uint64_t generation = 0;
  bool send_geometry = false;
  // kContinue: what the receiver does not have yet: disks that were added, from 0, or the new part of grown ones.
  struct NewPart {
    std::uint16_t disk = 0;
    std::uint64_t from_bytes = 0;
  };
  std::vector<NewPart> new_parts;
};

SessionPlan plan_session(const SessionFacts& facts, const StreamPosition& position);

}  // namespace understudy
