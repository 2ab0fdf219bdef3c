// SPDX-License-Identifier: Apache-2.0
// The consumer of the capture benchmark: captures a disk with the default settings, takes every event and gives it
// back at once. Prints "ready" when it captures; on SIGTERM, "events N bytes N losses N", and removes the capture.
//
//     capture_consumer BPFFS DISK
#include <csignal>
#include <cstdio>

#include <atomic>
#include <chrono>

#include "daemon/tracker/bpf_tracker.h"

namespace {

std::atomic<bool> stopping{false};

}  // namespace

int main(int argc, char** argv) {
  using namespace understudy;
  if (argc != 3) {
    std::fprintf(stderr, "usage: capture_consumer BPFFS DISK\n");
    return 2;
  }
  std::signal(SIGTERM, [](int) { stopping.store(true); });
  BpfTrackerOptions options;
  options.server = "bench-capture";
  options.bpffs = argv[1];
  options.disks = {argv[2]};
  auto tracker = open_bpf_tracker(options);
  if (!tracker.ok()) {
    std::fprintf(stderr, "capture_consumer: %s\n", tracker.error().message().c_str());
    return 1;
  }
  Tracker& capture = *tracker.value();
  std::printf("ready\n");
  std::fflush(stdout);
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  while (!stopping.load()) {
    capture.wait(std::chrono::milliseconds(100));
    while (const auto event = capture.next()) {
      ++events;
      bytes += event->data.size();
      // Given back in pieces of a batch, as acknowledgements come.
      constexpr std::uint64_t kBatchBytes = 1024 * 1024;
      if (event->position - capture.tail() >= kBatchBytes) capture.release(event->position);
    }
    capture.release(capture.cursor());
  }
  std::printf("events %llu bytes %llu losses %llu\n", static_cast<unsigned long long>(events),
              static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(capture.losses().total));
  const Status detached = capture.detach();
  if (!detached.ok()) std::fprintf(stderr, "capture_consumer: %s\n", detached.error().message().c_str());
  return detached.ok() ? 0 : 1;
}
