// SPDX-License-Identifier: Apache-2.0
// Real capture of real file systems: a replica built from the events alone must be the disk, byte for byte.
#include "tests/integration/tracker/fixture.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <set>
#include <thread>

namespace understudy::test {

namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

std::unique_ptr<Tracker> open_tracker(const BpfTrackerOptions& options) {
  auto tracker = open_bpf_tracker(options);
  if (!tracker.ok()) FAIL(tracker.error().message());
  return std::move(tracker).value();
}

BpfTrackerOptions options_for(const BpfFileSystem& bpffs, std::vector<std::string> disks, std::uint64_t ring_bytes) {
  BpfTrackerOptions options;
  options.server = "test-1.example";
  options.disks = std::move(disks);
  options.ring_bytes = ring_bytes;
  options.bpffs = bpffs.path();
  return options;
}

void check_no_losses(const Tracker& tracker) {
  const Losses losses = tracker.losses();
  CHECK(losses.total == 0);
  CHECK(losses.ring_full == 0);
  CHECK(losses.skipped == 0);
  CHECK(losses.unreadable == 0);
  CHECK(losses.too_long == 0);
  CHECK(losses.untracked == 0);
  CHECK(losses.unprovable == 0);
}

// Everything a disk of a server goes through: two file systems, a partition, direct writes, discards.
void capture_everything(bool without_bpf_loop) {
  BpfFileSystem bpffs;
  TestDisk ext4(256 * kMiB), xfs(400 * kMiB), raw(64 * kMiB);
  const std::string partition = raw.add_partition(1, 2048, 32 * kMiB / 512);
  BpfTrackerOptions options = options_for(bpffs, {ext4.path(), xfs.path(), raw.path()}, 128 * kMiB);
  options.without_bpf_loop = without_bpf_loop;
  auto tracker = open_tracker(options);
  REQUIRE(tracker->disks().size() == 3);
  Replica replica(tracker->disks());
  {
    Consumer consumer(*tracker, replica);
    run("mkfs.ext4 -q " + ext4.path());
    run("mkfs.xfs -q -f " + xfs.path());
    run("mkfs.ext4 -q " + partition);
    Mount on_ext4(ext4.path(), "ext4", "discard"), on_xfs(xfs.path(), "xfs"), on_partition(partition, "ext4");
    std::thread other([&] { churn_files(on_xfs.path(), 3000, 2); });
    churn_files(on_ext4.path(), 3000, 1);
    churn_files(on_partition.path(), 200, 3);
    other.join();
    // Large direct writes from odd memory, several MiB in one bio, also one sector at the very end of the disk.
    for (std::uint32_t i = 0; i < 8; ++i) write_direct(raw.path(), 40 * kMiB + i * 2 * kMiB, 4 * kMiB, i);
    write_direct(raw.path(), raw.size_bytes() - 512, 512, 99);
    write_direct(partition, 31 * kMiB, 1536, 100);
    run("rm -rf " + on_ext4.path() + "/d1* " + on_xfs.path() + "/d2*; sync");
    run("fstrim " + on_ext4.path() + "; fstrim " + on_xfs.path());
    on_ext4.unmount();
    on_xfs.unmount();
    on_partition.unmount();
    run("blkdiscard -o 41943040 -l 1048576 " + raw.path());
    run("blkdiscard -z -o 46137344 -l 1048576 " + raw.path());
    run("sync");
  }
  CHECK(replica.writes > 3000);
  CHECK(replica.zeros > 0);
  CHECK(replica.discards > 0);
  CHECK(replica.barriers + replica.preflushes > 100);
  if (without_bpf_loop) {
    // A sector may lie in two segments there: then it is dirty, and counted.
    const Losses losses = tracker->losses();
    CHECK(losses.total == losses.too_long);
    CHECK(losses.unprovable == 0);
  } else {
    check_no_losses(*tracker);
  }
  const TestDisk* disks[] = {&ext4, &xfs, &raw};
  for (const TrackedDisk& disk : tracker->disks()) {
    const std::vector<std::byte> bytes = disks[disk.slot]->read_all();
    if (without_bpf_loop)
      while (const auto range = tracker->dirty().claim_next(disk.slot, 0, 1)) {
        const std::uint64_t first = range->first * disk.granule_bytes;
        const std::uint64_t end = std::min<std::uint64_t>(first + disk.granule_bytes, bytes.size());
        std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(first), bytes.begin() + static_cast<std::ptrdiff_t>(end),
                  replica.disk(disk.slot).begin() + static_cast<std::ptrdiff_t>(first));
      }
    else
      CHECK(tracker->dirty().pending_count(disk.slot) == 0);
    INFO("disk ", disk.path);
    CHECK(first_difference(replica.disk(disk.slot), bytes) == -1);
  }
  CHECK(tracker->detach().ok());
}

}  // namespace

