// SPDX-License-Identifier: Apache-2.0
// sim [--seed N [--trace]] [--first N] [--count N] [--twice]
//
// Runs seeds; the first broken one ends it, with what broke, the end of its trace and the command that replays it.
// --twice runs each seed a second time and compares the traces.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <unistd.h>

#include "daemon/base/log.h"
#include "tests/sim/simulation.h"

namespace {

using namespace understudy;
using namespace understudy::sim;

const char* program = "sim";
unsigned long long running_seed = 0;

// A CHECK of production code aborts: the seed must be known all the same.
void on_abort(int) {
  char text[256];
  const int length = std::snprintf(text, sizeof(text), "\nsim: seed %llu aborted; replay: %s --seed %llu --trace\n",
                                   running_seed, program, running_seed);
  if (length > 0) (void)!::write(STDOUT_FILENO, text, static_cast<std::size_t>(length));
}

[[noreturn]] void usage(const std::string& what) {
  std::fprintf(stderr, "sim: %s\nusage: sim [--seed N [--trace]] [--first N] [--count N] [--twice]\n", what.c_str());
  std::exit(2);
}

std::uint64_t number_of(int argc, char** argv, int& at) {
  if (++at >= argc) usage(std::string("'") + argv[at - 1] + "' needs a number");
  char* end = nullptr;
  const std::uint64_t value = std::strtoull(argv[at], &end, 10);
  if (end == argv[at] || *end != 0) usage(std::string("'") + argv[at] + "' is no number");
  return value;
}

void show_broken(std::uint64_t seed, const Outcome& outcome) {
  std::printf("%s\nsim: seed %llu is broken: %s\nsim: replay: %s --seed %llu --trace\n", outcome.tail.c_str(),
              static_cast<unsigned long long>(seed), outcome.broken.c_str(), program,
              static_cast<unsigned long long>(seed));
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t first = 1;
  std::uint64_t count = 1000;
  bool trace = false;
  bool twice = false;
  program = argv[0];
  for (int at = 1; at < argc; ++at) {
    const std::string word = argv[at];
    if (word == "--seed") {
      first = number_of(argc, argv, at);
      count = 1;
    } else if (word == "--first") {
      first = number_of(argc, argv, at);
    } else if (word == "--count") {
      count = number_of(argc, argv, at);
    } else if (word == "--trace") {
      trace = true;
    } else if (word == "--twice") {
      twice = true;
    } else {
      usage("unknown argument '" + word + "'");
    }
  }
  log_init("sim", static_cast<LogLevel>(0));  // what the receiver would log is in the trace
  std::signal(SIGABRT, on_abort);
  Outcome total;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    running_seed = seed;
    const Outcome outcome = simulate(seed, trace);
    if (!outcome.ok) {
      show_broken(seed, outcome);
      return 1;
    }
    if (twice && simulate(seed, false).trace_hash != outcome.trace_hash) {
      std::printf("sim: seed %llu is not deterministic: its second run had another trace\n",
                  static_cast<unsigned long long>(seed));
      return 1;
    }
    total.events += outcome.events;
    total.records += outcome.records;
    total.points += outcome.points;
    total.heals += outcome.heals;
    total.merges += outcome.merges;
    total.trace_hash ^= outcome.trace_hash * (2 * seed + 1);
    for (std::size_t row = 0; row < outcome.faults.size(); ++row) total.faults[row] += outcome.faults[row];
  }
  std::printf(
      "sim: %llu seeds from %llu on: %llu events, %llu records and %llu points checked, %llu heals, %llu merges; "
      "trace %016llx\n",
      static_cast<unsigned long long>(count), static_cast<unsigned long long>(first),
      static_cast<unsigned long long>(total.events), static_cast<unsigned long long>(total.records),
      static_cast<unsigned long long>(total.points), static_cast<unsigned long long>(total.heals),
      static_cast<unsigned long long>(total.merges), static_cast<unsigned long long>(total.trace_hash));
  for (std::size_t row = 0; row < kFaultTable.size(); ++row) {
    std::printf("sim:   %8llu %.*s\n", static_cast<unsigned long long>(total.faults[row]),
                static_cast<int>(kFaultTable[row].name.size()), kFaultTable[row].name.data());
    // The runs must be worth their name.
    if (count >= 1000 && total.faults[row] == 0) {
      std::printf("sim: fault '%s' never happened\n", kFaultTable[row].name.data());
      return 1;
    }
  }
  return 0;
}
