// SPDX-License-Identifier: Apache-2.0
// Points and views: which positions of a store's stream can be recovered, and the disks as they were at one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/store.h"

namespace understudy {

// A stretch of the stream without a gap, i.e. from a HEAL (or the start) to the next GAP: every seq in it is a point.
struct PointRange {
  Seq first_seq = 0;
  Seq last_seq = 0;
  std::uint64_t first_time_ns = 0;
  std::uint64_t last_time_ns = 0;
  Seq last_barrier_seq = 0;            // newest barrier-aligned position in it; 0 = none
};
struct Gap {
  Seq first_seq = 0;                   // of the GAP record
  Seq last_seq = 0;                    // of its HEAL; 0 = still open
  std::uint64_t first_time_ns = 0;
  std::uint64_t last_time_ns = 0;
  GapReason reason = GapReason::kInitialCopy;
};
struct NamedPoint {
  Seq seq = 0;
  std::uint64_t time_ns = 0;
  MarkInfo mark;
};
class TimelineIndex;                    // timeline_index.h

struct Timeline {
  std::vector<PointRange> ranges;
  std::vector<Gap> gaps;
  std::vector<NamedPoint> marks;
  std::vector<DiskGeometry> disks;     // at the end of it
  Seq last_seq = 0;                    // newest readable record; 0 = none
  std::uint64_t last_time_ns = 0;
  Seq processed_seq = 0;               // up to here the journal is sealed: a view of it opens without more work
  std::optional<Damage> damage;        // the journal can't be read from here on: no point after it is offered
  std::shared_ptr<const TimelineIndex> index;  // finds positions inside a range; made by read_timeline()
};

// A resolved point.
struct Point {
  Seq seq = 0;
  std::uint64_t time_ns = 0;           // of the newest write in it
  bool barrier_aligned = false;
};

Result<Timeline> read_timeline(const Store& store);

// How an operator names a point: "latest", "latest-processed" (the newest in what is sealed; while nothing is sealed,
// all that there is), "latest-application" (the newest application-consistent mark), "seq:<n>", "@<mark name>", or a
// time: RFC 3339, "YYYY-MM-DD HH:MM:SS[.fff]" (local time), "HH:MM:SS" (the most recent one) or "-90s", "-10m", "-2h"
// before the newest record. Times and "latest" go to the newest barrier at or before them (I6), or, where the range has
// no barrier so far, to the last record (a state a power cut could have left, too; barrier_aligned is false); seq is
// exact. A time is compared with the newest record, not with the clock. A position inside a gap, before history or in
// the future is an error that names the nearest points on both sides.
Result<Point> resolve_point(const Timeline& timeline, std::string_view text);

struct ViewOptions {
  // Directory for a nameless file with what was decoded of the journal, so that it is not decoded again and again;
  // empty = kept in memory as far as kViewCacheBytesMax goes. For views that are read at random, for a while.
  std::string spill_directory;
  std::uint64_t spill_bytes_max = 0;   // about what that file may take up; > 0 when there is a directory
};

// The disks of a server at a point. Immutable; read() may be called from several threads.
//
// Memory: at most about kViewCacheBytesMax + kViewMapBytesMax + kViewFlatBytesMax, and what the reads under way need
// (some MiB each).
class PointInTimeView {
 public:
  virtual ~PointInTimeView() = default;
  // Errors besides those of the store: the spill's file can't be created.
  static Result<std::unique_ptr<PointInTimeView>> open(const Store& store, const Point& point,
                                                       const ViewOptions& options = {});

  virtual const Point& point() const = 0;
  virtual const std::vector<DiskGeometry>& disks() const = 0;
  // Fills `out` with the bytes at offset_bytes of `disk`, which must lie within it; every payload used is checked
  // against its checksum.
  virtual Status read(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) const = 0;
  // Hands every stretch of `disk` that is not all known zeros to `sink`, each byte once, in the order in which it is
  // cheapest to read (not by offset); memory does not grow with the disk.
  // `sink` may return an error to stop; the span is valid only during the call.
  using DataSink = std::function<Status(std::uint64_t offset_bytes, std::span<const std::byte> data)>;
  virtual Status read_all(std::uint16_t disk, const DataSink& sink) const = 0;
  // Length of the run that starts at offset_bytes and is all known zeros (hole) or all data. It may be shorter than it
  // could be (never 0 within the disk): what follows is then found by asking behind it.
  struct Extent { std::uint64_t length_bytes = 0; bool zero = false; };
  virtual Extent extent_at(std::uint16_t disk, std::uint64_t offset_bytes) const = 0;
};

}  // namespace understudy
