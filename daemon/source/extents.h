// SPDX-License-Identifier: Apache-2.0
// Sorted, disjoint stretches of a device. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace understudy {

struct Extent {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;

  std::uint64_t end_bytes() const { return offset_bytes + length_bytes; }
  bool operator==(const Extent&) const = default;
};
// Ascending, without overlaps, neighbours merged.
using ExtentList = std::vector<Extent>;

// Takes extents in ascending order and keeps those of at least `length_bytes_min` after neighbours were merged, so that
// the memory of a list is bounded by the size of the device, not by how fragmented a file system is.
class ExtentBuilder {
 public:
  explicit ExtentBuilder(std::uint64_t length_bytes_min = 1) : length_bytes_min_(length_bytes_min) {}
  // False: the extent lies before or in the one added last (or wraps around); nothing was added.
  bool add(std::uint64_t offset_bytes, std::uint64_t length_bytes);
  ExtentList take();

 private:
  void keep_pending();
  std::uint64_t length_bytes_min_;
  std::optional<Extent> pending_;
  ExtentList list_;
};

// Sorts and merges what may overlap.
ExtentList normalized(std::vector<Extent> extents);
ExtentList subtracted(const ExtentList& from, const ExtentList& what);
ExtentList intersected(const ExtentList& a, const ExtentList& b);
std::uint64_t total_bytes(const ExtentList& list);

}  // namespace understudy