TEST_CASE("a replica built from the events of several disks is the disks") { capture_everything(false); }

TEST_CASE("the variant for kernels without bpf_loop captures the same, or says what is dirty") {
  capture_everything(true);
}

TEST_CASE("direct writes of many sizes come out whole") {
  BpfFileSystem bpffs;
  TestDisk disk(64 * kMiB);
  auto tracker = open_tracker(options_for(bpffs, {disk.path()}, 64 * kMiB));
  Replica replica(tracker->disks());
  std::uint32_t seed = 7;
  for (const std::size_t length : {512ul, 1024ul, 1536ul, 2560ul, 4096ul, 4608ul, 12800ul, 16384ul, 61440ul, 65536ul,
                                   66048ul, 131072ul, 262144ul, 1048576ul, 1049088ul, 8388608ul})
    for (const std::uint64_t offset : {0ul, 512ul, 4096ul, 3ul * 65536 + 1024, 20ul * kMiB}) {
      write_direct(disk.path(), offset, length, ++seed);
      replica.drain(*tracker);
      check_no_losses(*tracker);
    }
  CHECK(first_difference(replica.disk(0), disk.read_all()) == -1);
}

TEST_CASE("what a full ring could not take is dirty, and nothing else differs") {
  BpfFileSystem bpffs;
  TestDisk disk(128 * kMiB), other(64 * kMiB);
  auto tracker = open_tracker(options_for(bpffs, {disk.path(), other.path()}, 1 * kMiB));
  Replica replica(tracker->disks());
  run("mkfs.ext4 -q " + disk.path());
  replica.drain(*tracker);
  {
    Mount mount(disk.path(), "ext4", "discard");
    churn_files(mount.path(), 500, 11);  // nobody drains
    for (std::uint32_t i = 0; i < 4; ++i) write_direct(other.path(), i * 5 * kMiB + 512, 3 * kMiB, i);
    run("rm -rf " + mount.path() + "/d3*; sync; fstrim " + mount.path());
    replica.drain(*tracker);
    churn_files(mount.path(), 100, 12);
  }
  run("blkdiscard " + other.path());
  replica.drain(*tracker);
  const Losses losses = tracker->losses();
  CHECK(losses.ring_full > 10);
  CHECK(losses.total == losses.ring_full);
  CHECK(losses.unprovable == 0);
  const TestDisk* disks[] = {&disk, &other};
  for (const TrackedDisk& tracked : tracker->disks()) {
    const std::vector<std::byte> bytes = disks[tracked.slot]->read_all();
    std::vector<std::byte>& copy = replica.disk(tracked.slot);
    const std::uint64_t dirty = tracker->dirty().dirty_count(tracked.slot);
    std::uint64_t claimed = 0;
    std::uint64_t from = 0;
    while (const auto range = tracker->dirty().claim_next(tracked.slot, from, 16)) {
      const auto first = static_cast<std::ptrdiff_t>(range->first * tracked.granule_bytes);
      const auto end = static_cast<std::ptrdiff_t>(
          std::min<std::uint64_t>((range->first + range->count) * tracked.granule_bytes, bytes.size()));
      std::copy(bytes.begin() + first, bytes.begin() + end, copy.begin() + first);
      claimed += range->count;
      from = range->first + range->count;
      tracker->dirty().finish(*range);
    }
    CHECK(claimed == dirty);
    CHECK(tracker->dirty().pending_count(tracked.slot) == 0);
    INFO("disk ", tracked.path);
    CHECK(first_difference(copy, bytes) == -1);
  }
  // Lost writes that completed are in flight no more.
  auto in_flight = tracker->in_flight();
  REQUIRE(in_flight.ok());
  CHECK(in_flight->empty());
}

