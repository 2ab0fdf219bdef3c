// SPDX-License-Identifier: Apache-2.0
// Is a set of images exactly a prefix of what was written? (invariant I1)
//
// What is proved. Every operation acts sector by sector, each sector at some instant between the operation's submission
// and its completion (never completed: any instant after submission, or not at all). The images are a prefix when there
// is ONE instant T, the cut, common to all disks, such that every sector of every image holds exactly what the newest
// operation that acted on it before T left there. From the logged times this means, for every sector:
//
//   - the write it holds was submitted at or before T, and
//   - the next operation on that sector had not completed before T.
//
// So a write that completed before the cut is present on every disk; a write submitted after the cut is present on
// none; only writes that were in flight at T itself may be present, absent or torn between sectors, because nothing in
// the log says where in its flight a write was numbered. Two writes of which one completed before the other was
// submitted can therefore never be seen swapped, whatever disks they went to, and a flush between two writes is
// respected a fortiori. A sector that reads zero may come from the start of the run (targets start as zeros) or from
// any discard or write-zeroes on it: the check accepts any one that fits the common T.
//
// The writer never has two operations in flight on one sector; a log that does is refused, since then the disk itself
// would not be determined.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/integration/oracle/history.h"

namespace understudy::oracle {

struct PrefixResult {
  bool is_prefix = false;
  std::string contradiction;      // when not: the two facts that exclude one another
  std::uint64_t cut_low_ns = 0;   // the instants (boot clock) at which the cut can lie
  std::uint64_t cut_high_ns = 0;  // kNever = the images lack nothing
};
PrefixResult find_cut(const History& history, const std::vector<ImageContent>& images);

// Times are wall clock, ns since 1970; kNever = no such condition.
struct Requirements {
  std::uint64_t completed_before_ns = 0;  // every write completed before this is present
  std::uint64_t flushed_before_ns = 0;    // every write covered by a flush that completed before this is present
  std::uint64_t not_after_ns = kNever;    // no write submitted after this is present
  std::uint64_t kill_ns = kNever;         // loss is measured back from here
};

struct Account {
  std::uint64_t sectors_verified = 0;
  std::uint64_t sectors_stamped = 0;
  std::uint64_t operations_logged = 0;
  std::uint64_t missing_completed = 0;  // operations that completed (before the kill) and are not or not wholly there
  std::uint64_t missing_flushed = 0;    // of these, the ones a completed flush (before the kill) covers
  std::uint64_t newest_contained_number = 0;
  std::uint64_t newest_contained_wall_ns = 0;  // submission
  std::uint64_t oldest_missing_wall_ns = 0;    // completion of the oldest missing completed operation; 0 = none
  std::uint64_t newest_missing_wall_ns = 0;
  double rpo_ms = 0;                    // kill_ns - oldest_missing_wall_ns: how far back the loss reaches
  double rpo_flushed_ms = 0;            // the same, over writes whose flush had completed
  std::vector<std::string> violations;  // of the requirements, the first of each kind
};
// Counts what is there and what is not, for images that are a prefix with the given cut.
Account account(const History& history, const std::vector<ImageContent>& images, const PrefixResult& cut,
                const Requirements& requirements);

}  // namespace understudy::oracle
