// SPDX-License-Identifier: Apache-2.0
// What damage that a scrub found means: which bytes of the disks can't be read any more at the end of the journal, and
// up to which point that is so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/store/store.h"

namespace understudy {

struct DamagedExtent {
  std::uint16_t disk = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  bool operator==(const DamagedExtent&) const = default;
};

struct DamageReach {
  std::vector<DamagedExtent> extents;  // at the newest point; sorted, not touching, the first `count_max` of them
  bool newest = false;                 // the newest point needs bytes that are damaged
  Seq last_seq = 0;                    // the last point that does, as far as ends of ranges tell; 0 = none was found
  std::uint64_t last_time_ns = 0;
};

// Nothing is taken from the damages but where to look: what lies there is read, and only what can't be proved counts.
// It is asked about the ends of the newest ranges of points (view.h), one after the other until one needs damaged
// bytes. Reads the indexes over all of the disks for each. Errors: the indexes can't be read; nothing can be told then.
Result<DamageReach> find_damage_reach(const Store& store, std::span<const Damage> damages, std::size_t count_max);

}  // namespace understudy
