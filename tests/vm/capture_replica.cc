// SPDX-License-Identifier: Apache-2.0
// capture-replica: rebuilds disks from captured events alone, and proves the copies equal to the disks.
//
//   capture-replica --server NAME --replicas DIR [--ring-bytes N] [--without-bpf-loop] [--losses] [--module] [--resume]
//                   DISK...
//   capture-replica --server NAME --cycle MILLISECONDS DISK...
//
// Capture is by BPF, with --module by the kernel module. Nobody may write to the disks until it prints "capture-replica
// NAME: capturing": the copies begin with what they hold. With --resume the replicas of a run that was killed are
// continued: the capture must be the same one, still there, and writes may go on all the time. On SIGUSR1 it drains the
// ring and copies the replicas to DIR/prefix-<disk>: what a power cut at that moment could have left. On SIGTERM, sent
// when the load has ended and is on the disks, it drains the ring, compares and prints one line of figures. Exit
// status: 0 every byte is equal and nothing was lost, 1 not so or it could not capture (stderr says why), 2 bad
// arguments. With --losses the ring may have been too small, or a bio too long to follow: then all bytes but those in
// dirty granules are equal. With --cycle it attaches the module, drains for so long and detaches, under whatever load
// there is: 0 when every event was sound.
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/unique_fd.h"
#include "daemon/tracker/bpf_tracker.h"
#include "daemon/tracker/module_tracker.h"

