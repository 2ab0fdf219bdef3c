// SPDX-License-Identifier: Apache-2.0
// The real thread, real time, a real disk and both read engines around a simulated capture.
#include "daemon/agent/replication_thread.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <mutex>
#include <thread>

#include "daemon/agent/status_json.h"
#include "daemon/base/clock.h"
#include "daemon/tracker/simulated_tracker.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kDiskBytes = 1 << 20;

// Takes everything, says that it is durable a moment later, from a thread of its own as the real link does.
class AcknowledgingLink final : public Link {
 public:
  ~AcknowledgingLink() override {
    if (thread_.joinable()) thread_.join();
  }
  void set_waker(std::function<void()> waker) override { waker_ = std::move(waker); }
  std::optional<LinkEvent> poll() override {
    std::lock_guard lock(mutex_);
    if (!up_) {
      up_ = true;
      return LinkUp{};
    }
    if (acknowledged_ == told_) return std::nullopt;
    told_ = acknowledged_;
    return LinkAck{told_};
  }
  void send(std::unique_ptr<OutgoingBatch> batch) override {
    if (thread_.joinable()) thread_.join();
    thread_ = std::thread([this, sent = std::move(batch)] {
      std::vector<std::byte> bytes;
      const BatchInfo info = sent->batch.encode({Codec::kNone, 0}, bytes);
      {
        std::lock_guard lock(mutex_);
        if (!silent) acknowledged_ = info.last_seq();
      }
      waker_();
    });
  }
  LinkStatistics statistics() const override { return {}; }
  std::atomic<bool> silent{false};

 private:
  std::mutex mutex_;
  bool up_ = false;
  Seq acknowledged_ = 0;
  Seq told_ = 0;
  std::function<void()> waker_;
  std::thread thread_;
};

// A real block device of zeros; detached at the end. Needs root.
class LoopDevice {
 public:
  LoopDevice() {
    const UniqueFd backing(::memfd_create("replication-thread-test", MFD_CLOEXEC));
    REQUIRE(::ftruncate(backing.get(), kDiskBytes) == 0);
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    REQUIRE_MESSAGE(control.valid(), "this test needs root and loop devices");
    for (int attempt = 0; attempt < 100; ++attempt) {
      const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
      REQUIRE(number >= 0);
      path_ = "/dev/loop" + std::to_string(number);
      device_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
      loop_config config{};
      config.fd = static_cast<__u32>(backing.get());
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR;  // gone with the last descriptor, however the test ends
      if (device_.valid() && ::ioctl(device_.get(), LOOP_CONFIGURE, &config) == 0) return;
      REQUIRE(errno == EBUSY);  // somebody else was faster
    }
    REQUIRE(false);
  }
  const std::string& path() const { return path_; }

 private:
  UniqueFd device_;
  std::string path_;
};

struct Running {
  explicit Running(ReadEngineChoice choice) {
    SimulatedCaptureOptions options;
    options.disks = {{loop.path(), kDiskBytes, 512}};
    capture = std::make_unique<SimulatedCapture>(options);
    ReplicationThread::Parts parts;
    parts.tracker = capture->open();
    auto engine = make_read_engine(choice, 2, 64 << 10);
    REQUIRE(engine.ok());
    auto reader = EngineDiskReader::open(parts.tracker->disks(), std::move(engine).value());
    REQUIRE_MESSAGE(reader.ok(), (reader.ok() ? "" : reader.error().message()));
    parts.reader = std::move(reader).value();
    parts.options.server = Uuid::random();
    DiskGeometry geometry;
    geometry.name = loop.path();
    geometry.size_bytes = kDiskBytes;
    parts.options.disks = {geometry};
    facts.server_name = "web-1";
    facts.disks = parts.tracker->disks();
    auto own_link = std::make_unique<AcknowledgingLink>();
    link = own_link.get();
    parts.link = std::move(own_link);
    parts.on_event = [this](const ReplicatorEvent& event) {
      finished += event.kind == ReplicatorEvent::Kind::kCopyFinished;
    };
    parts.on_status = [this](const ReplicationStatus&) { ++statuses; };
    auto started = ReplicationThread::start(std::move(parts));
    REQUIRE(started.ok());
    thread = std::move(started).value();
  }
  ReplicationStatus wait_for(Phase phase) {
    for (int i = 0; i < 2000; ++i) {
      const ReplicationStatus status = thread->status(10'000'000'000);
      if (status.phase == phase) return status;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return thread->status();
  }
  LoopDevice loop;
  std::unique_ptr<SimulatedCapture> capture;
  std::atomic<int> finished{0};
  std::atomic<int> statuses{0};
  AcknowledgingLink* link = nullptr;
  AgentFacts facts;
  std::unique_ptr<ReplicationThread> thread;
};

}  // namespace

TEST_CASE("replication thread: copies a real disk, goes to real time, drains on stop") {
  for (const auto choice : {ReadEngineChoice::kUring, ReadEngineChoice::kThreads}) {
    Running running(choice);
    const ReplicationStatus status = running.wait_for(Phase::kRealtime);
    REQUIRE(status.phase == Phase::kRealtime);
    CHECK(status.copy_done_bytes == kDiskBytes);
    CHECK(running.finished == 1);
    CHECK(running.statuses >= 1);
    const Json json = agent_status_json(running.facts, status, {{"low-free-space", "little is left", "keep more"}});
    CHECK(json.at("phase").as_string("") == "realtime");
    CHECK(json.at("copy_total_bytes").as_unsigned(0) == kDiskBytes);
    CHECK(json.at("disks").items()[0].at("path").as_string("") == running.loop.path());
    CHECK(json.at("gap_reason").is_null());
    CHECK(json.at("findings").items().at(0).at("code").as_string("") == "low-free-space");

    const std::vector<std::byte> data(4096, std::byte{1});
    running.capture->write(0, 8192, data);
    CHECK(running.thread->drain_and_stop(10'000'000'000));
  }
}

TEST_CASE("replication thread: a stop without acknowledgements ends at its deadline and says so") {
  Running running(ReadEngineChoice::kAuto);
  REQUIRE(running.wait_for(Phase::kRealtime).phase == Phase::kRealtime);
  running.link->silent = true;
  const std::vector<std::byte> data(4096, std::byte{1});
  running.capture->write(0, 8192, data);
  const std::uint64_t before = system_clock().boot_ns();
  CHECK_FALSE(running.thread->drain_and_stop(300'000'000));
  CHECK(system_clock().boot_ns() - before >= 300'000'000);
  CHECK(running.thread->detach().ok());
}

TEST_CASE("replication thread: what cannot be opened is named") {
  TrackedDisk disk;
  disk.path = "/dev/does-not-exist";
  auto engine = make_read_engine(ReadEngineChoice::kThreads, 1, 64 << 10);
  REQUIRE(engine.ok());
  const auto reader = EngineDiskReader::open({disk}, std::move(engine).value());
  REQUIRE_FALSE(reader.ok());
  CHECK(reader.error().message().find("'/dev/does-not-exist'") != std::string::npos);
}

}  // namespace understudy
