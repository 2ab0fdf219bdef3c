// SPDX-License-Identifier: Apache-2.0
// What must be known of a stream to continue it: StreamPosition as it follows from the records. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/record/batch.h"
#include "daemon/record/record.h"

namespace understudy {

struct StreamState {
  StreamPosition position;
  Seq gap_seq = 0;  // of the GAP that is open; 0 = none

  const DiskGeometry* find_disk(std::uint16_t slot) const;
};

// Takes in the records of a batch that follows. `reader` must hold payloads of GAP and GEOMETRY.
Status apply_batch(StreamState& state, const BatchReader& reader);
// One record with number `seq`; changes nothing when it returns an error.
Status apply_record(StreamState& state, Seq seq, const Record& record);
// The fields that a batch sets as a whole.
void apply_batch_info(StreamState& state, const BatchInfo& info);

// State section of a segment: StateCheckpoint, geometry, padding.
std::vector<std::byte> encode_state(const StreamState& state);
Result<StreamState> decode_state(std::span<const std::byte> section);

}  // namespace understudy
