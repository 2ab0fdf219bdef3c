// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/encoder_effort.h"

#include <algorithm>

#include "daemon/base/limits.h"

namespace understudy {

namespace {

// What was measured counts half after about five more batches.
constexpr std::uint64_t kDecay = 8;

}  // namespace

void EncoderEffort::move(int steps) {
  const int rung = static_cast<int>(rung_) + steps;
  rung_ = static_cast<Rung>(std::clamp(rung, static_cast<int>(Rung::kPlain), static_cast<int>(Rung::kFull)));
  calm_ = 0;
}

EncoderEffort::Plan EncoderEffort::decide(const Load& load, const Compression& wanted, bool lz4) {
  const bool backlog = load.waiting_batches >= kLinkBacklogBatches;
  if (backlog && load.encoded_bytes == 0) {
    move(-1);
  } else if (load.encoded_bytes >= kLinkEncodedBytesMax / 2) {
    move(1);
  } else if (backlog) {
    calm_ = 0;
  } else if (++calm_ >= kCalmDecisions) {
    move(1);
  }
  Plan plan{rung_ != Rung::kPlain, rung_ == Rung::kFull && !processor_is_short(), wanted};
  if (rung_ == Rung::kPlain) plan.compression.codec = Codec::kNone;
  if (plan.compression.codec == Codec::kZstd) {
    if (rung_ == Rung::kLight && lz4) plan.compression.codec = Codec::kLz4;
    if (rung_ == Rung::kLight || processor_is_short()) plan.compression.level = 1;
  }
  return plan;
}

void EncoderEffort::encoded(std::uint64_t wall_ns, std::uint64_t cpu_ns) {
  wall_ns_ += wall_ns - wall_ns_ / kDecay;
  cpu_ns_ += cpu_ns - cpu_ns_ / kDecay;
}

const char* EncoderEffort::name() const {
  switch (rung_) {
    case Rung::kPlain: return "plain";
    case Rung::kLight: return "light";
    case Rung::kFull: break;
  }
  return "full";
}

}  // namespace understudy