TEST_CASE("capture goes on while the agent is dead, and the next one finds every event") {
  BpfFileSystem bpffs;
  TestDisk disk(128 * kMiB);
  const BpfTrackerOptions options = options_for(bpffs, {disk.path()}, 128 * kMiB);
  int to_parent[2];
  REQUIRE(::pipe(to_parent) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto tracker = open_bpf_tracker(options);
    const char answer = tracker.ok() ? 'y' : 'n';
    (void)!::write(to_parent[1], &answer, 1);
    for (;;) {
      // Reads on, releases nothing: as with a receiver that does not answer.
      tracker.value()->wait(std::chrono::milliseconds(100));
      while (tracker.value()->next().has_value()) continue;
    }
  }
  char answer = 'n';
  REQUIRE(::read(to_parent[0], &answer, 1) == 1);
  REQUIRE(answer == 'y');
  // While it is open, nobody else gets it.
  auto second = open_bpf_tracker(options);
  REQUIRE(!second.ok());
  CHECK(second.error().kind() == ErrorKind::kBusy);
  run("mkfs.ext4 -q " + disk.path());
  Uuid id;
  {
    Mount mount(disk.path(), "ext4");
    std::thread writer([&] { churn_files(mount.path(), 1500, 21); });
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    writer.join();
    churn_files(mount.path(), 300, 22);
    std::vector<std::string> remarks;
    BpfTrackerOptions again = options;
    again.remarks = &remarks;
    again.ring_bytes = 64 * kMiB;
    auto tracker = open_tracker(again);
    id = tracker->capture_id();
    CHECK(tracker->ring_bytes() == 128 * kMiB);
    REQUIRE(remarks.size() == 1);
    CHECK(remarks.front().find("ring_bytes") != std::string::npos);
    CHECK(tracker->tail() == 0);
    churn_files(mount.path(), 100, 23);
    mount.unmount();
    Replica replica(tracker->disks());
    CHECK(replica.drain(*tracker, false) > 1000);
    CHECK(first_difference(replica.disk(0), disk.read_all()) == -1);
    // The receiver has the half of it: seek there, replay the rest.
    const std::uint64_t head = tracker->head();
    std::uint64_t half = 0;
    REQUIRE(tracker->seek(0).ok());
    while (half < head / 2) half = tracker->next()->position;
    REQUIRE(tracker->seek(half).ok());
    tracker->release(half);
    CHECK(tracker->tail() == half);
    CHECK(!tracker->seek(half + 8).ok());
    check_no_losses(*tracker);
  }
  auto tracker = open_tracker(options);
  CHECK(tracker->capture_id() == id);
  check_no_losses(*tracker);
}

