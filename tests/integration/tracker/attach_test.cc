// SPDX-License-Identifier: Apache-2.0
// Attaching to disks: what is refused, what is taken over, what makes a new capture; address translation; idleness.
#include "tests/integration/tracker/fixture.h"

#include <bpf/bpf.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "daemon/tracker/address_translation.h"
#include "daemon/tracker/direct_read.h"
#include "daemon/tracker/disk_inspect.h"
#include "daemon/tracker/kernel_side.h"
#include "daemon/tracker/probe.h"

namespace understudy::test {

namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

struct Fixture {
  BpfFileSystem bpffs;
  TestDisk disk{16 * kMiB};
  std::vector<std::string> remarks;

  BpfTrackerOptions options(const std::string& server, std::vector<std::string> disks) {
    BpfTrackerOptions options;
    options.server = server;
    options.disks = std::move(disks);
    options.ring_bytes = 4 * kMiB;
    options.bpffs = bpffs.path();
    options.remarks = &remarks;
    return options;
  }
  std::unique_ptr<Tracker> open(const std::string& server, std::vector<std::string> disks) {
    auto tracker = open_bpf_tracker(options(server, std::move(disks)));
    if (!tracker.ok()) FAIL(tracker.error().message());
    return std::move(tracker).value();
  }
  Error refusal(const std::string& server, std::vector<std::string> disks) {
    auto tracker = open_bpf_tracker(options(server, std::move(disks)));
    REQUIRE(!tracker.ok());
    return tracker.error();
  }
};

bool mentions(const Error& error, const std::string& text) { return error.message().find(text) != std::string::npos; }

std::uint64_t voluntary_switches() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "voluntary_ctxt_switches:") {
      std::uint64_t count = 0;
      status >> count;
      return count;
    }
  return 0;
}

}  // namespace

TEST_CASE("disks that cannot be captured are refused by name") {
  Fixture f;
  TestDisk small(512 * 1024), read_only(4 * kMiB);
  CHECK(f.refusal("a", {"/dev/no-such-disk"}).kind() == ErrorKind::kNotFound);
  CHECK(mentions(f.refusal("a", {"/dev/null"}), "'/dev/null' is not a block device"));
  CHECK(mentions(f.refusal("a", {small.path()}), "too small: 524288 bytes"));
  const std::string partition = f.disk.add_partition(1, 2048, 8192);
  const Error of_partition = f.refusal("a", {partition});
  CHECK(of_partition.kind() == ErrorKind::kInvalidArgument);
  CHECK(mentions(of_partition, "name '" + f.disk.path() + "'"));
  UniqueFd fd(::open(read_only.path().c_str(), O_RDONLY));
  int on = 1;
  REQUIRE(::ioctl(fd.get(), BLKROSET, &on) == 0);
  const Error of_read_only = f.refusal("a", {read_only.path()});
  on = 0;
  REQUIRE(::ioctl(fd.get(), BLKROSET, &on) == 0);  // the loop device would keep it for its next user
  CHECK(mentions(of_read_only, "is read-only"));
  CHECK(mentions(f.refusal("a", {f.disk.path(), f.disk.path()}), "is named twice"));
  run("mkfs.ext4 -q " + f.disk.path());
  {
    // A mount as such read-only, its device not.
    TemporaryDirectory place;
    run("mount -o ro " + f.disk.path() + " " + place.path());
    const Error of_mount = f.refusal("a", {f.disk.path()});
    run("umount " + place.path());
    CHECK(mentions(of_mount, "mounted read-only on '" + place.path()));
  }
  BpfTrackerOptions elsewhere = f.options("a", {f.disk.path()});
  elsewhere.bpffs = "/tmp";
  auto no_bpffs = open_bpf_tracker(elsewhere);
  REQUIRE(!no_bpffs.ok());
  CHECK(mentions(no_bpffs.error(), "'/tmp' is not a mounted bpffs"));
  // Nothing was left behind by all these.
  CHECK(!std::filesystem::exists(f.bpffs.path() + "/understudy/a"));
}