namespace {

using namespace understudy;

constexpr std::size_t kCompareBytes = 1 << 20;

std::atomic<bool> stop_requested = false;
std::atomic<bool> prefix_requested = false;

struct Options {
  BpfTrackerOptions tracker;
  std::string replicas;
  bool losses_allowed = false;
  bool by_module = false;
  bool resume = false;
  std::uint64_t cycle_ms = 0;
};

struct Figures {
  std::uint64_t writes = 0;
  std::uint64_t zeros = 0;
  std::uint64_t barriers = 0;
  std::uint64_t bytes = 0;
  std::uint64_t length_bytes_max = 0;
};

[[noreturn]] void fail_errno(const std::string& what) { throw std::runtime_error(what + ": " + std::strerror(errno)); }

std::string name_of(const TrackedDisk& disk) { return std::filesystem::path(disk.path).filename(); }

class Replicas {
 public:
  Replicas(const std::string& directory, const std::vector<TrackedDisk>& disks, bool resume) : directory_(directory) {
    for (const TrackedDisk& disk : disks) {
      const std::string path = directory + "/replica-" + name_of(disk);
      UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | (resume ? 0 : O_CREAT | O_EXCL), 0600));
      if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(disk.size_bytes)) != 0)
        fail_errno("make " + path);
      if (!resume) copy_disk(disk, file.get());
      files_.emplace(disk.slot, std::move(file));
      sizes_.emplace(disk.slot, disk.size_bytes);
      disks_.push_back(disk);
    }
  }

  void apply(const CaptureEvent& event) {
    const std::uint64_t size_bytes = sizes_.at(event.disk);
    if (event.offset_bytes > size_bytes || event.length_bytes > size_bytes - event.offset_bytes)
      throw std::runtime_error("an event at byte " + std::to_string(event.offset_bytes) +
                               " lies behind the disk's end");
    if (event.kind == CaptureKind::kBarrier) {
      ++figures.barriers;
      return;
    }
    const int file = files_.at(event.disk).get();
    if (event.kind == CaptureKind::kWrite) {
      if (event.data.size() != event.length_bytes) throw std::runtime_error("an event's data is not its length");
      if (::pwrite(file, event.data.data(), event.data.size(), static_cast<off_t>(event.offset_bytes)) !=
          static_cast<ssize_t>(event.data.size()))
        fail_errno("write replica");
      ++figures.writes;
      figures.bytes += event.length_bytes;
    } else {
      if (::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(event.offset_bytes),
                      static_cast<off_t>(event.length_bytes)) != 0)
        fail_errno("zero in replica");
      ++figures.zeros;
    }
    figures.length_bytes_max = std::max(figures.length_bytes_max, event.length_bytes);
  }

  void copy_prefix() const {
    for (const TrackedDisk& disk : disks_) {
      const std::string path = directory_ + "/prefix-" + name_of(disk);
      const UniqueFd target(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
      if (!target.valid() || ::ftruncate(target.get(), static_cast<off_t>(disk.size_bytes)) != 0)
        fail_errno("make " + path);
      copy_data(files_.at(disk.slot).get(), target.get());
    }
  }

  // Throws, naming the first byte that differs and does not lie in a granule of `dirty`. Returns how many bytes do.
  std::uint64_t require_equal(const std::vector<GranuleRange>& dirty) const {
    std::uint64_t dirty_bytes = 0;
    for (const TrackedDisk& disk : disks_) {
      std::uint64_t clean_from = 0;
      for (const GranuleRange& range : dirty) {
        if (range.disk != disk.slot) continue;
        compare(disk, files_.at(disk.slot).get(), clean_from, range.first * disk.granule_bytes);
        clean_from = std::min(disk.size_bytes, (range.first + range.count) * disk.granule_bytes);
        dirty_bytes += range.count * disk.granule_bytes;
      }
      compare(disk, files_.at(disk.slot).get(), clean_from, disk.size_bytes);
    }
    return dirty_bytes;
  }

  Figures figures;

 private:
  // Copies what is no hole.
  static void copy_data(int source, int target) {
    std::vector<char> bytes(kCompareBytes);
    off_t end = 0;
    for (off_t begin = 0; (begin = ::lseek(source, end, SEEK_DATA)) >= 0;) {
      end = ::lseek(source, begin, SEEK_HOLE);
      while (begin < end) {
        const std::size_t length = std::min<std::uint64_t>(bytes.size(), static_cast<std::uint64_t>(end - begin));
        const ssize_t count = ::pread(source, bytes.data(), length, begin);
        if (count <= 0 || ::pwrite(target, bytes.data(), static_cast<std::size_t>(count), begin) != count)
          fail_errno("copy replica");
        begin += count;
      }
    }
    if (errno != ENXIO) fail_errno("find data of replica");
  }

  // Calls function(offset, bytes) for the disk's content from `begin` to `end`, as it is on the medium.
  template <typename Function>
  static void read_disk(const TrackedDisk& disk, std::uint64_t begin, std::uint64_t end, Function function) {
    const UniqueFd device(::open(disk.path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!device.valid()) fail_errno("open " + disk.path);
    const std::unique_ptr<char, decltype(&std::free)> bytes(static_cast<char*>(std::aligned_alloc(4096, kCompareBytes)),
                                                            &std::free);
    for (std::uint64_t offset = begin; offset < end; offset += kCompareBytes) {
      const std::size_t length = std::min<std::uint64_t>(kCompareBytes, end - offset);
      if (::pread(device.get(), bytes.get(), length, static_cast<off_t>(offset)) != static_cast<ssize_t>(length))
        fail_errno("read " + disk.path);
      function(offset, std::span<const char>(bytes.get(), length));
    }
  }

  static void copy_disk(const TrackedDisk& disk, int replica) {
    read_disk(disk, 0, disk.size_bytes, [&](std::uint64_t offset, std::span<const char> bytes) {
      if (std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; })) return;
      if (::pwrite(replica, bytes.data(), bytes.size(), static_cast<off_t>(offset)) !=
          static_cast<ssize_t>(bytes.size()))
        fail_errno("write replica");
    });
  }

  static void compare(const TrackedDisk& disk, int replica, std::uint64_t begin, std::uint64_t end) {
    std::vector<char> copy(kCompareBytes);
    read_disk(disk, begin, end, [&](std::uint64_t offset, std::span<const char> bytes) {
      if (::pread(replica, copy.data(), bytes.size(), static_cast<off_t>(offset)) != static_cast<ssize_t>(bytes.size()))
        fail_errno("read replica of " + disk.path);
      if (std::memcmp(bytes.data(), copy.data(), bytes.size()) == 0) return;
      const auto first = std::mismatch(bytes.begin(), bytes.end(), copy.begin()).first - bytes.begin();
      throw std::runtime_error("'" + disk.path + "' differs from its replica at byte " +
                               std::to_string(offset + static_cast<std::uint64_t>(first)));
    });
  }

  std::string directory_;
  std::vector<TrackedDisk> disks_;
  std::map<std::uint16_t, UniqueFd> files_;
  std::map<std::uint16_t, std::uint64_t> sizes_;
};