TEST_CASE("a write that is under way is in the in-flight map until it completes") {
  BpfFileSystem bpffs;
  // A disk whose writes can be held up: a loop device over a file of a file system that is frozen.
  TestDisk below(256 * kMiB);
  run("mkfs.ext4 -q " + below.path());
  Mount mount(below.path(), "ext4");
  TestDisk disk(mount.path() + "/image", 64 * kMiB);
  run("dd if=/dev/zero of=" + disk.path() + " bs=1M count=64 oflag=direct");
  auto tracker = open_tracker(options_for(bpffs, {disk.path()}, 16 * kMiB));
  auto settled = tracker->set_copy_mode(true);
  REQUIRE(settled.ok());
  REQUIRE(settled.value());

  run("fsfreeze -f " + mount.path());
  std::vector<std::thread> writers;
  for (std::uint32_t i = 0; i < 8; ++i)
    writers.emplace_back([&, i] { write_direct(disk.path(), i * kMiB, 4096 * (i + 1), i); });
  std::vector<InFlightWrite> seen;
  for (int i = 0; i < 200 && seen.size() < 8; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    auto in_flight = tracker->in_flight();
    if (in_flight.ok()) seen = in_flight.value();
  }
  run("fsfreeze -u " + mount.path());
  for (std::thread& writer : writers) writer.join();
  CHECK(seen.size() == 8);
  std::set<std::uint64_t> offsets;
  for (const InFlightWrite& write : seen) {
    offsets.insert(write.offset_bytes);
    CHECK(write.length_bytes == 4096 * (write.offset_bytes / kMiB + 1));
    CHECK_FALSE(write.lost);
  }
  CHECK(offsets.size() == 8);
  auto after = tracker->in_flight();
  REQUIRE(after.ok());
  CHECK(after->empty());

  // Writes of before copy mode: it does not settle while they are under way.
  REQUIRE(tracker->set_copy_mode(false).ok());
  run("fsfreeze -f " + mount.path());
  std::thread early([&] { write_direct(disk.path(), 3 * kMiB, 8192, 77); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const auto begin = std::chrono::steady_clock::now();
  settled = tracker->set_copy_mode(true);
  const auto duration = std::chrono::steady_clock::now() - begin;
  REQUIRE(settled.ok());
  CHECK(settled.value());
  // Not seen idle, so it took the quiet time.
  CHECK(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count() >= 900);
  CHECK(tracker->losses().total == 0);
  // It was the wrong guess, and the completion tells: the extent is dirty.
  run("fsfreeze -u " + mount.path());
  early.join();
  CHECK(tracker->losses().untracked == 1);
  CHECK(tracker->losses().total == 1);
  CHECK(tracker->dirty().dirty_count(0) == 1);
  const auto dirty = tracker->dirty().claim_next(0, 0, 1);
  REQUIRE(dirty.has_value());
  CHECK(dirty->first == 3 * kMiB / tracker->disks()[0].granule_bytes);
  CHECK(tracker->detach().ok());
}

TEST_CASE("a lost write is in flight as lost, and its extent is dirty again when it completes") {
  BpfFileSystem bpffs;
  TestDisk below(256 * kMiB);
  run("mkfs.ext4 -q " + below.path());
  Mount mount(below.path(), "ext4");
  TestDisk disk(mount.path() + "/image", 64 * kMiB);
  run("dd if=/dev/zero of=" + disk.path() + " bs=1M count=64 oflag=direct");
  auto tracker = open_tracker(options_for(bpffs, {disk.path()}, 1 * kMiB));
  run("fsfreeze -f " + mount.path());
  std::thread writer([&] { write_direct(disk.path(), 8 * kMiB, 2 * kMiB, 5); });  // more than the ring holds
  std::vector<InFlightWrite> seen;
  for (int i = 0; i < 200 && seen.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    auto in_flight = tracker->in_flight();
    if (in_flight.ok()) seen = in_flight.value();
  }
  // Pretend that the dirty granules were read and acknowledged while the write was under way.
  std::uint64_t finished = 0;
  while (const auto range = tracker->dirty().claim_next(0, 0, 1000)) {
    tracker->dirty().finish(*range);
    finished += range->count;
  }
  CHECK(finished > 0);
  CHECK(tracker->dirty().pending_count(0) == 0);
  run("fsfreeze -u " + mount.path());
  writer.join();
  REQUIRE(seen.size() >= 1);
  for (const InFlightWrite& write : seen) CHECK(write.lost);
  CHECK(tracker->dirty().dirty_count(0) >= finished);
  auto after = tracker->in_flight();
  REQUIRE(after.ok());
  CHECK(after->empty());
}

TEST_CASE("under load the in-flight map ends empty and nothing is lost") {
  BpfFileSystem bpffs;
  TestDisk disk(64 * kMiB);
  auto tracker = open_tracker(options_for(bpffs, {disk.path()}, 128 * kMiB));
  Replica replica(tracker->disks());
  REQUIRE(tracker->set_copy_mode(true).value());
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (std::uint32_t i = 0; i < 4; ++i)
    writers.emplace_back([&, i] {
      // Some are longer than a request of the disk can be: they are split, and complete in parts.
      for (std::uint32_t n = 0; !stop.load(); ++n)
        write_direct(disk.path(), i * 16 * kMiB + n % 11 * 65536, n % 16 == 0 ? 6 * kMiB : 16384, n);
    });
  std::size_t largest = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (int i = 0; i < 300 || (largest == 0 && std::chrono::steady_clock::now() < end); ++i) {
    auto in_flight = tracker->in_flight();
    REQUIRE(in_flight.ok());
    for (const InFlightWrite& write : in_flight.value()) CHECK(write.length_bytes % 512 == 0);
    largest = std::max(largest, in_flight->size());
    replica.drain(*tracker);
  }
  stop.store(true);
  for (std::thread& writer : writers) writer.join();
  replica.drain(*tracker);
  CHECK(largest > 0);
  CHECK(largest <= 64);
  auto in_flight = tracker->in_flight();
  REQUIRE(in_flight.ok());
  CHECK(in_flight->empty());
  check_no_losses(*tracker);
  CHECK(first_difference(replica.disk(0), disk.read_all()) == -1);
}

TEST_CASE("nothing stays behind in the in-flight map, whatever kind of write it was") {
  BpfFileSystem bpffs;
  TestDisk disk(128 * kMiB);
  BpfTrackerOptions options = options_for(bpffs, {disk.path()}, 256 * kMiB);
  options.in_flight_max = 1024;  // what stays would fill it
  auto tracker = open_tracker(options);
  Replica replica(tracker->disks());
  REQUIRE(tracker->set_copy_mode(true).value());
  {
    Consumer consumer(*tracker, replica);
    run("mkfs.ext4 -q " + disk.path());
    Mount mount(disk.path(), "ext4", "discard");
    UniqueFd fd(::open((mount.path() + "/log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    for (int i = 0; i < 2500; ++i) {
      REQUIRE(::pwrite(fd.get(), &i, sizeof(i), i * 512) == sizeof(i));
      REQUIRE(::fdatasync(fd.get()) == 0);  // a flush each, with data and FUA in the journal
    }
    churn_files(mount.path(), 500, 31);
    run("rm -rf " + mount.path() + "/d*; sync; fstrim " + mount.path());
    fd.reset();
    mount.unmount();
    run("blkdiscard -z -o 67108864 " + disk.path());
  }
  CHECK(replica.preflushes + replica.barriers > 2500);
  check_no_losses(*tracker);
  CHECK(tracker->in_flight()->empty());
  CHECK(tracker->set_copy_mode(false).value());
  CHECK(first_difference(replica.disk(0), disk.read_all()) == -1);
}

}  // namespace understudy::test