TEST_CASE("a disk is captured for one server only, and a capture is open once") {
  Fixture f;
  auto tracker = f.open("first.example", {f.disk.path()});
  const Error other = f.refusal("second", {f.disk.path()});
  CHECK(other.kind() == ErrorKind::kRefused);
  CHECK(mentions(other, "for server 'first.example'"));
  CHECK(f.refusal("first.example", {f.disk.path()}).kind() == ErrorKind::kBusy);
  CHECK(remove_bpf_capture(f.bpffs.path(), "first.example").error().kind() == ErrorKind::kBusy);
  tracker.reset();
  CHECK(remove_bpf_capture(f.bpffs.path(), "first.example").ok());
  CHECK(remove_bpf_capture(f.bpffs.path(), "first.example").error().kind() == ErrorKind::kNotFound);
  tracker = f.open("second", {f.disk.path()});
  CHECK(tracker->detach().ok());
}

TEST_CASE("a half-made set of pins is removed and made anew") {
  Fixture f;
  const Uuid id = f.open("s", {f.disk.path()})->capture_id();
  const std::string directory = f.bpffs.path() + "/understudy/s";
  REQUIRE(::unlink((directory + "/link_capture").c_str()) == 0);
  REQUIRE(::mkdir((directory + "+new").c_str(), 0700) == 0);
  auto tracker = f.open("s", {f.disk.path()});
  CHECK(tracker->capture_id() != id);
  REQUIRE(f.remarks.size() == 1);
  CHECK(f.remarks[0].find("not complete") != std::string::npos);
  CHECK(!std::filesystem::exists(directory + "+new"));
}

TEST_CASE("another ABI version is refused, naming both") {
  Fixture f;
  f.open("s", {f.disk.path()}).reset();
  {
    auto side = KernelSide::open(f.bpffs.path() + "/understudy/s");
    REQUIRE(side.ok());
    side->control().abi_version = 77;
  }
  const Error error = f.refusal("s", {f.disk.path()});
  CHECK(error.kind() == ErrorKind::kRefused);
  CHECK(mentions(error, "ABI version 77"));
  CHECK(mentions(error, "has version " + std::to_string(UNDERSTUDY_CAPTURE_ABI_VERSION)));
}

TEST_CASE("a disk joins a running capture, all dirty, and leaves it again") {
  Fixture f;
  TestDisk second(8 * kMiB), third(8 * kMiB);
  auto tracker = f.open("s", {f.disk.path()});
  const Uuid id = tracker->capture_id();
  write_direct(f.disk.path(), 0, 4096, 1);
  tracker.reset();
  tracker = f.open("s", {second.path(), f.disk.path()});
  CHECK(tracker->capture_id() == id);
  REQUIRE(tracker->disks().size() == 2);
  CHECK(tracker->disks()[0].slot == 1);
  CHECK(tracker->disks()[0].path == second.path());
  CHECK(tracker->disks()[1].slot == 0);
  CHECK(tracker->dirty().dirty_count(1) == 8 * kMiB / tracker->disks()[0].granule_bytes);
  CHECK(tracker->dirty().dirty_count(0) == 0);
  write_direct(second.path(), 4096, 4096, 2);
  CHECK(tracker->next()->disk == 0);
  CHECK(tracker->next()->disk == 1);
  CHECK(!tracker->next().has_value());
  tracker.reset();
  // The first leaves: what the ring has of it is passed over, and its slot is not used again.
  tracker = f.open("s", {second.path(), third.path()});
  CHECK(tracker->capture_id() == id);
  CHECK(tracker->disks()[1].slot == 2);
  write_direct(f.disk.path(), 8192, 4096, 3);
  write_direct(third.path(), 8192, 4096, 3);
  CHECK(tracker->next()->disk == 1);
  CHECK(tracker->next()->disk == 2);
  CHECK(!tracker->next().has_value());
}

TEST_CASE("a disk that has shrunk makes a new capture") {
  Fixture f;
  const std::string file = "/dev/shm/understudy-shrink-" + std::to_string(::getpid());
  {
    TestDisk disk(file, 12 * kMiB);
    auto tracker = f.open("s", {disk.path()});
    const Uuid id = tracker->capture_id();
    tracker.reset();
    REQUIRE(::truncate(file.c_str(), 8 * kMiB) == 0);
    run("losetup -c " + disk.path());
    tracker = f.open("s", {disk.path()});
    CHECK(tracker->capture_id() != id);
    CHECK(tracker->disks()[0].size_bytes == 8 * kMiB);
    REQUIRE(f.remarks.size() == 1);
    CHECK(f.remarks[0].find("has shrunk from 12582912 to 8388608") != std::string::npos);
  }
  ::unlink(file.c_str());
}

