// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

namespace understudy {

// A set of byte ranges, kept merged. Not thread-safe.
class ExtentSet {
 public:
  bool overlaps(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
    const auto next = ends_.upper_bound(offset_bytes);
    if (next != ends_.begin() && std::prev(next)->second > offset_bytes) return true;
    return next != ends_.end() && next->first < offset_bytes + length_bytes;
  }

  void add(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    std::uint64_t begin = offset_bytes;
    std::uint64_t end = offset_bytes + length_bytes;
    auto it = ends_.upper_bound(begin);
    if (it != ends_.begin() && std::prev(it)->second >= begin) --it;
    while (it != ends_.end() && it->first <= end) {
      begin = it->first < begin ? it->first : begin;
      end = it->second > end ? it->second : end;
      it = ends_.erase(it);
    }
    ends_.emplace(begin, end);
  }

  std::size_t size() const { return ends_.size(); }

 private:
  std::map<std::uint64_t, std::uint64_t> ends_;  // begin -> end
};

}  // namespace understudy
