// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/simulated_tracker.h"

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "daemon/base/check.h"
#include "daemon/tracker/dirty_map.h"

namespace understudy {

namespace {

constexpr std::uint64_t kSectorBytes = 512;
constexpr std::uint64_t kRecordOverheadBytes = 8 + 48;  // the kernel's ring header and ours
constexpr std::uint64_t kRecordDataMax = 64 * 1024;

struct RingEvent {
  CaptureEvent event;
  std::vector<std::byte> data;
};

struct PendingWrite {
  std::uint16_t disk = 0;
  CaptureKind kind = CaptureKind::kWrite;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::vector<std::byte> data;
  bool applied = false;
  bool noted = false;  // submitted in copy mode
  bool lost = false;
};

struct DiskState {
  SimulatedDisk disk;
  std::vector<std::byte> bytes;
  std::vector<std::uint64_t> states;  // dirty map, as 8-byte words for its alignment
  std::uint32_t all_dirty = 0;
};

enum class CopyMode : std::uint8_t { kOff, kSettling, kSettled };

}  // namespace

struct SimulatedCapture::State {
  explicit State(SimulatedCaptureOptions given);
  void describe_disks();

  std::uint64_t submit(PendingWrite write, SimulatedWriteFlags flags, bool discard);
  void capture(const PendingWrite& write, SimulatedWriteFlags flags, bool discard, bool& lost);
  bool push(const PendingWrite& write, std::uint64_t done, std::uint64_t length, CaptureEvent flags);
  void lose(const PendingWrite& write, std::uint64_t from, std::uint64_t& counter);
  void apply(PendingWrite& write);
  Losses losses_now() const;

  SimulatedCaptureOptions options;
  mutable std::mutex mutex;
  std::condition_variable changed;
  bool woken = false;
  bool opened = false;

  Uuid capture_id;
  std::vector<DiskState> disks;
  std::vector<TrackedDisk> tracked;
  std::unique_ptr<GranuleMap> map;

  std::deque<RingEvent> ring;
  std::uint64_t head = 0;
  std::uint64_t tail = 0;
  std::uint64_t acknowledged = 0;

  Losses losses;
  std::uint64_t unprovable_base = 0;
  CopyMode copy_mode = CopyMode::kOff;
  std::map<std::uint64_t, PendingWrite> in_flight;
  std::uint64_t next_write = 1;
  std::uint64_t captured_writes = 0;

