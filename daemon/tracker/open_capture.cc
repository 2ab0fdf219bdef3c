// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/open_capture.h"

#include <utility>

#include "daemon/tracker/bpf_tracker.h"
#include "daemon/tracker/module_tracker.h"

namespace understudy {

namespace {

using OpenedTracker = Result<std::unique_ptr<Tracker>>;

void remark(const CaptureOptions& options, std::string text) {
  if (options.remarks != nullptr) options.remarks->push_back(std::move(text));
}

bool is_absent(const Status& status) {
  return !status.ok() &&
         (status.error().kind() == ErrorKind::kNotFound || status.error().kind() == ErrorKind::kUnsupported);
}

// The writes are captured by the one rung now: what the other one has is of no use any more.
void end_other(const CaptureOptions& options, const char* other, const Status& removed) {
  if (removed.ok())
    remark(options, std::string("capture by ") + other + " ended: another rung has taken over");
  else if (!is_absent(removed))
    remark(options, std::string("capture by ") + other + " goes on beside this one: " + removed.error().message());
}

OpenedTracker open_bpf(const CaptureOptions& options) {
  BpfTrackerOptions bpf;
  bpf.server = options.server;
  bpf.disks = options.disks;
  bpf.ring_bytes = options.ring_bytes;
  bpf.granule_bytes = options.granule_bytes;
  bpf.bpffs = options.bpffs;
  bpf.remarks = options.remarks;
  auto tracker = open_bpf_tracker(bpf);
  if (tracker.ok()) end_other(options, "the module", remove_module_capture(options.server));
  return tracker;
}

OpenedTracker open_module(const CaptureOptions& options) {
  ModuleTrackerOptions module;
  module.server = options.server;
  module.disks = options.disks;
  module.ring_bytes = options.ring_bytes;
  module.granule_bytes = options.granule_bytes;
  module.remarks = options.remarks;
  auto tracker = open_module_tracker(module);
  if (tracker.ok()) end_other(options, "BPF", remove_bpf_capture(options.bpffs, options.server));
  return tracker;
}

}  // namespace

OpenedTracker open_capture(const CaptureOptions& options) {
  if (options.method == CaptureMethod::kBpf) return open_bpf(options);
  if (options.method == CaptureMethod::kModule) return open_module(options);
  const bool module_first = module_has_capture(options.server);
  auto first = module_first ? open_module(options) : open_bpf(options);
  if (first.ok() || first.error().kind() != ErrorKind::kUnsupported) return first;
  auto second = module_first ? open_bpf(options) : open_module(options);
  if (second.ok()) {
    remark(options,
           std::string("not captured by ") + (module_first ? "the module" : "BPF") + ": " + first.error().message());
    return second;
  }
  if (second.error().kind() != ErrorKind::kUnsupported) return second;
  return Error(ErrorKind::kUnsupported,
               "no rung of capture can be used: " + first.error().message() + "; " + second.error().message());
}

Status remove_capture(const std::string& bpffs, const std::string& server) {
  const Status bpf = remove_bpf_capture(bpffs, server);
  const Status module = remove_module_capture(server);
  // What could not be ended is what must be known; then, that nothing was there.
  if (!bpf.ok() && (!is_absent(bpf) || is_absent(module))) return Error(bpf.error());
  if (!module.ok() && !is_absent(module)) return Error(module.error());
  return ok_status();
}

}  // namespace understudy
