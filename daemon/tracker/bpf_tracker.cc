// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/bpf_tracker.h"

#include <bpf/libbpf.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <set>
#include <utility>

#include "daemon/tracker/address_translation.h"
#include "daemon/tracker/capture_disks.h"
#include "daemon/tracker/capture_event.h"
#include "daemon/tracker/dirty_map.h"
#include "daemon/tracker/disk_inspect.h"
#include "daemon/tracker/in_flight_map.h"
#include "daemon/tracker/kernel_side.h"
#include "daemon/tracker/kernel_symbols.h"
#include "daemon/tracker/ring_reader.h"
#include "daemon/tracker/ring_waiter.h"
#include "daemon/tracker/self_test.h"

namespace understudy {

namespace {

constexpr std::uint64_t kSectorBytes = 1 << UNDERSTUDY_SECTOR_SHIFT;
constexpr std::uint64_t kRingBytesMin = std::uint64_t{1} << 20;
constexpr std::uint64_t kRingBytesMax = std::uint64_t{1} << 31;
constexpr std::uint32_t kGranuleBytesMin = 4 * 1024;
constexpr std::uint32_t kGranuleBytesMax = 16 * 1024 * 1024;
constexpr std::uint32_t kInFlightMin = 64;
constexpr std::uint32_t kInFlightMax = 1024 * 1024;
constexpr int kLockWaitMs = 10'000;

class BpfTracker final : public Tracker {
 public:
  struct Parts {
    std::string directory;
    UniqueFd lock;
    KernelSide side;
    RingReader reader;
    RingWaiter waiter;
    std::vector<TrackedDisk> disks;
    std::vector<std::string> disk_names;
  };
  explicit BpfTracker(Parts parts)
      : directory_(std::move(parts.directory)),
        lock_(std::move(parts.lock)),
        side_(std::move(parts.side)),
        reader_(std::move(parts.reader)),
        waiter_(std::move(parts.waiter)),
        disks_(std::move(parts.disks)),
        dirty_(dirty_regions(side_, disks_)),
        in_flight_(side_, dirty_, std::move(parts.disk_names)) {
    for (const TrackedDisk& disk : disks_) is_known_[disk.slot] = true;
  }

  std::string_view rung() const override { return "bpf"; }
  Uuid capture_id() const override { return load_capture_id(side_.control()); }
  Status renew_capture_id() override;
  const std::vector<TrackedDisk>& disks() const override { return disks_; }

  std::optional<CaptureEvent> next() override;
  std::uint64_t tail() const override { return reader_.tail(); }
  std::uint64_t cursor() const override { return reader_.cursor(); }
  std::uint64_t head() const override { return reader_.head(); }
  std::uint64_t ring_bytes() const override { return reader_.ring_bytes(); }
  Status seek(std::uint64_t position) override { return reader_.seek(position); }
  void release(std::uint64_t position) override { reader_.release(position); }
  void keep_acknowledged(std::uint64_t seq) override {
    shared_store(side_.control().acknowledged_seq, static_cast<__u64>(seq));
  }
  std::uint64_t acknowledged() const override { return shared_load(side_.control().acknowledged_seq); }
  void wait(std::chrono::nanoseconds timeout) override {
    waiter_.wait(timeout, std::exchange(drained_, false), side_.control(), reader_);
  }
  void wake() override { waiter_.wake(); }

  Losses losses() const override;
  DirtyMap& dirty() override { return dirty_; }
  Result<bool> set_copy_mode(bool on) override { return in_flight_.set_copy_mode(on); }
  Result<std::vector<InFlightWrite>> in_flight() override { return in_flight_.snapshot(); }
  Status detach() override;

