// SPDX-License-Identifier: Apache-2.0
// What a full copy leaves out because nobody can ask for it: free space of file systems. daemon/source/README.md has
// the proof that this is right; here is what the stream owes for it:
//
//   wanted --take_request()--> asked --offer()--> claiming --> settling --loss count still the same--> left out
//      ^                         |                                  |
//      +---- loss, asked again --+----------------------------------+ ... a few times, then everything is copied
//
// - The survey is asked for inside a gap, and the loss count is noted in that step: every write since is in the stream,
//   or has moved the count.
// - Granules are claimed first and finished some time later. A loss that happens meanwhile, also one whose count moves
//   late, has set its granule DIRTY again, which finish() leaves alone.
// - Copying and HEAL wait: for the answer only so long, for claimed granules always.
//
// Threads: one thread uses it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/tracker/tracker.h"

namespace understudy {

class LeftOut {
 public:
  // `wait_ns`: how long copying waits for a survey; 0 = none is asked for, ever.
  LeftOut(Tracker& tracker, std::uint64_t wait_ns) : tracker_(tracker), wait_ns_(wait_ns) {}

  // Everything is dirty (again), what was left out, too.
  void start_anew();
  // A full copy begins, or goes on.
  void begin(std::uint64_t now_ns);
  // Forgets everything; nothing is finished any more. The caller gives back what is claimed (unclaim_all()).
  void reset();
  // The same, and gives back what is claimed.
  void give_up();

  // The number of a survey that is to be made now; once for each.
  std::optional<std::uint64_t> take_request();
  // The answer: granules that are free. Ignored when it answers another question than the newest.
  void offer(std::uint64_t request, std::vector<GranuleRange> free);

  // Goes on with claiming and finishing, a bounded piece a call. `on_claim` as Copier::work's. `copier_rests`: no chunk
  // is under way; else a copy that was read before a loss could be acknowledged for a granule that was claimed here
  // after it. Bytes left out just now.
  std::uint64_t work(std::uint64_t now_ns, bool copier_rests, const std::function<void(const GranuleRange&)>& on_claim);
  // The granules left out by the last work() that returned more than 0.
  std::vector<GranuleRange> take_left_out() { return std::exchange(left_out_, {}); }
  // Copying waits.
  bool holds_copy(std::uint64_t now_ns) const;
  // HEAL waits: granules are claimed that nobody reads.
  bool holds_heal() const { return state_ == State::kClaiming || state_ == State::kSettling; }
  // When to look again, at most; nullopt = nothing is awaited.
  std::optional<std::uint64_t> wake_at_ns(std::uint64_t now_ns) const;
  // Since start_anew().
  std::uint64_t bytes() const { return bytes_; }

 private:
  enum class State : std::uint8_t { kIdle, kWanted, kAsked, kClaiming, kSettling };
  void claim(std::uint64_t now_ns, const std::function<void(const GranuleRange&)>& on_claim);
  std::uint64_t finish();
  void ask_again();

  Tracker& tracker_;
  std::uint64_t wait_ns_;
  State state_ = State::kIdle;
  std::uint64_t request_ = 0;
  std::uint32_t attempts_ = 0;
  std::uint64_t losses_ = 0;  // when the newest survey was asked for
  std::uint64_t wait_until_ns_ = 0;
  std::uint64_t settled_at_ns_ = 0;
  std::uint64_t bytes_ = 0;
  std::vector<GranuleRange> free_;
  std::size_t next_ = 0;  // of free_, to be claimed
  std::vector<GranuleRange> claimed_;
  std::vector<GranuleRange> left_out_;
};

}  // namespace understudy