  std::uint32_t skip_next = 0;
  std::uint32_t fail_reads_next = 0;
  std::uint32_t miss_next = 0;
  std::uint32_t fail_settle_next = 0;
};

SimulatedCapture::State::State(SimulatedCaptureOptions given) : options(std::move(given)) {
  CHECK(!options.disks.empty());
  CHECK(std::has_single_bit(options.granule_bytes));
  if (options.clock == nullptr) options.clock = &system_clock();
  capture_id = options.capture_id.is_nil() ? Uuid::random() : options.capture_id;
  disks.resize(options.disks.size());
  for (std::size_t slot = 0; slot < disks.size(); ++slot) disks[slot].disk = options.disks[slot];
  describe_disks();
}

// From the sizes of the disks: their bytes, granules and descriptions; what there was stays.
void SimulatedCapture::State::describe_disks() {
  tracked.clear();
  std::vector<DirtyRegion> regions;
  for (std::size_t slot = 0; slot < disks.size(); ++slot) {
    DiskState& state = disks[slot];
    CHECK_GT(state.disk.size_bytes, 0u);
    CHECK_EQ(state.disk.size_bytes % kSectorBytes, 0u);
    CHECK_LE(state.disk.content.size(), state.disk.size_bytes);
    if (state.bytes.empty()) state.bytes = std::move(state.disk.content);
    state.bytes.resize(state.disk.size_bytes);
    TrackedDisk disk;
    disk.slot = static_cast<std::uint16_t>(slot);
    disk.path = state.disk.path;
    disk.device = static_cast<std::uint32_t>(slot + 1);
    disk.size_bytes = state.disk.size_bytes;
    disk.logical_block_bytes = state.disk.logical_block_bytes;
    disk.granule_bytes = options.granule_bytes;
    tracked.push_back(disk);
    DirtyRegion region;
    region.disk = disk.slot;
    region.size_bytes = disk.size_bytes;
    region.granule_bytes = disk.granule_bytes;
    state.states.resize((region.granule_count() + 7) / 8);
    region.states = reinterpret_cast<std::uint8_t*>(state.states.data());
    region.all_dirty = &state.all_dirty;
    regions.push_back(region);
  }
  map = std::make_unique<GranuleMap>(std::move(regions));
}

void SimulatedCapture::State::lose(const PendingWrite& write, std::uint64_t from, std::uint64_t& counter) {
  map->mark(write.disk, write.offset_bytes + from, write.length_bytes - from);
  ++counter;
  ++losses.total;
}

bool SimulatedCapture::State::push(const PendingWrite& write, std::uint64_t done, std::uint64_t length,
                                   CaptureEvent event) {
  const bool has_data = write.kind == CaptureKind::kWrite;
  const std::uint64_t ring_use = kRecordOverheadBytes + (has_data ? (length + 7) / 8 * 8 : 0);
  if (head + ring_use - tail > options.ring_bytes) return false;
  head += ring_use;
  RingEvent entry;
  event.kind = write.kind;
  event.disk = write.disk;
  event.offset_bytes = write.offset_bytes + done;
  event.length_bytes = length;
  event.boot_time_ns = options.clock->boot_ns();
  event.loss_count = losses.total;
  event.position = head;
  if (has_data) {
    entry.data.assign(write.data.begin() + static_cast<std::ptrdiff_t>(done),
                      write.data.begin() + static_cast<std::ptrdiff_t>(done + length));
    event.data = entry.data;
  }
  entry.event = event;
  ring.push_back(std::move(entry));  // moving a vector keeps its bytes in place: the span stays right
  return true;
}

void SimulatedCapture::State::capture(const PendingWrite& write, SimulatedWriteFlags flags, bool discard, bool& lost) {
  const bool has_data = write.kind == CaptureKind::kWrite;
  std::uint64_t done = 0;
  do {
    const std::uint64_t rest = write.length_bytes - done;
    const std::uint64_t length = has_data ? std::min(rest, kRecordDataMax) : rest;
    CaptureEvent event;
    event.preflush = flags.preflush && done == 0 && write.kind != CaptureKind::kBarrier;
    event.fua = flags.fua && length == rest;
    event.discard = discard;
    if (!push(write, done, length, event)) {
      if (write.kind == CaptureKind::kBarrier) return;  // no data was lost; points align to an earlier barrier
      lose(write, done, losses.ring_full);
      lost = true;
      return;
    }
    done += length;
  } while (done < write.length_bytes);
  if (write.kind != CaptureKind::kBarrier) ++captured_writes;
}

std::uint64_t SimulatedCapture::State::submit(PendingWrite write, SimulatedWriteFlags flags, bool discard) {
  CHECK_LT(write.disk, disks.size());
  CHECK_EQ(write.offset_bytes % kSectorBytes, 0u);
  CHECK_EQ(write.length_bytes % kSectorBytes, 0u);
  CHECK_LE(write.offset_bytes, disks[write.disk].bytes.size());
  CHECK_LE(write.length_bytes, disks[write.disk].bytes.size() - write.offset_bytes);
  const std::uint64_t id = next_write++;
  const bool is_data = write.kind != CaptureKind::kBarrier;
  if (miss_next > 0) {
    --miss_next;
    ++losses.unprovable;
  } else {
    write.noted = copy_mode != CopyMode::kOff;
    if (write.noted && is_data && in_flight.size() >= options.in_flight_max) {
      write.noted = false;
      lose(write, 0, losses.untracked);
    }
    if (skip_next > 0) {
      --skip_next;
      if (is_data) lose(write, 0, losses.skipped);
      write.lost = is_data;
    } else if (fail_reads_next > 0 && write.kind == CaptureKind::kWrite) {
      --fail_reads_next;
      lose(write, 0, losses.unreadable);
      write.lost = true;
    } else {
      capture(write, flags, discard, write.lost);
    }
  }
  in_flight.emplace(id, std::move(write));
  changed.notify_all();
  return id;
}

void SimulatedCapture::State::apply(PendingWrite& write) {
  if (write.applied) return;
  write.applied = true;
  std::byte* target = disks[write.disk].bytes.data() + write.offset_bytes;
  if (write.kind == CaptureKind::kWrite) std::memcpy(target, write.data.data(), write.data.size());
  if (write.kind == CaptureKind::kZero) std::memset(target, 0, write.length_bytes);
}

Losses SimulatedCapture::State::losses_now() const {
  map->fold_all_dirty();
  Losses now = losses;
  now.unprovable -= unprovable_base;
  return now;
}

namespace {

class SimulatedTracker final : public Tracker {
 public:
  explicit SimulatedTracker(SimulatedCapture::State& state) : state_(state), cursor_(state.tail) {}
  ~SimulatedTracker() override {
    std::lock_guard lock(state_.mutex);
    state_.opened = false;
  }