 private:
  std::string directory_;
  UniqueFd lock_;
  KernelSide side_;
  RingReader reader_;
  RingWaiter waiter_;
  std::vector<TrackedDisk> disks_;
  GranuleMap dirty_;
  InFlightMap in_flight_;
  KnownDisks is_known_{};
  bool drained_ = false;
};

std::optional<CaptureEvent> BpfTracker::next() {
  for (;;) {
    const auto record = reader_.next();
    if (!record.has_value()) {
      drained_ = true;
      return std::nullopt;
    }
    if (const auto event = event_of(*record, is_known_)) return event;
  }
}

Losses BpfTracker::losses() const {
  const understudy_control& control = side_.control();
  Losses losses = losses_of(control);
  const auto misses = side_.note_misses();
  // Not to be had: it worked when the capture was opened and asks the kernel for a number only.
  CHECK(misses.ok());
  losses.unprovable = misses.value() - shared_load(control.unprovable_base);
  // After the figures were read: whatever they count is in the map when the caller sees them.
  dirty_.fold_all_dirty();
  return losses;
}

Status BpfTracker::renew_capture_id() {
  ASSIGN_OR_RETURN(const std::uint64_t misses, side_.note_misses());
  store_capture_id(side_.control(), Uuid::random());
  shared_store(side_.control().unprovable_base, static_cast<__u64>(misses));
  return ok_status();
}

Status BpfTracker::detach() {
  for (const TrackedDisk& disk : disks_) unwatch(side_, disk.slot);
  shared_store(side_.control().copy_mode, __u32{UNDERSTUDY_COPY_OFF});
  return remove_pins(directory_);
}

Status check_options(const BpfTrackerOptions& options) {
  if (options.disks.empty() || options.disks.size() > UNDERSTUDY_DISKS_MAX)
    return Error(ErrorKind::kInvalidArgument, "capture needs 1 to " + std::to_string(UNDERSTUDY_DISKS_MAX) +
                                                  " disks, not " + std::to_string(options.disks.size()));
  if (!std::has_single_bit(options.ring_bytes) || options.ring_bytes < kRingBytesMin ||
      options.ring_bytes > kRingBytesMax)
    return Error(ErrorKind::kInvalidArgument,
                 "ring_bytes " + std::to_string(options.ring_bytes) + " must be a power of two from 1 MiB to 2 GiB");
  if (!std::has_single_bit(options.granule_bytes) || options.granule_bytes < kGranuleBytesMin ||
      options.granule_bytes > kGranuleBytesMax)
    return Error(ErrorKind::kInvalidArgument, "granule_bytes " + std::to_string(options.granule_bytes) +
                                                  " must be a power of two from 4 KiB to 16 MiB");
  if (options.in_flight_max < kInFlightMin || options.in_flight_max > kInFlightMax)
    return Error(ErrorKind::kInvalidArgument, "in_flight_max " + std::to_string(options.in_flight_max) + " must be " +
                                                  std::to_string(kInFlightMin) + " to " + std::to_string(kInFlightMax));
  const int cpus = libbpf_num_possible_cpus();
  if (cpus > UNDERSTUDY_CPUS_MAX)
    return Error(ErrorKind::kUnsupported, "capture is built for " + std::to_string(UNDERSTUDY_CPUS_MAX) +
                                              " CPUs, this machine may have " + std::to_string(cpus));
  return ok_status();
}

Result<std::vector<DiskInfo>> inspect_all(const BpfTrackerOptions& options) {
  std::vector<DiskInfo> disks;
  for (const std::string& path : options.disks) {
    ASSIGN_OR_RETURN(DiskInfo info, inspect_disk(path));
    for (const DiskInfo& other : disks)
      if (other.device == info.device)
        return Error(ErrorKind::kInvalidArgument,
                     "disk '" + path + "' is named twice: '" + other.path + "' is the same");
    disks.push_back(std::move(info));
  }
  return disks;
}

// One attempt to open a server's capture, under the lock of the pin root.
class Opener {
 public:
  Opener(const BpfTrackerOptions& options, std::vector<DiskInfo> disks, std::string directory)
      : options_(options), disks_(std::move(disks)), directory_(std::move(directory)) {}

