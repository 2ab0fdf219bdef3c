// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>

#include "tests/integration/oracle/prefix_check.h"

namespace understudy::oracle {
namespace {

// When a write became durable by the rules of the block layer: with itself (RWF_DSYNC), or with the first flush of its
// target that was submitted after the write had completed.
class FlushIndex {
 public:
  explicit FlushIndex(const History& history) : flushes_(history.targets().size()) {
    for (const LoggedOperation& operation : history.operations())
      if (operation.slot.kind == OperationKind::kFlush && operation.completed())
        flushes_[operation.target].push_back({operation.submitted_ns(), operation.slot.complete_wall_ns});
    for (auto& list :
         flushes_)  // operations are sorted by submission; make the completion a running minimum from the end
      for (std::size_t i = list.size(); i-- > 1;)
        list[i - 1].complete_wall_ns = std::min(list[i - 1].complete_wall_ns, list[i].complete_wall_ns);
  }

  std::uint64_t durable_wall_ns(const LoggedOperation& operation) const {
    if (!operation.completed()) return kNever;
    if (operation.slot.durable != 0) return operation.slot.complete_wall_ns;
    const auto& list = flushes_[operation.target];
    const auto found = std::lower_bound(list.begin(), list.end(), operation.completed_ns(),
                                        [](const Flush& flush, std::uint64_t ns) { return flush.submit_ns < ns; });
    return found == list.end() ? kNever : found->complete_wall_ns;
  }

 private:
  struct Flush {
    std::uint64_t submit_ns = 0;
    std::uint64_t complete_wall_ns = 0;
  };
  std::vector<std::vector<Flush>> flushes_;
};

// Which operations an image lacks at least one sector of, newest first.
class MissingFinder {
 public:
  MissingFinder(const History& history, const std::vector<ImageContent>& images, std::uint64_t cut_high_ns)
      : history_(history), images_(images), cut_high_ns_(cut_high_ns), image_of_target_(history.targets().size(), -1) {
    for (std::size_t i = 0; i < images.size(); ++i) {
      image_of_target_[images[i].target] = static_cast<int>(i);
      reached_.emplace_back(images[i].sectors.size(), false);
    }
  }

  // To be called for every index from the newest operation to the oldest. `*ret_held` = it is the content of a sector.
  bool lacks(std::uint32_t index, bool* ret_held) {
    const LoggedOperation& operation = history_.operations()[index];
    *ret_held = false;
    const int image = image_of_target_[operation.target];
    if (image < 0) return false;
    const auto at = static_cast<std::size_t>(image);
    bool lacking = false;
    for (std::uint64_t s = operation.slot.sector; s < operation.slot.sector + operation.slot.sectors; ++s) {
      if (reached_[at][s]) continue;
      const std::uint32_t content = images_[at].sectors[s];
      const bool zero_fits =
          content == 0 && operation.slot.kind == OperationKind::kZero && operation.submitted_ns() <= cut_high_ns_;
      if (content == index + 1 || zero_fits) {
        reached_[at][s] = true;
        *ret_held |= content != 0;
      } else {
        lacking = true;
      }
    }
    return lacking;
  }

 private:
  const History& history_;
  const std::vector<ImageContent>& images_;
  std::uint64_t cut_high_ns_;
  std::vector<int> image_of_target_;
  std::vector<std::vector<bool>> reached_;  // the content of this sector was met: what comes now was overwritten
};

std::string describe(const LoggedOperation& operation, const History& history) {
  const LogSlot& slot = operation.slot;
  return (slot.kind == OperationKind::kZero ? "zeroing " : "write ") + std::to_string(slot.number) + " (disk " +
         std::to_string(history.targets()[operation.target].id) + " sectors " + std::to_string(slot.sector) + "+" +
         std::to_string(slot.sectors) + ")";
}

std::string milliseconds(std::uint64_t ns) { return std::to_string(static_cast<double>(ns) / 1e6) + " ms"; }

}  // namespace

Account account(const History& history, const std::vector<ImageContent>& images, const PrefixResult& cut,
                const Requirements& requirements) {
  Account result;
  for (const ImageContent& image : images) {
    result.sectors_verified += image.sectors.size();
    result.sectors_stamped += static_cast<std::uint64_t>(
        std::count_if(image.sectors.begin(), image.sectors.end(), [](std::uint32_t content) { return content != 0; }));
  }
  const FlushIndex flushes(history);
  MissingFinder finder(history, images, cut.cut_high_ns);
  std::uint64_t oldest_flushed_ns = kNever;  // durable since, of the missing ones
  std::string unfinished, unflushed, late;
  const auto& operations = history.operations();
  result.operations_logged = operations.size();
  for (std::uint32_t i = static_cast<std::uint32_t>(operations.size()); i-- > 0;) {
    const LoggedOperation& operation = operations[i];
    if (operation.slot.kind == OperationKind::kFlush) continue;
    bool held = false;
    const bool lacking = finder.lacks(i, &held);
    const std::uint64_t complete = operation.completed() ? operation.slot.complete_wall_ns : kNever;
    if (held && operation.slot.submit_wall_ns > result.newest_contained_wall_ns) {
      result.newest_contained_wall_ns = operation.slot.submit_wall_ns;
      result.newest_contained_number = operation.slot.number;
      if (requirements.not_after_ns != kNever && operation.slot.submit_wall_ns > requirements.not_after_ns)
        late = "later than allowed: " + describe(operation, history) + " is present, submitted " +
               milliseconds(operation.slot.submit_wall_ns - requirements.not_after_ns) + " after the limit";
    }
    if (!lacking || complete == kNever || complete > requirements.kill_ns) continue;
    ++result.missing_completed;
    result.newest_missing_wall_ns = std::max(result.newest_missing_wall_ns, complete);
    if (result.oldest_missing_wall_ns == 0 || complete < result.oldest_missing_wall_ns)
      result.oldest_missing_wall_ns = complete;
    if (complete < requirements.completed_before_ns)
      unfinished = "lost: " + describe(operation, history) + " is missing, completed " +
                   (requirements.completed_before_ns == kNever
                        ? std::string("and acknowledged")
                        : milliseconds(requirements.completed_before_ns - complete) + " before the limit");
    const std::uint64_t durable = flushes.durable_wall_ns(operation);
    if (durable == kNever || durable > requirements.kill_ns) continue;
    ++result.missing_flushed;
    oldest_flushed_ns = std::min(oldest_flushed_ns, durable);
    if (durable < requirements.flushed_before_ns)
      unflushed = "lost: " + describe(operation, history) + " is missing, flushed " +
                  (requirements.flushed_before_ns == kNever
                       ? std::string("and acknowledged")
                       : milliseconds(requirements.flushed_before_ns - durable) + " before the limit");
  }
  for (std::string* text : {&unfinished, &unflushed, &late})
    if (!text->empty()) result.violations.push_back(std::move(*text));
  if (requirements.kill_ns != kNever && result.oldest_missing_wall_ns != 0)
    result.rpo_ms = static_cast<double>(requirements.kill_ns - result.oldest_missing_wall_ns) / 1e6;
  if (requirements.kill_ns != kNever && oldest_flushed_ns != kNever)
    result.rpo_flushed_ms = static_cast<double>(requirements.kill_ns - oldest_flushed_ns) / 1e6;
  return result;
}

}  // namespace understudy::oracle
