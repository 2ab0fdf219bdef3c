// SPDX-License-Identifier: Apache-2.0
// What every part of the simulation shares: time, chance, the trace, and how a broken invariant is said.
#pragma once

#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>

#include "tests/sim/scheduler.h"
#include "tests/sim/trace.h"

namespace understudy::sim {

inline constexpr std::uint64_t kMicrosecond = 1'000;
inline constexpr std::uint64_t kMillisecond = 1'000'000;
inline constexpr std::uint64_t kSecond = 1'000'000'000;

// An invariant does not hold.
class Broken : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
// `what` is only made when it is needed.
#define REQUIRE(holds, invariant, what)                                                 \
  do {                                                                                  \
    if (!(holds)) throw ::understudy::sim::Broken(std::string(invariant) + ": " + (what)); \
  } while (false)

struct World {
  World(std::uint64_t seed, bool print) : random(seed), trace(print) {}

  std::uint64_t below(std::uint64_t bound) { return random() % bound; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + random() % (high - low + 1); }
  bool chance(std::uint32_t percent) { return random() % 100 < percent; }
  bool per_mille(std::uint32_t share) { return random() % 1000 < share; }
  void note(const char* who, const char* format, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0) {
    trace.note(scheduler.now(), who, format, a, b, c);
  }

  std::mt19937_64 random;
  Scheduler scheduler;
  Trace trace;
  bool calm = false;  // no fault happens any more
};

}  // namespace understudy::sim
