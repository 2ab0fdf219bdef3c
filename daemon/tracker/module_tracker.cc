// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/module_tracker.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

#include "daemon/tracker/capture_event.h"
#include "daemon/tracker/dirty_map.h"
#include "daemon/tracker/kernel_side.h"
#include "daemon/tracker/module_device.h"
#include "daemon/tracker/module_disks.h"
#include "daemon/tracker/ring_reader.h"
#include "daemon/tracker/ring_waiter.h"
#include "daemon/tracker/self_test.h"

namespace understudy {

namespace {

constexpr std::uint64_t kSectorBytes = 1 << UNDERSTUDY_SECTOR_SHIFT;
constexpr std::uint32_t kGranuleBytesMin = kSectorBytes << UNDERSTUDY_GRANULE_SHIFT_MIN;
constexpr std::uint32_t kGranuleBytesMax = kSectorBytes << UNDERSTUDY_GRANULE_SHIFT_MAX;

class ModuleTracker final : public Tracker {
 public:
  struct Parts {
    std::string name;  // of the server, in tables
    ModuleDevice module;
    RingReader reader;
    RingWaiter waiter;
    std::vector<TrackedDisk> disks;
    std::vector<DirtyRegion> regions;
  };
  explicit ModuleTracker(Parts parts)
      : name_(std::move(parts.name)),
        module_(std::move(parts.module)),
        reader_(std::move(parts.reader)),
        waiter_(std::move(parts.waiter)),
        disks_(std::move(parts.disks)),
        dirty_(std::move(parts.regions)) {
    for (const TrackedDisk& disk : disks_) is_known_[disk.slot] = true;
  }

  std::string_view rung() const override { return "module-dm"; }
  Uuid capture_id() const override { return load_capture_id(control()); }
  Status renew_capture_id() override {
    store_capture_id(control(), Uuid::random());
    return ok_status();
  }
  const std::vector<TrackedDisk>& disks() const override { return disks_; }

  std::optional<CaptureEvent> next() override;
  std::uint64_t tail() const override { return reader_.tail(); }
  std::uint64_t cursor() const override { return reader_.cursor(); }
  std::uint64_t head() const override { return reader_.head(); }
  std::uint64_t ring_bytes() const override { return reader_.ring_bytes(); }
  Status seek(std::uint64_t position) override { return reader_.seek(position); }
  void release(std::uint64_t position) override { reader_.release(position); }
  void keep_acknowledged(std::uint64_t seq) override {
    shared_store(control().acknowledged_seq, static_cast<__u64>(seq));
  }
  std::uint64_t acknowledged() const override { return shared_load(control().acknowledged_seq); }
  void wait(std::chrono::nanoseconds timeout) override {
    waiter_.wait(timeout, std::exchange(drained_, false), control(), reader_);
  }
  void wake() override { waiter_.wake(); }

  // Nothing is ever unprovable: a disk whose writes are not seen is known, and dirty.
  Losses losses() const override { return losses_of(control()); }
  DirtyMap& dirty() override { return dirty_; }
  Result<bool> set_copy_mode(bool on) override;
  Result<std::vector<InFlightWrite>> in_flight() override;
  Status detach() override { return end_module_capture(module_); }

 private:
  understudy_control& control() const { return module_.control().common; }
  Status attach_again();

