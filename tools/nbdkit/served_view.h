// SPDX-License-Identifier: Apache-2.0
// What the plugin serves: the disks of a store at one point, by the names of NBD exports. Knows nothing of nbdkit.
//
// Threads: set() and open() before anything else, by one thread; the rest from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/view/view.h"

namespace understudy {

// A disk under the name of its export.
struct ServedDisk {
  DiskGeometry geometry;
  std::string export_name;  // its slot
  std::string description;  // "/dev/vdb of web-1 at seq:17, newest write 2026-03-01 12:03:17.250"
};

class ServedView {
 public:
  // A parameter of the command line: store, base, point, disk, info, cache or cache_bytes. kInvalidArgument names what
  // is wrong with it.
  Status set(std::string_view key, std::string value);
  // Opens what the parameters say. Damage of the journal goes to `report`. With the parameter `info`, writes what is
  // served into that file: lines "server NAME", "seq N", "time_ns N", "barrier_aligned 0|1" and for each disk
  // "disk SLOT SIZE_BYTES NAME"; control characters in names are shown as \xNN.
  //
  // What was decoded goes into a nameless file in the directory `cache`, by default TMPDIR or /var/tmp, of up to
  // `cache_bytes`, and not more than half of what is free there. A directory that was named and can't be used is an
  // error; of the default it is cache_problem().
  Status open(const DamageReport& report);

  // Why there is no cache file although one was wanted; empty = there is one, or none was wanted.
  const std::string& cache_problem() const { return cache_problem_; }

  const Point& point() const { return view_->point(); }
  const std::vector<ServedDisk>& disks() const { return disks_; }
  // The disk of an export: a slot, or the disk's name. "" is the only disk there is; kNotFound lists them otherwise.
  Result<const ServedDisk*> find(std::string_view export_name) const;

  // Fills `out`; see PointInTimeView::read(). An exception of the libraries below becomes an Error.
  Status read(const ServedDisk& disk, std::uint64_t offset_bytes, std::span<std::byte> out) const;

  // Calls sink(offset, length, zero) for what lies in the range, in order, without a hole between; it returns false to
  // stop. With `one` only the first extent.
  template <typename Sink>
  void extents(const ServedDisk& disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, bool one,
               Sink sink) const {
    const std::uint64_t end = offset_bytes + length_bytes;
    for (std::uint64_t at = offset_bytes; at < end;) {
      const PointInTimeView::Extent extent = view_->extent_at(disk.geometry.disk, at);
      CHECK(extent.length_bytes > 0);
      if (!sink(at, extent.length_bytes, extent.zero) || one) return;
      at += extent.length_bytes;
    }
  }

 private:
  Status write_info(const std::string& server) const;
  Status open_view(const Store& store, const Point& point);

  std::string store_;
  std::string base_directory_;
  std::string info_path_;
  std::string point_text_ = "latest";
  std::optional<std::string> disk_;
  std::string cache_directory_;                // empty = the default
  std::uint64_t cache_bytes_max_ = 2ull << 30;  // 0 = no cache file
  std::string cache_problem_;
  std::unique_ptr<PointInTimeView> view_;
  std::vector<ServedDisk> disks_;
};

}  // namespace understudy