// From within a page of the dirty map, and to more pages, so that its granules are moved beside those of another disk.
TEST_CASE("a disk that has grown keeps its slot, its capture and what was dirty; what is new is dirty") {
  constexpr std::uint64_t kGranule = 4096;
  const std::string file = "/dev/shm/understudy-grow-" + std::to_string(::getpid());
  for (const std::uint64_t after : {12 * kMiB, 40 * kMiB}) {
    CAPTURE(after);
    Fixture f;
    TestDisk disk(file, 8 * kMiB);
    BpfTrackerOptions options = f.options("s", {disk.path(), f.disk.path()});
    options.granule_bytes = kGranule;
    const auto open = [&] {
      auto tracker = open_bpf_tracker(options);
      if (!tracker.ok()) FAIL(tracker.error().message());
      return std::move(tracker).value();
    };
    auto tracker = open();
    const Uuid id = tracker->capture_id();
    write_direct(disk.path(), 0, 4096, 1);
    tracker->dirty().mark(0, 5 * kGranule, kGranule);
    tracker->dirty().mark(1, 7 * kGranule, kGranule);
    tracker.reset();
    REQUIRE(::truncate(file.c_str(), static_cast<off_t>(after)) == 0);
    run("losetup -c " + disk.path());
    write_direct(disk.path(), 10 * kMiB, 4096, 2);  // behind the end that is known: captured all the same
    tracker = open();
    CHECK(tracker->capture_id() == id);
    CHECK(tracker->disks()[0].slot == 0);
    CHECK(tracker->disks()[0].size_bytes == after);
    CHECK(tracker->dirty().dirty_count(0) == 1 + (after - 8 * kMiB) / kGranule);
    CHECK(tracker->dirty().dirty_count(1) == 1);
    const auto kept = tracker->dirty().claim_next(0, 0, 1);
    REQUIRE(kept.has_value());
    CHECK(kept->first == 5);
    CHECK(tracker->next()->offset_bytes == 0);
    CHECK(tracker->next()->offset_bytes == 10 * kMiB);
    CHECK(!tracker->next().has_value());
    while (const auto range = tracker->dirty().claim_next(0, 0, after / kGranule)) tracker->dirty().finish(*range);
    // What the kernel loses from now on is found where user space looks for it.
    for (std::uint32_t i = 0; i < 12; ++i) write_direct(disk.path(), after - (i + 1) * 512 * 1024, 512 * 1024, i);
    CHECK(tracker->losses().ring_full > 0);
    const auto lost = tracker->dirty().claim_next(0, (after - 12 * 512 * 1024) / kGranule, 1);
    REQUIRE(lost.has_value());
    CHECK(lost->first * kGranule >= after - 12 * 512 * 1024);
    CHECK(tracker->dirty().dirty_count(1) == 1);
    tracker.reset();
    ::unlink(file.c_str());
  }
}

TEST_CASE("address translation: every way that finds something passes the same proof") {
  auto scratch = ScratchDisk::make();
  REQUIRE(scratch.ok());
  TranslationWays only_calibration{false, false, false, true};
  auto calibrated = find_address_translation(scratch->path(), scratch->device(), 512, only_calibration);
  if (!calibrated.ok()) FAIL(calibrated.error().message());
  CHECK(calibrated->method == "calibration");
  CHECK(calibrated->page_struct_bytes >= 40);
  auto any = find_address_translation(scratch->path(), scratch->device(), 512);
  REQUIRE(any.ok());
  CHECK(any->vmemmap_base == calibrated->vmemmap_base);
  CHECK(any->direct_map_base == calibrated->direct_map_base);
  auto none = find_address_translation(scratch->path(), scratch->device(), 512, {false, false, false, false});
  REQUIRE(!none.ok());
  CHECK(none.error().kind() == ErrorKind::kUnsupported);
  // On a disk that is not read nothing is seen, and that is said.
  auto wrong = find_address_translation(scratch->path(), scratch->device() + 1, 512);
  REQUIRE(!wrong.ok());
  CHECK(mentions(wrong.error(), "was not seen"));
}

