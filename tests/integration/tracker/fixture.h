// SPDX-License-Identifier: Apache-2.0
// What the tests of real capture need: disks in memory, a bpffs, replicas. All of it goes away with its object, and
// what belongs to the kernel also when the test program is killed (auto-clearing loop devices). Needs root.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "daemon/base/unique_fd.h"
#include "daemon/tracker/bpf_tracker.h"

namespace understudy::test {

// Runs a command through the shell; fails the test unless it ends with 0.
void run(const std::string& command);
std::string output_of(const std::string& command);

// A bpffs at a directory of its own, so that no other test's pins are in the way.
class BpfFileSystem {
 public:
  BpfFileSystem();
  ~BpfFileSystem();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A loop device, over memory or over a file.
class TestDisk {
 public:
  explicit TestDisk(std::uint64_t size_bytes);
  ~TestDisk();
  TestDisk(const TestDisk&) = delete;
  TestDisk& operator=(const TestDisk&) = delete;
  TestDisk(const std::string& file, std::uint64_t size_bytes);
  const std::string& path() const { return path_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  // All bytes, read past every cache.
  std::vector<std::byte> read_all() const;
  // Makes partition `number` (first sector, sectors) and returns its path; no table is written, so that this works on
  // kernels built without any table's format.
  std::string add_partition(int number, std::uint64_t first_sector, std::uint64_t sectors);

 private:
  void attach(int backing_fd);
  std::string path_;
  std::uint64_t size_bytes_ = 0;
  UniqueFd fd_;
  std::vector<int> partitions_;
};

// A mounted file system; unmounted with the object.
class Mount {
 public:
  Mount(const std::string& device, const std::string& type, const std::string& options = "");
  ~Mount() { unmount(); }
  const std::string& path() const { return directory_.path(); }
  void unmount();

 private:
  TemporaryDirectory directory_;
  bool mounted_ = false;
};

// The disks as the events say.
class Replica {
 public:
  explicit Replica(const std::vector<TrackedDisk>& disks);
  void apply(const CaptureEvent& event);
  // Everything up to the head, given back to the kernel as it goes if `release`.
  std::uint64_t drain(Tracker& tracker, bool release = true);
  std::vector<std::byte>& disk(std::uint16_t slot) { return disks_.at(slot); }

  std::uint64_t writes = 0, zeros = 0, barriers = 0, preflushes = 0, fuas = 0, discards = 0;
  std::uint64_t last_time_ns = 0;

 private:
  std::map<std::uint16_t, std::vector<std::byte>> disks_;
};

// Drains a tracker in a thread while the test writes.
class Consumer {
 public:
  Consumer(Tracker& tracker, Replica& replica);
  ~Consumer() { stop(); }
  // Returns when everything up to the head has been applied.
  void stop();

 private:
  Tracker& tracker_;
  Replica& replica_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// Offset of the first difference, or -1; also when sizes differ.
std::int64_t first_difference(std::span<const std::byte> a, std::span<const std::byte> b);

// What a file-system test does on a mounted file system: directories of small files, overwritten, truncated, removed,
// with appends and fsync between.
void churn_files(const std::string& directory, int files, std::uint32_t seed);

// A direct write of `length` random bytes from memory at an odd address (a multiple of 512, not of 4096).
void write_direct(const std::string& device, std::uint64_t offset_bytes, std::size_t length, std::uint32_t seed);

}  // namespace understudy::test
