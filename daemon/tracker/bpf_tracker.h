// SPDX-License-Identifier: Apache-2.0
// The BPF rung of capture: opens, or creates, the pinned programs and maps of one server (kmod-shim/bpf/README.md says
// what they do) and presents them as a Tracker.
//
// Everything the kernel side needs is pinned below <bpffs>/understudy/<server>/, so capture goes on while no agent is
// there; the next open_bpf_tracker() finds ring, dirty map and losses as they are, under the same capture id. A new
// capture id means: nothing is known about writes before this moment. It is taken when
//   - there were no pins, or only a half-made set (it is removed);
//   - a disk of the pinned set has shrunk or is another disk than before (diskseq);
//   - a disk was added or has grown and there is no slot or no room left in the dirty map for it.
// A disk added to the configuration otherwise joins the running capture, all of it dirty. A disk taken out of it
// is no longer captured; its slot is not used again under the same capture id, and what the ring still has of it is
// skipped by next(). ring_bytes, granule_bytes and in_flight_max apply when a capture is created; a pinned capture
// keeps its own until detach() (said in remarks).
//
// Needs CAP_SYS_ADMIN (or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN for the proof of address translation).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

struct BpfTrackerOptions {
  std::string server;                            // 1 to 64 bytes, no '/' or control characters
  std::vector<std::string> disks;                // paths; 1 to UNDERSTUDY_DISKS_MAX
  std::uint64_t ring_bytes = 256 * 1024 * 1024;  // a power of two from 1 MiB to 2 GiB
  std::uint32_t granule_bytes = 64 * 1024;       // a power of two from 4 KiB to 16 MiB
  std::uint32_t in_flight_max = 16 * 1024;       // writes under way at one moment that copy mode can know
  std::string bpffs = "/sys/fs/bpf";             // must be a mounted bpffs
  // Where what an operator should know is put, one sentence each ("ring_bytes 64 MiB not applied: ..."). May be null.
  std::vector<std::string>* remarks = nullptr;
  // For tests: take the variant for kernels without bpf_loop although the kernel has it.
  bool without_bpf_loop = false;
};

// Attaches capture of `options.disks`, or takes over what is pinned for the server, and proves it: a read of each disk
// must be seen by the programs, with the right bytes (see self_test.h). Errors besides those of inspect_disk():
//   kInvalidArgument  an option is out of its range; a disk is named twice
//   kUnsupported      the kernel cannot do it; the message says what is missing
//   kRefused          a disk is captured for another server; the pinned kernel side has another ABI version (both are
//                     named); the self-test did not see its read
//   kBusy             another process has this capture open
//   kNotFound         `bpffs` is not a mounted bpffs
Result<std::unique_ptr<Tracker>> open_bpf_tracker(const BpfTrackerOptions& options);

// Removes the pins of a server: capture ends, the kernel gives the memory back. kNotFound if there are none, kBusy if
// a process has it open. For operators who take a server out of protection without an agent running.
Status remove_bpf_capture(const std::string& bpffs, const std::string& server);

}  // namespace understudy