TEST_CASE("the scratch disk is gone with its owner, also after kill -9") {
  int to_parent[2];
  REQUIRE(::pipe(to_parent) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto scratch = ScratchDisk::make();
    const std::uint32_t device = scratch.ok() ? scratch->device() : 0;
    (void)!::write(to_parent[1], &device, sizeof(device));
    for (;;) ::pause();
  }
  std::uint32_t device = 0;
  REQUIRE(::read(to_parent[0], &device, sizeof(device)) == sizeof(device));
  REQUIRE(device != 0);
  const std::string backing =
      "/sys/dev/block/" + std::to_string(device >> 20) + ":" + std::to_string(device & 0xfffff) + "/loop/backing_file";
  CHECK(std::filesystem::exists(backing));
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  for (int i = 0; i < 100 && std::filesystem::exists(backing); ++i) ::usleep(10'000);
  // Gone, or somebody else's by now.
  std::string name;
  std::ifstream(backing) >> name;
  CHECK(name.find("understudy-scratch") == std::string::npos);
}

TEST_CASE("the probe finds the rung usable and leaves nothing behind") {
  Fixture f;
  ProbeOptions options;
  options.bpffs = f.bpffs.path();
  options.disks = {f.disk.path(), "/dev/null"};
  const ProbeReport report = probe_host(options);
  INFO(probe_text(report));
  CHECK(report.best == "bpf");
  REQUIRE(report.disks.size() == 2);
  CHECK(report.disks[0].usable);
  CHECK(!report.disks[1].usable);
  CHECK(std::filesystem::is_empty(f.bpffs.path() + "/understudy"));
  // Without any disk it makes one of its own.
  options.disks.clear();
  CHECK(probe_host(options).best == "bpf");
  options.bpffs = "/tmp";
  CHECK(probe_host(options).best.empty());
}

TEST_CASE("an idle consumer sleeps, and a lone write wakes it at once") {
  Fixture f;
  auto tracker = f.open("s", {f.disk.path()});
  while (tracker->next().has_value()) continue;
  tracker->wait(std::chrono::milliseconds(200));  // polls for a moment, then sleeps
  const std::uint64_t before = voluntary_switches();
  tracker->wait(std::chrono::seconds(2));
  CHECK(voluntary_switches() - before <= 3);

  for (int i = 0; i < 3; ++i) {
    // CLOCK_MONOTONIC is CLOCK_BOOTTIME on a machine that never slept.
    const auto now_ns = [] {
      return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
    };
    const std::int64_t begin_ns = now_ns();
    std::thread writer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      write_direct(f.disk.path(), 0, 4096, 1);
    });
    tracker->wait(std::chrono::hours(1));  // a lost wake-up hangs here
    const auto event = tracker->next();
    writer.join();
    REQUIRE(event.has_value());
    const auto event_ns = static_cast<std::int64_t>(event->boot_time_ns);
    CHECK(event_ns >= begin_ns);
    CHECK(event_ns <= now_ns());
    while (tracker->next().has_value()) continue;
  }
  // Unreleased events do not keep it awake.
  CHECK(tracker->tail() != tracker->head());
  tracker->wait(std::chrono::milliseconds(200));
  const std::uint64_t later = voluntary_switches();
  tracker->wait(std::chrono::seconds(1));
  CHECK(voluntary_switches() - later <= 3);
  std::thread waker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    tracker->wake();
  });
  tracker->wait(std::chrono::hours(1));  // a lost wake-up hangs here
  waker.join();
}

TEST_CASE("unprovable losses ask for a new identity, which starts at zero") {
  Fixture f;
  auto tracker = f.open("s", {f.disk.path()});
  const Uuid id = tracker->capture_id();
  CHECK(tracker->losses().unprovable == 0);
  CHECK(tracker->renew_capture_id().ok());
  CHECK(tracker->capture_id() != id);
  const Uuid renewed = tracker->capture_id();
  tracker.reset();
  CHECK(f.open("s", {f.disk.path()})->capture_id() == renewed);
}

}  // namespace understudy::test
