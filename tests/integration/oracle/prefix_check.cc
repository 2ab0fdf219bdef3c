// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/oracle/prefix_check.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <tuple>

namespace understudy::oracle {
namespace {

constexpr std::uint32_t kNone = ~0u;

// One sector's demand on the cut: low <= T <= high, and the operations that make it so.
struct Demand {
  std::uint64_t low_ns = 0;
  std::uint64_t high_ns = kNever;
  std::uint32_t held = kNone;     // operation whose effect is there; kNone = the zeros of the start
  std::uint32_t lacking = kNone;  // next operation on the sector, which must not have completed before T
  std::uint32_t image = 0;
  std::uint64_t sector = 0;
};

std::string milliseconds(std::uint64_t ns) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f ms", static_cast<double>(ns) / 1e6);
  return text;
}

// Walks all operations backwards and derives every sector's demand.
class DemandCollector {
 public:
  DemandCollector(const History& history, const std::vector<ImageContent>& images)
      : history_(history), images_(images), image_of_target_(history.targets().size(), kNone) {
    for (std::uint32_t i = 0; i < images.size(); ++i) {
      image_of_target_[images[i].target] = i;
      next_.emplace_back(images[i].sectors.size(), kNone);
      open_zero_.emplace_back();
    }
  }

  // False when the log itself is unusable; see contradiction().
  bool run() {
    const auto& operations = history_.operations();
    for (std::uint32_t i = static_cast<std::uint32_t>(operations.size()); i-- > 0;) {
      const LoggedOperation& operation = operations[i];
      const std::uint32_t image = image_of_target_[operation.target];
      if (image == kNone || operation.slot.kind == OperationKind::kFlush) continue;
      for (std::uint64_t s = operation.slot.sector; s < operation.slot.sector + operation.slot.sectors; ++s)
        if (!visit(image, s, i)) return false;
    }
    for (std::uint32_t image = 0; image < images_.size(); ++image)
      for (std::uint64_t s = 0; s < images_[image].sectors.size(); ++s)
        if (images_[image].sectors[s] == 0) add_zero(image, s, kNone);
    return true;
  }

  const Demand& lowest() const { return lowest_; }    // the stamped sector with the largest low
  const Demand& highest() const { return highest_; }  // ... and with the smallest high
  std::vector<Demand>& zeros() { return zeros_; }
  const std::string& contradiction() const { return contradiction_; }

 private:
  bool visit(std::uint32_t image, std::uint64_t sector, std::uint32_t index) {
    const auto& operations = history_.operations();
    std::uint32_t& next = next_[image][sector];
    if (next != kNone && operations[index].completed_ns() > operations[next].submitted_ns()) {
      contradiction_ = "the log is unusable: operations " + std::to_string(operations[index].slot.number) + " and " +
                       std::to_string(operations[next].slot.number) + " were in flight on one sector at once";
      return false;
    }
    const std::uint32_t content = images_[image].sectors[sector];
    if (content == index + 1) add_stamped(image, sector, index);
    if (content == 0 && operations[index].slot.kind == OperationKind::kZero) add_zero(image, sector, index);
    next = index;
    return true;
  }

  Demand demand(std::uint32_t image, std::uint64_t sector, std::uint32_t held) const {
    Demand result{.held = held, .lacking = next_[image][sector], .image = image, .sector = sector};
    if (held != kNone) result.low_ns = history_.operations()[held].submitted_ns();
    if (result.lacking != kNone) result.high_ns = history_.operations()[result.lacking].completed_ns();
    return result;
  }

  void add_stamped(std::uint32_t image, std::uint64_t sector, std::uint32_t index) {
    const Demand found = demand(image, sector, index);
    if (found.low_ns > lowest_.low_ns || lowest_.held == kNone) lowest_ = found;
    if (found.high_ns < highest_.high_ns) highest_ = found;
  }

  // Zeros are anonymous: each zeroing operation (and the start) is an alternative. Two that follow one another on the
  // sector leave no instant between them at which it would not be zero, so they become one alternative.
  void add_zero(std::uint32_t image, std::uint64_t sector, std::uint32_t index) {
    const std::uint32_t next = next_[image][sector];
    const Demand found = demand(image, sector, index);
    const bool follows = next != kNone && history_.operations()[next].slot.kind == OperationKind::kZero;
    if (follows) {
      Demand& newer = zeros_[open_zero_[image].at(sector)];
      newer.low_ns = found.low_ns;
      newer.held = found.held;
      return;
    }
    if (index != kNone) open_zero_[image][sector] = zeros_.size();
    zeros_.push_back(found);
  }

  const History& history_;
  const std::vector<ImageContent>& images_;
  std::vector<std::uint32_t> image_of_target_;
  std::vector<std::vector<std::uint32_t>> next_;  // per image and sector: the operation after the ones yet to come
  std::vector<std::map<std::uint64_t, std::size_t>> open_zero_;  // sector -> its newest alternative in zeros_
  std::vector<Demand> zeros_;
  Demand lowest_;
  Demand highest_;
  std::string contradiction_;
};

class Explainer {
 public:
  Explainer(const History& history, const std::vector<ImageContent>& images) : history_(history), images_(images) {}

