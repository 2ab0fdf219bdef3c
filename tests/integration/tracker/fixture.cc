// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/tracker/fixture.h"

// After our own headers: its CHECK is meant here.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <stdexcept>

namespace understudy::test {

namespace {

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what + ": " + std::strerror(errno)); }

void write_all(int fd, const void* data, std::size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t done = ::write(fd, at, size);
    if (done <= 0) fail("write");
    at += done;
    size -= static_cast<std::size_t>(done);
  }
}

}  // namespace

void run(const std::string& command) {
  const std::string quiet = "{ " + command + "; } >/dev/null 2>&1";
  if (const int status = std::system(quiet.c_str()); status != 0)
    throw std::runtime_error("command failed (" + std::to_string(status) + "): " + command);
}

std::string output_of(const std::string& command) {
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  if (pipe == nullptr) fail("popen");
  std::string text;
  char buffer[4096];
  while (const std::size_t got = std::fread(buffer, 1, sizeof(buffer), pipe.get())) text.append(buffer, got);
  return text;
}

TemporaryDirectory::TemporaryDirectory() {
  char pattern[] = "/tmp/understudy-tracker-XXXXXX";
  if (::mkdtemp(pattern) == nullptr) fail("mkdtemp");
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() { ::rmdir(path_.c_str()); }

BpfFileSystem::BpfFileSystem() {
  char pattern[] = "/tmp/understudy-bpffs-XXXXXX";
  if (::mkdtemp(pattern) == nullptr) fail("mkdtemp");
  path_ = pattern;
  if (::mount("bpf", path_.c_str(), "bpf", 0, nullptr) != 0) {
    ::rmdir(path_.c_str());
    fail("mount bpffs (are the tests run as root?)");
  }
}

BpfFileSystem::~BpfFileSystem() {
  // Unmounting frees the pins, and with them the capture.
  ::umount2(path_.c_str(), MNT_DETACH);
  ::rmdir(path_.c_str());
}

TestDisk::TestDisk(std::uint64_t size_bytes) : size_bytes_(size_bytes) {
  UniqueFd file(::memfd_create("understudy-test-disk", MFD_CLOEXEC));
  if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(size_bytes)) != 0) fail("memfd");
  attach(file.get());
}

TestDisk::TestDisk(const std::string& file, std::uint64_t size_bytes) : size_bytes_(size_bytes) {
  UniqueFd backing(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!backing.valid() || ::ftruncate(backing.get(), static_cast<off_t>(size_bytes)) != 0) fail("open " + file);
  attach(backing.get());
}

TestDisk::~TestDisk() {
  // A loop device that is free again would keep them.
  for (const int number : partitions_) {
    blkpg_partition partition{};
    partition.pno = number;
    blkpg_ioctl_arg argument{};
    argument.op = BLKPG_DEL_PARTITION;
    argument.datalen = sizeof(partition);
    argument.data = &partition;
    ::ioctl(fd_.get(), BLKPG, &argument);
  }
}

void TestDisk::attach(int backing_fd) {
  UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) fail("open /dev/loop-control");
  for (int attempt = 0; attempt < 100; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) fail("LOOP_CTL_GET_FREE");
    path_ = "/dev/loop" + std::to_string(number);
    UniqueFd disk(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!disk.valid()) fail("open " + path_);
    loop_config config{};
    config.fd = static_cast<__u32>(backing_fd);
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (::ioctl(disk.get(), LOOP_CONFIGURE, &config) == 0) {
      fd_ = std::move(disk);
      return;
    }
    if (errno != EBUSY) fail("LOOP_CONFIGURE " + path_);
  }
  throw std::runtime_error("no free loop device");
}

