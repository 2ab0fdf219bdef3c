// SPDX-License-Identifier: Apache-2.0
// Records of the ring and fields of the control block, as every kernel side that has them means them (capture_abi.h).
#pragma once

#include <array>
#include <optional>

#include <linux/types.h>

#include "daemon/base/uuid.h"
#include "daemon/tracker/ring_reader.h"
#include "daemon/tracker/tracker.h"
#include "kmod-shim/capture_abi.h"

namespace understudy {

// By slot: disks whose events are wanted.
using KnownDisks = std::array<bool, UNDERSTUDY_DISKS_MAX>;

// The event that a record of the ring is; its data points into the record. nullopt for those that are none: the
// self-test's own, and those of disks that are not (any more) `known`. A record that contradicts itself is a bug of the
// kernel side (CHECK).
std::optional<CaptureEvent> event_of(const RingReader::Record& record, const KnownDisks& known);

void store_capture_id(understudy_control& control, const Uuid& id);
Uuid load_capture_id(const understudy_control& control);

// The counters of the control block; `unprovable` is not among them and left 0.
Losses losses_of(const understudy_control& control);

}  // namespace understudy