  std::string name_;
  ModuleDevice module_;
  RingReader reader_;
  RingWaiter waiter_;
  std::vector<TrackedDisk> disks_;
  GranuleMap dirty_;
  KnownDisks is_known_{};
  bool drained_ = false;
};

std::optional<CaptureEvent> ModuleTracker::next() {
  while (const auto record = reader_.next()) {
    if (const auto event = event_of(*record, is_known_)) return event;
  }
  drained_ = true;
  return std::nullopt;
}

// The module knows every write from its submission to its completion all the time.
Result<bool> ModuleTracker::set_copy_mode(bool on) {
  RETURN_IF_ERROR(attach_again());
  shared_store(control().copy_mode, on ? __u32{UNDERSTUDY_COPY_SETTLED} : __u32{UNDERSTUDY_COPY_OFF});
  return true;
}

// Disks whose table somebody replaced. A disk that cannot be attached (another size, another kind of table) stays as it
// is: lost in flight, which keeps the stream from being called whole.
Status ModuleTracker::attach_again() {
  for (const TrackedDisk& disk : disks_) {
    ASSIGN_OR_RETURN(const auto state, module_.disk(disk.slot));
    if (!state.has_value() || state->live_sectors >= state->sectors) continue;
    const auto table = read_dm_table(disk.device);
    if (!table.ok() || table->suspended || table->has_inactive || table->lines.empty()) continue;
    const DmLine& last = table->lines.back();
    if (last.first_sector + last.sectors != state->sectors) continue;
    const Status attached = attach_disk(disk.path, disk.device, name_, disk.slot);
    if (!attached.ok()) continue;
  }
  return ok_status();
}

Result<std::vector<InFlightWrite>> ModuleTracker::in_flight() {
  RETURN_IF_ERROR(attach_again());
  ASSIGN_OR_RETURN(const std::vector<understudy_module_in_flight> all, module_.in_flight());
  std::vector<InFlightWrite> writes;
  writes.reserve(all.size());
  for (const understudy_module_in_flight& write : all)
    if (is_known_[write.disk])
      writes.push_back({write.disk, write.sector * kSectorBytes, write.sectors * kSectorBytes, write.lost != 0});
  return writes;
}

Status check_options(const ModuleTrackerOptions& options) {
  if (options.disks.empty() || options.disks.size() > UNDERSTUDY_DISKS_MAX)
    return Error(ErrorKind::kInvalidArgument, "capture needs 1 to " + std::to_string(UNDERSTUDY_DISKS_MAX) +
                                                  " disks, not " + std::to_string(options.disks.size()));
  if (!std::has_single_bit(options.ring_bytes) || options.ring_bytes < UNDERSTUDY_MODULE_RING_BYTES_MIN ||
      options.ring_bytes > UNDERSTUDY_MODULE_RING_BYTES_MAX)
    return Error(ErrorKind::kInvalidArgument,
                 "ring_bytes " + std::to_string(options.ring_bytes) + " must be a power of two from 1 MiB to 2 GiB");
  if (!std::has_single_bit(options.granule_bytes) || options.granule_bytes < kGranuleBytesMin ||
      options.granule_bytes > kGranuleBytesMax)
    return Error(ErrorKind::kInvalidArgument, "granule_bytes " + std::to_string(options.granule_bytes) +
                                                  " must be a power of two from 4 KiB to 16 MiB");
  return ok_status();
}

Result<std::vector<DiskInfo>> inspect_all(const ModuleTrackerOptions& options) {
  std::vector<DiskInfo> disks;
  for (const std::string& path : options.disks) {
    ASSIGN_OR_RETURN(DiskInfo info, inspect_disk(path));
    for (const DiskInfo& other : disks)
      if (other.device == info.device)
        return Error(ErrorKind::kInvalidArgument,
                     "disk '" + path + "' is named twice: '" + other.path + "' is the same");
    RETURN_IF_ERROR(can_attach_by_table(path, info.device));
    disks.push_back(std::move(info));
  }
  return disks;
}

std::optional<std::string> change_of(const understudy_module_disk& before, const DiskInfo& now) {
  if (before.sectors * kSectorBytes != now.size_bytes)
    return "disk '" + now.path + "' had " + std::to_string(before.sectors * kSectorBytes) + " bytes, has " +
           std::to_string(now.size_bytes);
  if (before.identity != 0 && now.sequence != 0 && before.identity != now.sequence)
    return "disk '" + now.path + "' is not the same disk as before (diskseq was " + std::to_string(before.identity) +
           ", is " + std::to_string(now.sequence) + ")";
  return std::nullopt;
}

// One attempt to open a server's capture.
class Opener {
 public:
  Opener(const ModuleTrackerOptions& options, std::vector<DiskInfo> disks, std::string name)
      : options_(options), disks_(std::move(disks)), name_(std::move(name)) {}

  Result<std::unique_ptr<Tracker>> open() {
    ASSIGN_OR_RETURN(ModuleDevice module, ModuleDevice::open());
    for (const DiskInfo& disk : disks_) RETURN_IF_ERROR(refuse_if_another_has(module, disk));
    const Status opened = module.open_server(name_);
    if (opened.ok()) {
      ASSIGN_OR_RETURN(const std::string reason, why_not_taken_over(module));
      if (reason.empty()) return take_over(std::move(module));
      remark("capture made anew, its identity is new: " + reason);
      RETURN_IF_ERROR(end_module_capture(module));
      ASSIGN_OR_RETURN(module, ModuleDevice::open());
    } else if (opened.error().kind() != ErrorKind::kNotFound) {
      return Error(opened.error());
    }
    return create(std::move(module));
  }