std::vector<std::byte> TestDisk::read_all() const {
  ::ioctl(fd_.get(), BLKFLSBUF, 0);
  UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  if (!fd.valid()) fail("open " + path_);
  constexpr std::size_t kChunk = 1 << 20;
  std::unique_ptr<void, void (*)(void*)> chunk(std::aligned_alloc(4096, kChunk), std::free);
  std::vector<std::byte> bytes(size_bytes_);
  for (std::uint64_t offset = 0; offset < size_bytes_;) {
    const ssize_t got = ::pread(fd.get(), chunk.get(), kChunk, static_cast<off_t>(offset));
    if (got <= 0) fail("read " + path_);
    std::memcpy(bytes.data() + offset, chunk.get(), static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return bytes;
}

std::string TestDisk::add_partition(int number, std::uint64_t first_sector, std::uint64_t sectors) {
  blkpg_partition partition{};
  partition.start = static_cast<long long>(first_sector * 512);
  partition.length = static_cast<long long>(sectors * 512);
  partition.pno = number;
  blkpg_ioctl_arg argument{};
  argument.op = BLKPG_ADD_PARTITION;
  argument.datalen = sizeof(partition);
  argument.data = &partition;
  if (::ioctl(fd_.get(), BLKPG, &argument) != 0) fail("BLKPG_ADD_PARTITION " + path_);
  partitions_.push_back(number);
  std::string path = path_ + "p" + std::to_string(number);
  // devtmpfs makes the node at once; elsewhere it is made by udev.
  for (int i = 0; i < 100 && ::access(path.c_str(), F_OK) != 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return path;
}

Mount::Mount(const std::string& device, const std::string& type, const std::string& options) {
  if (::mount(device.c_str(), directory_.path().c_str(), type.c_str(), 0, options.c_str()) != 0)
    fail("mount " + device);
  mounted_ = true;
}

void Mount::unmount() {
  if (!std::exchange(mounted_, false)) return;
  if (::umount2(directory_.path().c_str(), 0) != 0) ::umount2(directory_.path().c_str(), MNT_DETACH);
}

Replica::Replica(const std::vector<TrackedDisk>& disks) {
  for (const TrackedDisk& disk : disks) disks_[disk.slot].resize(disk.size_bytes);
}

void Replica::apply(const CaptureEvent& event) {
  std::vector<std::byte>& bytes = disks_.at(event.disk);
  preflushes += event.preflush ? 1 : 0;
  fuas += event.fua ? 1 : 0;
  discards += event.discard ? 1 : 0;
  if (event.kind == CaptureKind::kBarrier) {
    ++barriers;
    return;
  }
  REQUIRE(event.offset_bytes <= bytes.size());
  REQUIRE(event.length_bytes <= bytes.size() - event.offset_bytes);
  if (event.kind == CaptureKind::kWrite) {
    ++writes;
    REQUIRE(event.data.size() == event.length_bytes);
    std::memcpy(bytes.data() + event.offset_bytes, event.data.data(), event.data.size());
  } else {
    ++zeros;
    std::memset(bytes.data() + event.offset_bytes, 0, event.length_bytes);
  }
  last_time_ns = event.boot_time_ns;
}

std::uint64_t Replica::drain(Tracker& tracker, bool release) {
  std::uint64_t count = 0;
  while (const auto event = tracker.next()) {
    apply(*event);
    ++count;
    if (release) tracker.release(event->position);
  }
  return count;
}

Consumer::Consumer(Tracker& tracker, Replica& replica)
    : tracker_(tracker), replica_(replica), thread_([this] {
        while (!stopping_.load()) {
          tracker_.wait(std::chrono::milliseconds(100));
          replica_.drain(tracker_);
        }
        replica_.drain(tracker_);
      }) {}

void Consumer::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  tracker_.wake();
  thread_.join();
}

std::int64_t first_difference(std::span<const std::byte> a, std::span<const std::byte> b) {
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  (void)other;
  if (at == a.end() && a.size() == b.size()) return -1;
  return at - a.begin();
}

void churn_files(const std::string& directory, int files, std::uint32_t seed) {
  namespace fs = std::filesystem;
  std::mt19937 random(seed);
  std::vector<char> data(64 * 1024);
  for (char& byte : data) byte = static_cast<char>(random());
  for (int i = 0; i < files; ++i) {
    const fs::path place = fs::path(directory) / ("d" + std::to_string(i % 37));
    fs::create_directories(place);
    const fs::path file = place / ("f" + std::to_string(i));
    UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!fd.valid()) fail("create " + file.string());
    const std::size_t length = 1 + random() % (i % 20 == 0 ? data.size() : 6000);
    write_all(fd.get(), data.data() + random() % (data.size() - length + 1), length);
    if (i % 16 == 0) {
      ::fsync(fd.get());
      write_all(fd.get(), data.data(), 100 + random() % 400);  // an append after the flush
      ::fdatasync(fd.get());
    }
    if (i % 5 == 1 && ::ftruncate(fd.get(), static_cast<off_t>(random() % 3000)) != 0) fail("ftruncate");
    if (i % 7 == 3) fs::remove(place / ("f" + std::to_string(i - 37)));
    if (i % 97 == 50 && ::fallocate(fd.get(), 0, 0, 300'000) != 0) fail("fallocate");
  }
}

void write_direct(const std::string& device, std::uint64_t offset_bytes, std::size_t length, std::uint32_t seed) {
  UniqueFd fd(::open(device.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
  if (!fd.valid()) fail("open " + device);
  std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(4096, (length + 3 * 4096) / 4096 * 4096), std::free);
  auto* data = static_cast<std::uint32_t*>(memory.get()) + 512 / sizeof(std::uint32_t);
  std::mt19937 random(seed);
  for (std::size_t i = 0; i < length / sizeof(std::uint32_t); ++i) data[i] = static_cast<std::uint32_t>(random());
  if (::pwrite(fd.get(), data, length, static_cast<off_t>(offset_bytes)) != static_cast<ssize_t>(length))
    fail("direct write to " + device);
}

}  // namespace understudy::test
