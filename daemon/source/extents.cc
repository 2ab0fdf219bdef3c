// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/extents.h"

#include <algorithm>
#include <utility>

namespace understudy {

bool ExtentBuilder::add(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  if (length_bytes == 0) return true;
  if (offset_bytes + length_bytes < offset_bytes) return false;
  if (!pending_) {
    pending_ = Extent{offset_bytes, length_bytes};
    return true;
  }
  if (offset_bytes < pending_->end_bytes()) return false;
  if (offset_bytes == pending_->end_bytes()) {
    pending_->length_bytes += length_bytes;
    return true;
  }
  keep_pending();
  pending_ = Extent{offset_bytes, length_bytes};
  return true;
}

void ExtentBuilder::keep_pending() {
  if (pending_ && pending_->length_bytes >= length_bytes_min_) list_.push_back(*pending_);
  pending_.reset();
}

ExtentList ExtentBuilder::take() {
  keep_pending();
  return std::exchange(list_, {});
}

ExtentList normalized(std::vector<Extent> extents) {
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.offset_bytes < b.offset_bytes; });
  ExtentList list;
  for (const Extent& extent : extents) {
    if (extent.length_bytes == 0) continue;
    if (!list.empty() && extent.offset_bytes <= list.back().end_bytes()) {
      Extent& last = list.back();
      last.length_bytes = std::max(last.end_bytes(), extent.end_bytes()) - last.offset_bytes;
    } else {
      list.push_back(extent);
    }
  }
  return list;
}

ExtentList subtracted(const ExtentList& from, const ExtentList& what) {
  ExtentList list;
  auto other = what.begin();
  for (const Extent& extent : from) {
    std::uint64_t at = extent.offset_bytes;
    while (other != what.end() && other->end_bytes() <= at) ++other;
    for (auto cut = other; cut != what.end() && cut->offset_bytes < extent.end_bytes(); ++cut) {
      if (cut->offset_bytes > at) list.push_back({at, cut->offset_bytes - at});
      at = std::max(at, cut->end_bytes());
    }
    if (at < extent.end_bytes()) list.push_back({at, extent.end_bytes() - at});
  }
  return list;
}

ExtentList intersected(const ExtentList& a, const ExtentList& b) {
  ExtentList list;
  auto first = a.begin();
  auto second = b.begin();
  while (first != a.end() && second != b.end()) {
    const std::uint64_t begin = std::max(first->offset_bytes, second->offset_bytes);
    const std::uint64_t end = std::min(first->end_bytes(), second->end_bytes());
    if (begin < end) list.push_back({begin, end - begin});
    (first->end_bytes() < second->end_bytes() ? first : second)++;
  }
  return list;
}

std::uint64_t total_bytes(const ExtentList& list) {
  std::uint64_t bytes = 0;
  for (const Extent& extent : list) bytes += extent.length_bytes;
  return bytes;
}

}  // namespace understudy
