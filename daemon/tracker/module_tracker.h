// SPDX-License-Identifier: Apache-2.0
// The module rung of capture: opens, or creates, a server's capture in the kernel module `understudy`
// (kmod-shim/module/README.md) and presents it as a Tracker. Disks are device-mapper devices whose table is all linear:
// LVM's usual volumes. Their lines become lines of the target `understudy`, live, and linear again when capture ends.
//
// The module keeps ring, dirty map and losses while no agent is there; the next open_module_tracker() finds them as
// they are, under the same capture id. It takes a new one when
//   - there was no capture;
//   - a disk has another size than before, or is another disk (diskseq);
//   - all slots were used by disks that came and went.
// A disk added to the configuration joins the running capture, all of it dirty; one taken out of it gets its linear
// table back. ring_bytes and granule_bytes apply when a capture is created (said in remarks).
//
// When somebody else replaces a disk's table (LVM does, to extend a volume or to take a snapshot) its writes are not
// seen any more. The module marks the whole disk dirty, moves the loss counters and reports, by in_flight(), a lost
// write over all of it; the tracker puts the target back at the next set_copy_mode() or in_flight(), where the new
// table is linear and of the same size. Until then nothing that was read of the disk counts.
//
// Needs CAP_SYS_ADMIN.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

struct ModuleTrackerOptions {
  std::string server;                            // 1 to 64 bytes, no '/' or control characters
  std::vector<std::string> disks;                // paths; 1 to UNDERSTUDY_DISKS_MAX
  std::uint64_t ring_bytes = 256 * 1024 * 1024;  // a power of two from 1 MiB to 2 GiB
  std::uint32_t granule_bytes = 64 * 1024;       // a power of two from 4 KiB to 16 MiB
  // Where what an operator should know is put, one sentence each. May be null.
  std::vector<std::string>* remarks = nullptr;
};

// Attaches capture of `options.disks`, or takes over what the module has for the server, and proves it by a read of
// each disk (self_test.h). Errors besides those of inspect_disk():
//   kInvalidArgument  an option is out of its range; a disk is named twice
//   kUnsupported      the module is not loaded; a disk is no device-mapper device, or not all linear
//   kRefused          a disk is captured for another server; the module has another ABI version (both are named); the
//                     self-test did not see its read
//   kBusy             another process has this capture open; a disk is suspended, or another table is loaded for it
Result<std::unique_ptr<Tracker>> open_module_tracker(const ModuleTrackerOptions& options);

// Ends a server's capture in the module: linear tables come back, memory is freed. kNotFound if there is none,
// kUnsupported if the module is not loaded, kBusy if a process has it open.
Status remove_module_capture(const std::string& server);

// Whether the module has a capture of the server. False also when it is not loaded or not to be asked.
bool module_has_capture(const std::string& server);

// Whether writes of the disk at `path` can be captured by the dm target: kUnsupported, saying why, when not.
Status can_attach_by_table(const std::string& path, std::uint32_t device);

}  // namespace understudy
