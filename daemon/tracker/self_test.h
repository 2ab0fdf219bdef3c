// SPDX-License-Identifier: Apache-2.0
// The proof, at attach, that writes of a disk will be captured with the right bytes, without writing to it.
//
// The agent fills a page of its own with random bytes and reads the disk's first block into it with O_DIRECT. When that
// bio is submitted the page still holds the random bytes. It goes through the same tracepoint as a write; the programs
// treat it as one, because the control block names our process, and put it into the ring as a PROBE record, which is
// never part of the stream. Finding exactly these bytes there, for this disk, proves that bios of this disk reach the
// programs, that the disk is matched, that the programs run in their order, that pages are translated to the right
// addresses, and that the ring works. What differs between this read and a write is the operation code only.
#pragma once

#include <linux/types.h>

#include "daemon/base/result.h"
#include "daemon/tracker/ring_reader.h"
#include "daemon/tracker/tracker.h"
#include "kmod-shim/capture_abi.h"

namespace understudy {

// kRefused when the read was not seen, or with other bytes. `reader` is a reader of its own: its cursor is moved. With
// a ring that is full (an agent coming back to an overflow) only that the first program saw the read can be shown.
Status prove_capture(understudy_control& control, RingReader& reader, const TrackedDisk& disk);

}  // namespace understudy
