// SPDX-License-Identifier: Apache-2.0
// One run: a source, a network, a receiver and the oracle, with the faults that the seed chose; then everything is
// well, and the replica must become whole and equal.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "tests/sim/fault_table.h"

namespace understudy::sim {

struct Outcome {
  bool ok = false;
  std::string broken;  // which invariant, and how
  std::string tail;    // the end of the trace
  std::uint64_t trace_hash = 0;
  std::uint64_t events = 0;
  std::uint64_t records = 0;
  std::uint64_t points = 0;
  std::uint64_t heals = 0;
  std::uint64_t merges = 0;
  std::array<std::uint64_t, kFaultTable.size()> faults{};  // by row
};

// `print` writes the trace to standard output while it runs.
Outcome simulate(std::uint64_t seed, bool print);

}  // namespace understudy::sim
