// SPDX-License-Identifier: Apache-2.0
// Which rung of the capture ladder a server gets: BPF, or the kernel module (design: best rung first).
//
// Threads: as the trackers'.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

enum class CaptureMethod : std::uint8_t {
  kAuto,  // what runs already; else BPF; else, where the kernel cannot do that, the module
  kBpf,
  kModule,
};

struct CaptureOptions {
  CaptureMethod method = CaptureMethod::kAuto;
  std::string server;
  std::vector<std::string> disks;
  std::uint64_t ring_bytes = 256 * 1024 * 1024;
  std::uint32_t granule_bytes = 64 * 1024;
  std::string bpffs = "/sys/fs/bpf";
  std::vector<std::string>* remarks = nullptr;  // as BpfTrackerOptions::remarks
};

// As open_bpf_tracker() and open_module_tracker(). A capture of the server that another rung has is ended when this one
// stands (said in remarks). With kAuto, kUnsupported says what is missing for each rung.
Result<std::unique_ptr<Tracker>> open_capture(const CaptureOptions& options);

// Ends the server's capture, whichever rung has it, without an agent. kNotFound if there is none.
Status remove_capture(const std::string& bpffs, const std::string& server);

}  // namespace understudy
