// SPDX-License-Identifier: Apache-2.0
// A Replicator with everything around it simulated, for directed tests.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "daemon/replicate/replicator.h"
#include "daemon/tracker/simulated_tracker.h"
#include "tests/unit/replicate/interrupted_tracker.h"
#include "tests/unit/replicate/memory_disk_reader.h"
#include "tests/unit/replicate/model_receiver.h"

namespace understudy {

class ManualClock final : public Clock {
 public:
  std::uint64_t boot_ns() const override { return boot; }
  std::uint64_t wall_ns() const override { return boot + offset; }
  std::uint64_t boot = 1'000'000'000;
  std::uint64_t offset = 1'700'000'000'000'000'000;
};

struct HarnessOptions {
  std::vector<std::uint64_t> disk_bytes = {256 << 10};
  std::uint64_t ring_bytes = 1 << 20;
  std::uint32_t granule_bytes = 4 << 10;
  std::uint32_t buffers = 4;
  std::uint32_t buffer_bytes = 16 << 10;
  bool digests = true;  // a reader for digest scans
};

class Harness {
 public:
  explicit Harness(const HarnessOptions& options = {}) : harness_options_(options) {
    SimulatedCaptureOptions capture_options;
    for (std::size_t i = 0; i < options.disk_bytes.size(); ++i) {
      capture_options.disks.push_back({"/dev/sim" + std::to_string(i), options.disk_bytes[i], 512});
    }
    capture_options.ring_bytes = options.ring_bytes;
    capture_options.granule_bytes = options.granule_bytes;
    capture_options.clock = &clock;
    capture_options.virtual_time = true;
    capture = std::make_unique<SimulatedCapture>(capture_options);
    receiver = std::make_unique<ModelReceiver>();
    replicator_options.server = Uuid::random();
    for (std::size_t i = 0; i < options.disk_bytes.size(); ++i) {
      DiskGeometry disk;
      disk.disk = static_cast<std::uint16_t>(i);
      disk.id.bytes[0] = static_cast<std::byte>(i + 1);
      disk.name = "/dev/sim" + std::to_string(i);
      disk.size_bytes = options.disk_bytes[i];
      replicator_options.disks.push_back(disk);
    }
    replicator_options.copier.chunk_bytes_max = options.buffer_bytes;
    replicator_options.copier.bad_retry_ns = 50'000'000;
    start_agent();
  }
  ~Harness() { stop_agent(); }

  void start_agent() {
    tracker = std::make_unique<InterruptedTracker>(capture->open());
    reader = std::make_unique<MemoryDiskReader>(*capture, harness_options_.buffers, harness_options_.buffer_bytes);
    if (harness_options_.digests) {
      digest_reader = std::make_unique<MemoryDiskReader>(*capture, 2, static_cast<std::uint32_t>(kDigestChunkBytes));
    }
    replicator = std::make_unique<Replicator>(replicator_options, *tracker, *reader, *receiver, clock,
                                              digest_reader.get());
  }
  // kill -9: nothing is said to anybody; the receiver sees the connection end.
  // What it keeps of the state of replication was kept when it changed.
  void stop_agent(bool keep_undurable = true) {
    if (replicator) replicator_options.state = replicator->replication_state();
    replicator.reset();
    receiver->cut(keep_undurable);
    while (receiver->poll()) {
    }
    reader.reset();
    digest_reader.reset();
    tracker.reset();
  }

  // Both while the agent is away.
  void add_disk(std::span<const std::byte> content) {
    const std::string path = "/dev/sim" + std::to_string(replicator_options.disks.size());
    DiskGeometry disk;
    disk.disk = capture->add_disk(path, content);
    disk.id.bytes[0] = static_cast<std::byte>(disk.disk + 1);
    disk.name = path;
    disk.size_bytes = content.size();
    replicator_options.disks.push_back(disk);
  }
  void grow_disk(std::uint16_t slot, std::span<const std::byte> content) {
    capture->grow_disk(slot, content);
    replicator_options.disks.at(slot).size_bytes += content.size();
  }

  StepResult step(std::uint64_t advance_ns = 1'000'000) {
    clock.boot += advance_ns;
    const StepResult result = replicator->step();
    while (auto event = replicator->take_event()) events.push_back(*event);
    return result;
  }
  // Everything moves until nothing is left to do, or `steps` are over.
  bool settle(int steps = 5000) {
    for (int i = 0; i < steps; ++i) {
      step();
      reader->progress(random, 64);
      if (digest_reader) digest_reader->progress(random, 4096);
      receiver->travel(64);
      receiver->commit(64);
      if (receiver->store.whole() && receiver->idle() && replicator->phase() == Phase::kRealtime &&
          tracker->tail() == tracker->head()) {
        step();
        return true;
      }
    }
    return false;
  }
  std::vector<std::byte> bytes(std::size_t length) {
    std::vector<std::byte> data(length);
    for (std::byte& b : data) b = static_cast<std::byte>(random());
    return data;
  }
  void write(std::uint16_t disk, std::uint64_t offset, std::size_t length, SimulatedWriteFlags flags = {}) {
    const auto data = bytes(length);
    capture->write(disk, offset, data, flags);
  }
  bool replica_equals_disk() const {
    for (std::size_t i = 0; i < replicator_options.disks.size(); ++i) {
      const auto disk = static_cast<std::uint16_t>(i);
      const auto expected = capture->disk_bytes(disk);
      const auto content = receiver->store.content(disk);
      if (!std::equal(expected.begin(), expected.end(), content.begin(), content.end())) return false;
    }
    return true;
  }
  bool told(ReplicatorEvent::Kind kind) const {
    for (const auto& event : events) {
      if (event.kind == kind) return true;
    }
    return false;
  }

  ManualClock clock;
  std::mt19937_64 random{42};
  std::unique_ptr<SimulatedCapture> capture;
  std::unique_ptr<ModelReceiver> receiver;
  ReplicatorOptions replicator_options;
  std::unique_ptr<InterruptedTracker> tracker;
  std::unique_ptr<MemoryDiskReader> reader;
  std::unique_ptr<MemoryDiskReader> digest_reader;
  std::unique_ptr<Replicator> replicator;
  std::vector<ReplicatorEvent> events;

 private:
  HarnessOptions harness_options_;
};

}  // namespace understudy