  // Why no instant satisfies both: `present` needs a cut after its submission, `absent` one before its completion.
  std::string conflict(const Demand& present, const Demand& absent) const {
    const LoggedOperation& shown = history_.operations()[present.held];
    const LoggedOperation& lost = history_.operations()[absent.lacking];
    std::string text = "not a prefix: " + place(present) + " holds " + name(present.held) + ", but " + place(absent) +
                       " holds " + name(absent.held) + " and lacks " + name(absent.lacking) + ", which had completed " +
                       milliseconds(shown.submitted_ns() - lost.completed_ns()) + " before that was submitted";
    for (const LoggedOperation& flush : history_.operations())
      if (flush.slot.kind == OperationKind::kFlush && flush.completed() &&
          flush.submitted_ns() >= lost.completed_ns() && flush.completed_ns() <= shown.submitted_ns())
        return text + ", with flush " + std::to_string(flush.slot.number) + " between them";
    return text;
  }

  std::string place(const Demand& demand) const {
    return "disk " + std::to_string(history_.targets()[images_[demand.image].target].id) + " sector " +
           std::to_string(demand.sector);
  }

  std::string name(std::uint32_t index) const {
    if (index == kNone) return "the zeros of the start";
    const LogSlot& slot = history_.operations()[index].slot;
    const char* kind = slot.kind == OperationKind::kWrite ? "write " : "zeroing ";
    return kind + std::to_string(slot.number) + " (sectors " + std::to_string(slot.sector) + "+" +
           std::to_string(slot.sectors) + ")";
  }

 private:
  const History& history_;
  const std::vector<ImageContent>& images_;
};

// The latest instants within [low, high] at which every zero sector has an alternative that fits; false = none.
bool narrow_by_zeros(std::vector<Demand>& zeros, std::uint64_t* low, std::uint64_t* high, Demand* ret_culprit) {
  std::sort(zeros.begin(), zeros.end(), [](const Demand& a, const Demand& b) {
    return std::tie(a.image, a.sector, a.low_ns) < std::tie(b.image, b.sector, b.low_ns);
  });
  std::vector<std::pair<std::uint64_t, int>> events;  // (time, +1 opens / -1 closes just behind)
  std::size_t needed = 0;
  for (std::size_t first = 0, last = 0; first < zeros.size(); first = last) {
    bool any = false;
    bool all = false;
    for (last = first;
         last < zeros.size() && zeros[last].image == zeros[first].image && zeros[last].sector == zeros[first].sector;
         ++last) {
      any |= zeros[last].low_ns <= *high && zeros[last].high_ns >= *low;
      all |= zeros[last].low_ns <= *low && zeros[last].high_ns >= *high;
    }
    if (!any) {
      *ret_culprit = zeros[last - 1];
      return false;
    }
    if (all) continue;
    ++needed;
    for (std::size_t i = first; i < last; ++i) {
      if (zeros[i].low_ns > *high || zeros[i].high_ns < *low) continue;
      events.emplace_back(std::max(zeros[i].low_ns, *low), +1);
      events.emplace_back(std::min(zeros[i].high_ns, *high), -1);
    }
    *ret_culprit = zeros[first];
  }
  if (needed == 0) return true;
  std::sort(events.begin(), events.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second > b.second;  // opens before closes: ends are inclusive
  });
  std::size_t open = 0;
  bool found = false;
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (events[i].second > 0 && ++open == needed) {
      found = true;
      *low = events[i].first;
      // Full until the next closing one, which is the next event: no other can open.
      *high = events[i + 1].first;
    }
    if (events[i].second < 0) --open;
  }
  return found;
}

}  // namespace

PrefixResult find_cut(const History& history, const std::vector<ImageContent>& images) {
  PrefixResult result;
  DemandCollector collector(history, images);
  if (!collector.run()) {
    result.contradiction = collector.contradiction();
    return result;
  }
  const Explainer explainer(history, images);
  const Demand& lowest = collector.lowest();
  const Demand& highest = collector.highest();
  if (lowest.low_ns > highest.high_ns) {
    result.contradiction = explainer.conflict(lowest, highest);
    return result;
  }
  std::uint64_t low = lowest.low_ns;
  std::uint64_t high = highest.high_ns;
  Demand culprit;
  if (!narrow_by_zeros(collector.zeros(), &low, &high, &culprit)) {
    if (culprit.high_ns < low && lowest.held != kNone && culprit.lacking != kNone)
      result.contradiction = explainer.conflict(lowest, culprit);
    else if (culprit.low_ns > high && culprit.held != kNone && highest.lacking != kNone)
      result.contradiction = explainer.conflict(culprit, highest);
    else
      result.contradiction = "not a prefix: " + explainer.place(culprit) +
                             " reads zero, which it was at no instant that the other sectors allow";
    return result;
  }
  result.is_prefix = true;
  result.cut_low_ns = low;
  result.cut_high_ns = high;
  return result;
}

}  // namespace understudy::oracle