void drain(Tracker& tracker, Replicas& replicas) {
  while (const auto event = tracker.next()) {
    replicas.apply(*event);
    tracker.release(event->position);
  }
}

// The granules to read again, in order, for disks on which nothing is written any more.
std::vector<GranuleRange> dirty_granules(Tracker& tracker) {
  std::vector<GranuleRange> ret;
  for (const TrackedDisk& disk : tracker.disks()) {
    std::uint64_t from = 0;
    while (const auto range = tracker.dirty().claim_next(disk.slot, from, 1 << 20)) {
      ret.push_back(*range);
      from = range->first + range->count;
    }
  }
  return ret;
}

// What a test can bring about: BPF has no other losses; the module has skipped writes when it is told to skip them or
// its table is replaced, untracked ones when the device answers with an error.
void require_losses_explained(const Tracker& tracker, const Options& options) {
  const Losses losses = tracker.losses();
  std::uint64_t explained = losses.ring_full + losses.too_long;
  if (options.by_module) explained += losses.skipped + losses.untracked;
  if (losses.unprovable != 0 || losses.total != explained || (losses.total != 0 && !options.losses_allowed))
    throw std::runtime_error("lost " + std::to_string(losses.total) + " writes (ring full " +
                             std::to_string(losses.ring_full) + ", skipped " + std::to_string(losses.skipped) +
                             ", unreadable " + std::to_string(losses.unreadable) + ", too long " +
                             std::to_string(losses.too_long) + ", untracked " + std::to_string(losses.untracked) +
                             "), unprovable " + std::to_string(losses.unprovable));
}

std::unique_ptr<Tracker> open_tracker(const Options& options) {
  std::vector<std::string> remarks;
  ModuleTrackerOptions module;
  module.server = options.tracker.server;
  module.disks = options.tracker.disks;
  module.ring_bytes = options.tracker.ring_bytes;
  module.remarks = &remarks;
  auto opened = options.by_module ? open_module_tracker(module) : open_bpf_tracker(options.tracker);
  if (!opened) throw std::runtime_error(opened.error().message());
  if (options.resume && !remarks.empty()) throw std::runtime_error("not resumed: " + remarks.front());
  return std::move(opened).value();
}

// The data of writes is not looked at, but reading it must be possible: a byte of every cache line.
void cycle(const Options& options) {
  const std::unique_ptr<Tracker> tracker = open_tracker(options);
  std::uint64_t events = 0;
  std::uint64_t sum = 0;
  for (std::uint64_t waited_ms = 0; waited_ms < options.cycle_ms && !stop_requested.load(); ++waited_ms) {
    while (const auto event = stop_requested.load() ? std::nullopt : tracker->next()) {
      for (std::size_t i = 0; i < event->data.size(); i += 64) sum += static_cast<std::uint64_t>(event->data[i]);
      ++events;
      tracker->release(event->position);
    }
    tracker->wait(std::chrono::milliseconds(1));
  }
  // Also with what is captured and not read, and with writes under way.
  if (const Status detached = tracker->detach(); !detached) throw std::runtime_error(detached.error().message());
  std::printf("capture-replica %s: cycle, events=%llu sum=%llu\n", options.tracker.server.c_str(),
              static_cast<unsigned long long>(events), static_cast<unsigned long long>(sum));
}

