// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/delta_choice.h"

namespace understudy {
namespace {

// What was measured counts half after about five more comparisons.
constexpr double kKept = 7.0 / 8;
// A forecast is clear when one way needs at most this share of what the other one needs.
constexpr double kClear = 0.75;
// With more than this share of the batch changed, both ways come to about the same.
constexpr double kAlike = 0.9;

}  // namespace

void DeltaChoice::Share::add(std::uint64_t raw_bytes, std::uint64_t stored_bytes) {
  raw = raw * kKept + static_cast<double>(raw_bytes);
  stored = stored * kKept + static_cast<double>(stored_bytes);
}

DeltaChoice::Way DeltaChoice::decide(std::uint64_t whole_bytes, std::uint64_t changed_bytes, bool may_compare) {
  if (changed_bytes >= whole_bytes) return Way::kWhole;
  if (changed_bytes == 0) return Way::kChanges;
  if (may_compare && (!compared_ || ++since_probe_ >= kProbeBatches)) return Way::kCompare;
  if (!compared_) return Way::kChanges;
  const double whole = whole_.of(whole_bytes);
  const double changed = changed_.of(changed_bytes);
  if (changed <= whole * kClear) return Way::kChanges;
  if (whole <= changed * kClear) return Way::kWhole;
  if (static_cast<double>(changed_bytes) > kAlike * static_cast<double>(whole_bytes)) {
    return changes_won_ ? Way::kChanges : Way::kWhole;
  }
  if (may_compare) return Way::kCompare;
  return changed <= whole ? Way::kChanges : Way::kWhole;
}

void DeltaChoice::compared(std::uint64_t whole_bytes, std::uint64_t changed_bytes, std::uint64_t whole_stored_bytes,
                           std::uint64_t changed_stored_bytes) {
  if (whole_bytes == 0 || changed_bytes == 0) return;
  compared_ = true;
  since_probe_ = 0;
  changes_won_ = changed_stored_bytes <= whole_stored_bytes;
  whole_.add(whole_bytes, whole_stored_bytes);
  changed_.add(changed_bytes, changed_stored_bytes);
}

}  // namespace understudy
