// SPDX-License-Identifier: Apache-2.0
// How much work a batch is worth right now. Pure: decides from what it is told, so it can be tested step by step.
//
//   plain   no delta, no compression     the socket has nothing to send because we are too slow
//   light   delta, lz4                   in between
//   full    delta, the configured codec  the link is what is slow, or nothing is
//
// One step down for each decision at which the socket starves behind a backlog. One step up at once while the link is
// what everything waits for, else after kCalmDecisions decisions without a backlog. When the encoder threads get less
// than half of a processor while they want one, zstd stays at level 1: that host has other things to do. Deltas are
// not the first to go, for they cost less than the compression they save. Batches are encoded in two ways, for the
// smaller one, only at full effort and with a processor to spare.
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "daemon/record/batch.h"

namespace understudy {

class EncoderEffort {
 public:
  static constexpr unsigned kCalmDecisions = 16;

  struct Load {
    std::size_t waiting_batches = 0;  // not begun yet, the one to decide about included
    std::uint64_t encoded_bytes = 0;  // done, waiting for the socket
  };
  struct Plan {
    bool deltas = true;
    bool compare = true;  // a batch may be encoded in two ways for the smaller one
    Compression compression;
  };

  // For the next batch. `wanted`: as configured; `lz4`: whether the receiver decodes it.
  Plan decide(const Load& load, const Compression& wanted, bool lz4);
  // One batch took `wall_ns`, of which the thread really ran `cpu_ns`.
  void encoded(std::uint64_t wall_ns, std::uint64_t cpu_ns);
  // A new session.
  void reset() { *this = EncoderEffort(); }

  // "full", "light" or "plain".
  const char* name() const;

 private:
  enum class Rung : std::uint8_t { kPlain, kLight, kFull };
  void move(int steps);
  bool processor_is_short() const { return wall_ns_ > 0 && cpu_ns_ * 2 < wall_ns_; }

  Rung rung_ = Rung::kFull;
  unsigned calm_ = 0;
  std::uint64_t wall_ns_ = 0;  // decaying sums
  std::uint64_t cpu_ns_ = 0;
};

}  // namespace understudy