void capture(const Options& options) {
  const std::unique_ptr<Tracker> opened = open_tracker(options);
  Tracker& tracker = *opened;
  Replicas replicas(options.replicas, tracker.disks(), options.resume);
  std::printf("capture-replica %s: capturing\n", options.tracker.server.c_str());
  std::fflush(stdout);
  std::uint64_t losses_seen = 0;
  while (!stop_requested.load()) {
    drain(tracker, replicas);
    // As an agent would before it reads again what was lost.
    const std::uint64_t losses = tracker.losses().total;
    if (std::exchange(losses_seen, losses) != losses)
      if (const auto writes = tracker.in_flight(); !writes) throw std::runtime_error(writes.error().message());
    if (prefix_requested.exchange(false)) {
      replicas.copy_prefix();
      std::printf("capture-replica %s: prefix copied\n", options.tracker.server.c_str());
      std::fflush(stdout);
    }
    tracker.wait(std::chrono::milliseconds(5));
  }
  drain(tracker, replicas);
  require_losses_explained(tracker, options);
  const std::vector<GranuleRange> dirty = dirty_granules(tracker);
  if (tracker.losses().total == 0 && !dirty.empty())
    throw std::runtime_error("nothing was lost, but granules are dirty");
  const std::uint64_t dirty_bytes = replicas.require_equal(dirty);
  const Figures& figures = replicas.figures;
  std::printf(
      "capture-replica %s: identical, writes=%llu zeros=%llu barriers=%llu bytes=%llu longest=%llu lost=%llu "
      "dirty_bytes=%llu\n",
      options.tracker.server.c_str(), static_cast<unsigned long long>(figures.writes),
      static_cast<unsigned long long>(figures.zeros), static_cast<unsigned long long>(figures.barriers),
      static_cast<unsigned long long>(figures.bytes), static_cast<unsigned long long>(figures.length_bytes_max),
      static_cast<unsigned long long>(tracker.losses().total), static_cast<unsigned long long>(dirty_bytes));
  if (const Status detached = tracker.detach(); !detached) throw std::runtime_error(detached.error().message());
}

Options parse(int argc, char** argv) {
  Options options;
  options.tracker.ring_bytes = 256 << 20;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool takes_value = argument == "--server" || argument == "--replicas" || argument == "--ring-bytes" ||
                             argument == "--cycle";
    if (takes_value && ++i == argc) throw std::invalid_argument("'" + argument + "' lacks its value");
    if (argument == "--server")
      options.tracker.server = argv[i];
    else if (argument == "--replicas")
      options.replicas = argv[i];
    else if (argument == "--ring-bytes")
      options.tracker.ring_bytes = std::stoull(argv[i]);
    else if (argument == "--cycle")
      options.cycle_ms = std::stoull(argv[i]);
    else if (argument == "--module")
      options.by_module = true;
    else if (argument == "--resume")
      options.resume = true;
    else if (argument == "--losses")
      options.losses_allowed = true;
    else if (argument == "--without-bpf-loop")
      options.tracker.without_bpf_loop = true;
    else if (argument.starts_with("--"))
      throw std::invalid_argument("unknown option '" + argument + "'");
    else
      options.tracker.disks.push_back(argument);
  }
  if (options.cycle_ms != 0) options.by_module = true;
  if (options.tracker.server.empty() || options.tracker.disks.empty() ||
      (options.replicas.empty() && options.cycle_ms == 0))
    throw std::invalid_argument("--server, --replicas (or --cycle) and a disk are needed");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  try {
    options = parse(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "capture-replica: %s\n", error.what());
    return 2;
  }
  struct sigaction action = {};
  action.sa_handler = [](int number) { (number == SIGUSR1 ? prefix_requested : stop_requested).store(true); };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
  try {
    if (options.cycle_ms != 0)
      cycle(options);
    else
      capture(options);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "capture-replica %s: %s\n", options.tracker.server.c_str(), error.what());
    return 1;
  }
}