  std::string_view rung() const override { return "simulated"; }
  Uuid capture_id() const override {
    std::lock_guard lock(state_.mutex);
    return state_.capture_id;
  }
  Status renew_capture_id() override {
    std::lock_guard lock(state_.mutex);
    state_.capture_id = Uuid::random();
    state_.unprovable_base = state_.losses.unprovable;
    return ok_status();
  }
  const std::vector<TrackedDisk>& disks() const override { return state_.tracked; }

  std::optional<CaptureEvent> next() override;
  std::uint64_t tail() const override {
    std::lock_guard lock(state_.mutex);
    return state_.tail;
  }
  std::uint64_t cursor() const override { return cursor_; }
  std::uint64_t head() const override {
    std::lock_guard lock(state_.mutex);
    return state_.head;
  }
  std::uint64_t ring_bytes() const override {
    std::lock_guard lock(state_.mutex);
    return state_.options.ring_bytes;
  }
  void keep_acknowledged(std::uint64_t seq) override {
    std::lock_guard lock(state_.mutex);
    state_.acknowledged = seq;
  }
  std::uint64_t acknowledged() const override {
    std::lock_guard lock(state_.mutex);
    return state_.acknowledged;
  }
  Status seek(std::uint64_t position) override;
  void release(std::uint64_t position) override;
  void wait(std::chrono::nanoseconds timeout) override;
  void wake() override;

  Losses losses() const override {
    std::lock_guard lock(state_.mutex);
    return state_.losses_now();
  }
  DirtyMap& dirty() override { return *state_.map; }
  Result<bool> set_copy_mode(bool on) override;
  Result<std::vector<InFlightWrite>> in_flight() override;
  Status detach() override;