  Result<std::unique_ptr<Tracker>> open() {
    RETURN_IF_ERROR(remove_pins(directory_ + "+new"));
    std::string reason = "no capture was running";
    struct stat status {};
    if (::stat(directory_.c_str(), &status) == 0) {
      ASSIGN_OR_RETURN(lock_, lock_directory(directory_, "capture of server '" + options_.server + "'", 0));
      auto reopened = KernelSide::open(directory_);
      if (reopened.ok()) {
        reason = take_over(reopened.value());
        if (reason.empty()) return finish(std::move(reopened).value(), false);
      } else if (reopened.error().kind() == ErrorKind::kNotFound) {
        reason = "the pinned capture was not complete: " + reopened.error().message();
      } else {
        return std::move(reopened).error();
      }
      remark("capture made anew, its identity is new: " + reason);
      lock_.reset();
      RETURN_IF_ERROR(remove_pins(directory_));
    }
    return create();
  }

 private:
  void remark(std::string text) {
    if (options_.remarks != nullptr) options_.remarks->push_back(std::move(text));
  }

  // Fits the pinned capture to the configuration; the answer says why that cannot be done.
  std::string take_over(KernelSide& side) {
    std::uint32_t granule_bytes = options_.granule_bytes;
    for (const understudy_disk& disk : side.table().disks)
      if (disk.dev != 0) granule_bytes = static_cast<std::uint32_t>(kSectorBytes << disk.granule_shift);
    WatchOutcome outcome = watch_disks(side, disks_, granule_bytes, true);
    if (outcome.must_be_made_anew.has_value()) return *outcome.must_be_made_anew;
    watched_ = std::move(outcome.watched);
    const auto not_applied = [&](const char* name, std::uint64_t wanted, std::uint64_t kept) {
      if (wanted != kept)
        remark(std::string(name) + " " + std::to_string(wanted) + " is not applied: the running capture keeps " +
               std::to_string(kept) + " until it is removed");
    };
    not_applied("ring_bytes", options_.ring_bytes, side.sizes().ring_bytes);
    not_applied("granule_bytes", options_.granule_bytes, granule_bytes);
    not_applied("in_flight_max", options_.in_flight_max, side.sizes().in_flight_max);
    return "";
  }

  Result<std::unique_ptr<Tracker>> create() {
    ASSIGN_OR_RETURN(const KernelTypes types, read_kernel_types());
    const DiskInfo& first = disks_.front();
    ASSIGN_OR_RETURN(const AddressTranslation translation,
                     find_address_translation(first.path, first.device, first.logical_block_bytes));
    understudy_constants constants{};
    constants.vmemmap_base = translation.vmemmap_base;
    constants.direct_map_base = translation.direct_map_base;
    constants.page_struct_bytes = translation.page_struct_bytes;
    if (std::has_single_bit(translation.page_struct_bytes))
      constants.page_struct_shift = static_cast<std::uint32_t>(std::countr_zero(translation.page_struct_bytes));
    constants.queue_argument = types.queue_argument;
    constants.bio_chain_endio = kernel_symbols().bio_chain_endio;
    KernelSideSizes sizes;
    sizes.ring_bytes = options_.ring_bytes;
    sizes.dirty_pages = dirty_pages_for(disks_, options_.granule_bytes);
    sizes.in_flight_max = options_.in_flight_max;
    const std::string making = directory_ + "+new";
    auto made = KernelSide::create(making, sizes, constants, !options_.without_bpf_loop);
    Status status = made.ok() ? set_up(made.value(), making) : Status(std::move(made).error());
    if (!status.ok()) {
      // Its own error would hide the first one; what cannot be removed now is removed by the next open.
      (void)remove_pins(making);
      return std::move(status).error();
    }
    return finish(std::move(made).value(), true);
  }