 private:
  void remark(std::string text) {
    if (options_.remarks != nullptr) options_.remarks->push_back(std::move(text));
  }

  Status refuse_if_another_has(const ModuleDevice& module, const DiskInfo& disk) const {
    ASSIGN_OR_RETURN(const auto owner, module.find_disk(disk.device));
    if (owner.has_value() && owner->server != name_)
      return Error(ErrorKind::kRefused, "disk '" + disk.path + "' is already protected: it is captured for server '" +
                                            server_of_pin_name(owner->server) + "'");
    return ok_status();
  }

  const understudy_module_disk* active_slot(std::uint32_t device) const {
    for (const understudy_module_disk& disk : slots_)
      if (disk.dev == device && disk.retired == 0) return &disk;
    return nullptr;
  }

  // Empty = the running capture fits the configuration, or can be made to. Changes nothing.
  Result<std::string> why_not_taken_over(const ModuleDevice& module) {
    ASSIGN_OR_RETURN(slots_, all_disks(module));
    std::size_t slots_wanted = slots_.size();
    for (const DiskInfo& info : disks_) {
      const understudy_module_disk* const before = active_slot(info.device);
      if (before == nullptr) {
        ++slots_wanted;
      } else if (const auto change = change_of(*before, info)) {
        return *change;
      }
    }
    if (slots_wanted > UNDERSTUDY_DISKS_MAX)
      return "disks were added and removed until all " + std::to_string(UNDERSTUDY_DISKS_MAX) + " slots were used";
    return std::string();
  }

  Result<std::unique_ptr<Tracker>> take_over(ModuleDevice module) {
    for (const understudy_module_disk& disk : slots_) {
      const auto is_wanted = [&](const DiskInfo& info) { return info.device == disk.dev; };
      if (disk.retired == 0 && std::any_of(disks_.begin(), disks_.end(), is_wanted)) continue;
      if (disk.retired == 0) RETURN_IF_ERROR(module.release_disk(disk.slot));
      // Also what an agent left that was killed between the two.
      if (disk.targets != 0) RETURN_IF_ERROR(detach_disk(disk.dev));
    }
    std::uint32_t granule_bytes = options_.granule_bytes;
    if (!slots_.empty()) granule_bytes = static_cast<std::uint32_t>(kSectorBytes << slots_.front().granule_shift);
    not_applied("ring_bytes", options_.ring_bytes, module.ring_bytes());
    not_applied("granule_bytes", options_.granule_bytes, granule_bytes);
    std::vector<std::uint32_t> added;
    Status status = attach_all(module, granule_bytes, true, added);
    if (status.ok()) status = prove(module);
    if (!status.ok()) {
      for (const std::uint32_t slot : added) (void)module.release_disk(slot);
      for (const DiskInfo& info : disks_)
        if (active_slot(info.device) == nullptr) (void)detach_disk(info.device);
      return std::move(status).error();
    }
    return finish(std::move(module));
  }

  Result<std::unique_ptr<Tracker>> create(ModuleDevice module) {
    slots_.clear();
    RETURN_IF_ERROR(module.create_server(name_, options_.ring_bytes));
    store_capture_id(module.control().common, Uuid::random());
    std::vector<std::uint32_t> added;
    Status status = attach_all(module, options_.granule_bytes, false, added);
    if (status.ok()) status = prove(module);
    if (!status.ok()) {
      // Its own error would hide the first one; what is left is ended by the next open.
      (void)end_module_capture(module);
      return std::move(status).error();
    }
    return finish(std::move(module));
  }

  void not_applied(const char* name, std::uint64_t wanted, std::uint64_t kept) {
    if (wanted != kept)
      remark(std::string(name) + " " + std::to_string(wanted) + " is not applied: the running capture keeps " +
             std::to_string(kept) + " until it is removed");
  }