 private:
  SimulatedCapture::State& state_;
  std::uint64_t cursor_;
};

std::optional<CaptureEvent> SimulatedTracker::next() {
  std::lock_guard lock(state_.mutex);
  const auto found = std::upper_bound(state_.ring.begin(), state_.ring.end(), cursor_,
                                      [](std::uint64_t at, const RingEvent& e) { return at < e.event.position; });
  if (found == state_.ring.end()) return std::nullopt;
  cursor_ = found->event.position;
  return found->event;
}

Status SimulatedTracker::seek(std::uint64_t position) {
  std::lock_guard lock(state_.mutex);
  bool boundary = position == state_.tail;
  for (const RingEvent& entry : state_.ring) boundary = boundary || entry.event.position == position;
  if (!boundary)
    return Error(ErrorKind::kInvalidArgument, "seek in the ring: position " + std::to_string(position) +
                                                  " is no event boundary between tail " + std::to_string(state_.tail) +
                                                  " and head " + std::to_string(state_.head));
  cursor_ = position;
  return ok_status();
}

void SimulatedTracker::release(std::uint64_t position) {
  std::lock_guard lock(state_.mutex);
  if (position <= state_.tail) return;
  CHECK_LE(position, cursor_);
  while (!state_.ring.empty() && state_.ring.front().event.position <= position) {
    state_.tail = state_.ring.front().event.position;
    state_.ring.pop_front();
  }
  CHECK_EQ(state_.tail, position);
}

void SimulatedTracker::wait(std::chrono::nanoseconds timeout) {
  std::unique_lock lock(state_.mutex);
  const auto ready = [this] { return state_.woken || state_.head != cursor_; };
  if (!state_.options.virtual_time) state_.changed.wait_for(lock, timeout, ready);
  state_.woken = false;
}

void SimulatedTracker::wake() {
  std::lock_guard lock(state_.mutex);
  state_.woken = true;
  state_.changed.notify_all();
}

Result<bool> SimulatedTracker::set_copy_mode(bool on) {
  std::lock_guard lock(state_.mutex);
  if (!on) {
    state_.copy_mode = CopyMode::kOff;
    for (auto& [id, write] : state_.in_flight) write.noted = false;
    return true;
  }
  if (state_.copy_mode == CopyMode::kSettled) return true;
  state_.copy_mode = CopyMode::kSettling;
  if (state_.fail_settle_next > 0) {
    --state_.fail_settle_next;
    return false;
  }
  for (const auto& [id, write] : state_.in_flight)
    if (!write.noted && !write.lost && write.kind != CaptureKind::kBarrier) return false;
  state_.copy_mode = CopyMode::kSettled;
  return true;
}

Result<std::vector<InFlightWrite>> SimulatedTracker::in_flight() {
  std::lock_guard lock(state_.mutex);
  std::vector<InFlightWrite> writes;
  for (const auto& [id, write] : state_.in_flight)
    if (write.kind != CaptureKind::kBarrier && (write.noted || write.lost))
      writes.push_back({write.disk, write.offset_bytes, write.length_bytes, write.lost});
  return writes;
}

Status SimulatedTracker::detach() {
  std::lock_guard lock(state_.mutex);
  state_.ring.clear();
  state_.tail = state_.head;
  cursor_ = state_.head;
  state_.copy_mode = CopyMode::kOff;
  state_.capture_id = Uuid::random();  // whatever is written from here on is not known
  return ok_status();
}

}  // namespace

SimulatedCapture::SimulatedCapture(SimulatedCaptureOptions options)
    : state_(std::make_unique<State>(std::move(options))) {}
SimulatedCapture::~SimulatedCapture() { CHECK(!state_->opened); }

std::unique_ptr<Tracker> SimulatedCapture::open() {
  std::lock_guard lock(state_->mutex);
  CHECK(!state_->opened);
  state_->opened = true;
  // A new agent settles anew, as the BPF tracker does.
  if (state_->copy_mode == CopyMode::kSettled) state_->copy_mode = CopyMode::kSettling;
  return std::make_unique<SimulatedTracker>(*state_);
}

std::uint64_t SimulatedCapture::submit_write(std::uint16_t disk, std::uint64_t offset_bytes,
                                             std::span<const std::byte> data, SimulatedWriteFlags flags) {
  CHECK(!data.empty());
  std::lock_guard lock(state_->mutex);
  PendingWrite write;
  write.disk = disk;
  write.offset_bytes = offset_bytes;
  write.length_bytes = data.size();
  write.data.assign(data.begin(), data.end());
  return state_->submit(std::move(write), flags, false);
}

std::uint64_t SimulatedCapture::submit_zero(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                            bool discard) {
  CHECK_GT(length_bytes, 0u);
  std::lock_guard lock(state_->mutex);
  PendingWrite write;
  write.disk = disk;
  write.kind = CaptureKind::kZero;
  write.offset_bytes = offset_bytes;
  write.length_bytes = length_bytes;
  return state_->submit(std::move(write), {}, discard);
}

std::uint64_t SimulatedCapture::submit_flush(std::uint16_t disk) {
  std::lock_guard lock(state_->mutex);
  PendingWrite write;
  write.disk = disk;
  write.kind = CaptureKind::kBarrier;
  return state_->submit(std::move(write), {}, false);
}

void SimulatedCapture::apply(std::uint64_t write) {
  std::lock_guard lock(state_->mutex);
  const auto found = state_->in_flight.find(write);
  CHECK(found != state_->in_flight.end());
  state_->apply(found->second);
}

void SimulatedCapture::complete(std::uint64_t write) {
  std::lock_guard lock(state_->mutex);
  const auto found = state_->in_flight.find(write);
  CHECK(found != state_->in_flight.end());
  PendingWrite& done = found->second;
  state_->apply(done);
  if (done.kind != CaptureKind::kBarrier) {
    if (done.lost) {
      // What was read of it before now may be stale.
      state_->map->mark(done.disk, done.offset_bytes, done.length_bytes);
    } else if (!done.noted && state_->copy_mode == CopyMode::kSettled) {
      // A write that copy mode did not know of: what was read of its extent cannot be trusted.
      state_->map->mark(done.disk, done.offset_bytes, done.length_bytes);
      ++state_->losses.untracked;
      ++state_->losses.total;
    }
  }
  state_->in_flight.erase(found);
}

void SimulatedCapture::write(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const std::byte> data,
                             SimulatedWriteFlags flags) {
  complete(submit_write(disk, offset_bytes, data, flags));
}

void SimulatedCapture::zero(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, bool discard) {
  complete(submit_zero(disk, offset_bytes, length_bytes, discard));
}

void SimulatedCapture::flush(std::uint16_t disk) { complete(submit_flush(disk)); }

std::vector<std::uint64_t> SimulatedCapture::writes_in_flight() const {
  std::lock_guard lock(state_->mutex);
  std::vector<std::uint64_t> ids;
  for (const auto& [id, write] : state_->in_flight) ids.push_back(id);
  return ids;
}

void SimulatedCapture::read_disk(std::uint16_t disk, std::uint64_t offset_bytes, std::span<std::byte> out) const {
  std::lock_guard lock(state_->mutex);
  CHECK_LT(disk, state_->disks.size());
  const std::vector<std::byte>& bytes = state_->disks[disk].bytes;
  CHECK_LE(offset_bytes, bytes.size());
  CHECK_LE(out.size(), bytes.size() - offset_bytes);
  std::memcpy(out.data(), bytes.data() + offset_bytes, out.size());
}

std::span<const std::byte> SimulatedCapture::disk_bytes(std::uint16_t disk) const {
  CHECK_LT(disk, state_->disks.size());
  return state_->disks[disk].bytes;
}

void SimulatedCapture::skip_next(std::uint32_t count) {
  std::lock_guard lock(state_->mutex);
  state_->skip_next = count;
}
void SimulatedCapture::fail_reads_next(std::uint32_t count) {
  std::lock_guard lock(state_->mutex);
  state_->fail_reads_next = count;
}
void SimulatedCapture::miss_first_program(std::uint32_t count) {
  std::lock_guard lock(state_->mutex);
  state_->miss_next = count;
}
void SimulatedCapture::set_ring_bytes(std::uint64_t bytes) {
  std::lock_guard lock(state_->mutex);
  state_->options.ring_bytes = bytes;
}
void SimulatedCapture::fail_settle_next(std::uint32_t count) {
  std::lock_guard lock(state_->mutex);
  state_->fail_settle_next = count;
}
Losses SimulatedCapture::losses() const {
  std::lock_guard lock(state_->mutex);
  return state_->losses_now();
}
std::uint64_t SimulatedCapture::head() const {
  std::lock_guard lock(state_->mutex);
  return state_->head;
}
Uuid SimulatedCapture::capture_id() const {
  std::lock_guard lock(state_->mutex);
  return state_->capture_id;
}
void SimulatedCapture::reboot() {
  std::lock_guard lock(state_->mutex);
  CHECK(!state_->opened);
  state_->ring.clear();
  state_->head = state_->tail = 0;
  state_->acknowledged = 0;
  state_->losses = {};
  state_->unprovable_base = 0;
  state_->copy_mode = CopyMode::kOff;
  state_->in_flight.clear();
  for (DiskState& disk : state_->disks) {
    std::fill(disk.states.begin(), disk.states.end(), 0);
    disk.all_dirty = 0;
  }
  state_->capture_id = Uuid::random();
}

std::uint16_t SimulatedCapture::add_disk(const std::string& path, std::span<const std::byte> content) {
  std::lock_guard lock(state_->mutex);
  CHECK(!state_->opened);
  const auto slot = static_cast<std::uint16_t>(state_->disks.size());
  state_->disks.emplace_back().disk = {path, content.size(), 512};
  state_->describe_disks();
  std::copy(content.begin(), content.end(), state_->disks[slot].bytes.begin());
  state_->map->mark(slot, 0, content.size());
  return slot;
}

void SimulatedCapture::grow_disk(std::uint16_t disk, std::span<const std::byte> content) {
  std::lock_guard lock(state_->mutex);
  CHECK(!state_->opened);
  DiskState& state = state_->disks.at(disk);
  const std::uint64_t before = state.disk.size_bytes;
  state.disk.size_bytes += content.size();
  state_->describe_disks();
  std::copy(content.begin(), content.end(), state.bytes.begin() + static_cast<std::ptrdiff_t>(before));
  state_->map->mark(disk, before, content.size());
}

void SimulatedCapture::write_unseen(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const std::byte> data) {
  std::lock_guard lock(state_->mutex);
  CHECK_LT(disk, state_->disks.size());
  std::vector<std::byte>& bytes = state_->disks[disk].bytes;
  CHECK_LE(offset_bytes, bytes.size());
  CHECK_LE(data.size(), bytes.size() - offset_bytes);
  std::memcpy(bytes.data() + offset_bytes, data.data(), data.size());
}

std::uint64_t SimulatedCapture::captured_writes() const {
  std::lock_guard lock(state_->mutex);
  return state_->captured_writes;
}

}  // namespace understudy