  Status set_up(KernelSide& side, const std::string& making) {
    store_capture_id(side.control(), Uuid::random());
    WatchOutcome outcome = watch_disks(side, disks_, options_.granule_bytes, false);
    if (outcome.must_be_made_anew.has_value())
      return Error(ErrorKind::kNoSpace, "watch disks: " + *outcome.must_be_made_anew);
    watched_ = std::move(outcome.watched);
    RETURN_IF_ERROR(prove(side));
    if (std::rename(making.c_str(), directory_.c_str()) != 0)
      return Error::from_errno(errno, "rename '" + making + "' to '" + directory_ + "'");
    auto lock = lock_directory(directory_, "capture of server '" + options_.server + "'", 0);
    if (!lock) {
      (void)remove_pins(directory_);
      return std::move(lock).error();
    }
    lock_ = std::move(lock).value();
    return ok_status();
  }

  Status prove(KernelSide& side) {
    ASSIGN_OR_RETURN(RingReader reader, RingReader::open(side.ring_fd(), side.sizes().ring_bytes));
    for (const TrackedDisk& disk : watched_.disks) RETURN_IF_ERROR(prove_capture(side.control(), reader, disk));
    return ok_status();
  }

  Result<std::unique_ptr<Tracker>> finish(KernelSide side, bool is_new) {
    if (!is_new) {
      if (Status proved = prove(side); !proved.ok()) {
        for (const std::uint16_t slot : watched_.added) unwatch(side, slot);
        return std::move(proved).error();
      }
    }
    ASSIGN_OR_RETURN(RingReader reader, RingReader::open(side.ring_fd(), side.sizes().ring_bytes));
    ASSIGN_OR_RETURN(RingWaiter waiter, RingWaiter::make(side.ring_fd()));
    RETURN_IF_ERROR(side.note_misses());
    BpfTracker::Parts parts{
        directory_, std::move(lock_), std::move(side), std::move(reader), std::move(waiter), watched_.disks, {}};
    for (const DiskInfo& disk : disks_) parts.disk_names.push_back(disk.name);
    return std::unique_ptr<Tracker>(std::make_unique<BpfTracker>(std::move(parts)));
  }

  const BpfTrackerOptions& options_;
  std::vector<DiskInfo> disks_;
  std::string directory_;
  UniqueFd lock_;
  WatchedDisks watched_;
};

}  // namespace

Result<std::unique_ptr<Tracker>> open_bpf_tracker(const BpfTrackerOptions& options) {
  RETURN_IF_ERROR(check_options(options));
  ASSIGN_OR_RETURN(const std::string name, pin_name(options.server));
  ASSIGN_OR_RETURN(std::vector<DiskInfo> disks, inspect_all(options));
  ASSIGN_OR_RETURN(const std::string root, pin_root(options.bpffs));
  ASSIGN_OR_RETURN(const UniqueFd root_lock, lock_directory(root, "'" + root + "'", kLockWaitMs));
  const std::string directory = root + "/" + name;
  for (const DiskInfo& disk : disks) {
    ASSIGN_OR_RETURN(const std::string other, server_capturing(root, directory, disk.device));
    if (!other.empty())
      return Error(ErrorKind::kRefused,
                   "disk '" + disk.path + "' is already protected: it is captured for server '" + other + "'");
  }
  auto tracker = Opener(options, std::move(disks), directory).open();
  if (!tracker) return std::move(tracker).error().with_context("open capture of server '" + options.server + "'");
  return tracker;
}

Status remove_bpf_capture(const std::string& bpffs, const std::string& server) {
  ASSIGN_OR_RETURN(const std::string name, pin_name(server));
  ASSIGN_OR_RETURN(const std::string root, pin_root(bpffs));
  ASSIGN_OR_RETURN(const UniqueFd root_lock, lock_directory(root, "'" + root + "'", kLockWaitMs));
  const std::string directory = root + "/" + name;
  struct stat status {};
  if (::stat(directory.c_str(), &status) != 0)
    return Error(ErrorKind::kNotFound, "no capture of server '" + server + "' is pinned below '" + root + "'");
  ASSIGN_OR_RETURN(const UniqueFd lock, lock_directory(directory, "capture of server '" + server + "'", 0));
  return remove_pins(directory);
}

}  // namespace understudy