  // Slots and targets for all disks. `added` gets the new slots.
  Status attach_all(ModuleDevice& module, std::uint32_t granule_bytes, bool mark_new,
                    std::vector<std::uint32_t>& added) {
    auto next_slot = static_cast<std::uint32_t>(slots_.size());
    for (const DiskInfo& info : disks_) {
      const understudy_module_disk* const before = active_slot(info.device);
      const understudy_module_disk disk = before != nullptr ? *before : module_disk(info, next_slot, granule_bytes);
      if (before == nullptr) {
        RETURN_IF_ERROR(module.set_disk(disk));
        added.push_back(next_slot++);
      }
      TrackedDisk tracked;
      tracked.slot = static_cast<std::uint16_t>(disk.slot);
      tracked.path = info.path;
      tracked.device = info.device;
      tracked.size_bytes = info.size_bytes;
      tracked.logical_block_bytes = info.logical_block_bytes;
      tracked.granule_bytes = static_cast<std::uint32_t>(kSectorBytes << disk.granule_shift);
      DirtyRegion region;
      region.disk = tracked.slot;
      ASSIGN_OR_RETURN(region.states, module.dirty_states(disk));
      region.size_bytes = tracked.size_bytes;
      region.granule_bytes = tracked.granule_bytes;
      if (before == nullptr && mark_new) GranuleMap({region}).mark(tracked.slot, 0, info.size_bytes);
      regions_.push_back(region);
      tracked_.push_back(std::move(tracked));
      RETURN_IF_ERROR(attach_disk(info.path, info.device, name_, disk.slot));
    }
    return ok_status();
  }

  Status prove(ModuleDevice& module) const {
    ASSIGN_OR_RETURN(RingReader reader, RingReader::open(module.fd(), module.ring_bytes()));
    for (const TrackedDisk& disk : tracked_) RETURN_IF_ERROR(prove_capture(module.control().common, reader, disk));
    return ok_status();
  }

  Result<std::unique_ptr<Tracker>> finish(ModuleDevice module) {
    ASSIGN_OR_RETURN(RingReader reader, RingReader::open(module.fd(), module.ring_bytes()));
    ASSIGN_OR_RETURN(RingWaiter waiter, RingWaiter::make(module.fd()));
    ModuleTracker::Parts parts{name_, std::move(module), std::move(reader), std::move(waiter), tracked_, regions_};
    return std::unique_ptr<Tracker>(std::make_unique<ModuleTracker>(std::move(parts)));
  }

  const ModuleTrackerOptions& options_;
  std::vector<DiskInfo> disks_;
  std::string name_;
  std::vector<understudy_module_disk> slots_;  // of the capture that is taken over
  std::vector<TrackedDisk> tracked_;
  std::vector<DirtyRegion> regions_;
};

}  // namespace

Status can_attach_by_table(const std::string& path, std::uint32_t device) {
  const auto table = read_dm_table(device);
  if (!table.ok() && table.error().kind() == ErrorKind::kNotFound)
    return Error(ErrorKind::kUnsupported, "disk '" + path +
                                              "' is no device-mapper device: the module captures LVM volumes and other "
                                              "linear device-mapper devices");
  if (!table.ok()) return Error(table.error()).with_context("disk '" + path + "'");
  const auto lines = linear_lines(table.value());
  if (!lines.ok()) return Error(lines.error()).with_context("disk '" + path + "'");
  return ok_status();
}

Result<std::unique_ptr<Tracker>> open_module_tracker(const ModuleTrackerOptions& options) {
  RETURN_IF_ERROR(check_options(options));
  ASSIGN_OR_RETURN(const std::string name, pin_name(options.server));
  ASSIGN_OR_RETURN(std::vector<DiskInfo> disks, inspect_all(options));
  auto tracker = Opener(options, std::move(disks), name).open();
  if (!tracker) return std::move(tracker).error().with_context("open capture of server '" + options.server + "'");
  return tracker;
}

Status remove_module_capture(const std::string& server) {
  ASSIGN_OR_RETURN(const std::string name, pin_name(server));
  ASSIGN_OR_RETURN(ModuleDevice module, ModuleDevice::open());
  RETURN_IF_ERROR(module.open_server(name));
  return end_module_capture(module);
}

bool module_has_capture(const std::string& server) {
  const auto name = pin_name(server);
  auto module = ModuleDevice::open();
  if (!name.ok() || !module.ok()) return false;
  const Status opened = module->open_server(name.value());
  return opened.ok() || opened.error().kind() == ErrorKind::kBusy;
}

}  // namespace understudy
