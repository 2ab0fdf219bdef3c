// SPDX-License-Identifier: Apache-2.0
// What the applications of the source write: overlapping and overwriting, less and more than a granule, several disks,
// discards, flushes and FUA, completions long after.
#include <algorithm>
#include <cstring>
#include <utility>

#include "daemon/base/checksum.h"
#include "tests/sim/source_host.h"

namespace understudy::sim {
namespace {

constexpr std::uint64_t kSector = 512;
// Of a piece of the ring: simulated_tracker.cc.
constexpr std::uint64_t kPieceBytesMax = 64 << 10;
constexpr std::uint64_t kPieceOverhead = 8 + 48;
constexpr std::size_t kInFlightMax = 24;

}  // namespace

// Every sector says what it is: disk, sector, write number, and a checksum over that.
std::vector<std::byte> SourceHost::stamped(std::uint16_t disk, std::uint64_t offset, std::uint64_t length) {
  std::vector<std::byte> data(length);
  ++write_number_;
  for (std::uint64_t at = 0; at < length; at += kSector) {
    std::uint64_t words[kSector / 8];
    words[0] = disk;
    words[1] = (offset + at) / kSector;
    words[2] = write_number_;
    words[3] = xxh3_64(std::as_bytes(std::span(words).first(3)));
    for (std::size_t i = 4; i < kSector / 8; ++i) words[i] = i % 8 == 4 ? words[3] + i : words[i - 1];
    std::memcpy(data.data() + at, words, kSector);
  }
  return data;
}

void SourceHost::run_application() {
  world_.scheduler.after(1 + world_.below(2 * write_pause_us_) * kMicrosecond, [this, boot = boots_] {
    if (boot != boots_ || !up_ || quiet_) return;
    for (std::uint64_t burst = world_.chance(10) ? world_.below(20) : world_.below(4); burst > 0; --burst) submit();
    if (world_.per_mille(30)) request_mark();
    run_application();
  });
}

// Writes that overlap one in flight have no defined order on a disk, and nobody sends them.
bool SourceHost::overlaps_in_flight(std::uint16_t disk, std::uint64_t offset, std::uint64_t length) const {
  return std::any_of(in_flight_.begin(), in_flight_.end(), [&](const auto& entry) {
    const InFlight& other = entry.second;
    return other.disk == disk && offset < other.offset_bytes + other.length_bytes &&
           other.offset_bytes < offset + length;
  });
}

void SourceHost::submit() {
  if (in_flight_.size() >= kInFlightMax) return;
  LoggedEvent event;
  event.disk = static_cast<std::uint16_t>(world_.below(sizes_.size()));
  event.wall_ns = clock_.wall_ns();
  const std::uint64_t head_before = capture_->head();
  const Losses losses_before = capture_->losses();
  if (world_.chance(8)) {
    const std::uint64_t id = capture_->submit_flush(event.disk);
    event.kind = CaptureKind::kBarrier;
    if (capture_->head() != head_before) log_submitted(event, {}, head_before, losses_before);
    capture_->complete(id);
    wake_agent(world_.below(200) * kMicrosecond);
    return;
  }
  const std::uint64_t sectors = sizes_[event.disk] / kSector;
  const std::uint64_t longest = world_.per_mille(20) ? 200 : world_.chance(10) ? 64 : 8;
  const std::uint64_t length = std::min(1 + world_.below(longest), sectors);
  std::uint64_t first = world_.below(sectors - length + 1);
  if (world_.chance(50)) first = std::min(first % 24, sectors - length);  // a hot spot, as logs and inodes are
  event.offset_bytes = first * kSector;
  event.length_bytes = length * kSector;
  if (overlaps_in_flight(event.disk, event.offset_bytes, event.length_bytes)) return;
  const InFlight write{event.disk, event.offset_bytes, event.length_bytes};
  if (world_.chance(12)) {
    event.kind = CaptureKind::kZero;
    const std::uint64_t id =
        capture_->submit_zero(event.disk, event.offset_bytes, event.length_bytes, world_.chance(50));
    log_submitted(event, {}, head_before, losses_before);
    return complete_later(id, write);
  }
  const std::vector<std::byte> data = stamped(event.disk, event.offset_bytes, event.length_bytes);
  event.preflush = world_.chance(6);
  event.fua = world_.chance(6);
  const std::uint64_t id = capture_->submit_write(event.disk, event.offset_bytes, data, {event.preflush, event.fua});
  log_submitted(event, data, head_before, losses_before);
  complete_later(id, write);
}

// What became of it: pieces in the ring, and a rest that was lost or never seen.
void SourceHost::log_submitted(const LoggedEvent& model, std::span<const std::byte> data, std::uint64_t head_before,
                               const Losses& losses_before) {
  oracle_.capture_has(capture_->capture_id());
  const Losses losses = capture_->losses();
  const bool missed = losses.unprovable != losses_before.unprovable;
  const bool lost = losses.total != losses_before.total;
  std::uint64_t in_ring = capture_->head() - head_before;
  std::uint64_t position = head_before;
  std::uint64_t done = 0;
  do {
    const std::uint64_t rest = model.length_bytes - done;
    const bool has_data = model.kind == CaptureKind::kWrite;
    const std::uint64_t length = has_data ? std::min(rest, kPieceBytesMax) : rest;
    const std::uint64_t ring_use = kPieceOverhead + (has_data ? (length + 7) / 8 * 8 : 0);
    LoggedEvent piece = model;
    piece.offset_bytes = model.offset_bytes + done;
    piece.preflush = model.preflush && done == 0;
    if (in_ring >= ring_use) {
      in_ring -= ring_use;
      position += ring_use;
      piece.number = position;
      piece.length_bytes = length;
      piece.fua = model.fua && length == rest;
    } else {
      REQUIRE(lost || missed, "simulation", "a write vanished without a trace");
      piece.how = missed ? LoggedEvent::How::kMissed : LoggedEvent::How::kLost;
      piece.number = missed ? oracle_.identity_index() : losses.total;
      piece.length_bytes = rest;
    }
    if (has_data) {
      const auto bytes = data.subspan(done, piece.length_bytes);
      piece.data.assign(bytes.begin(), bytes.end());
      piece.checksum = xxh3_64(bytes);
    }
    done += piece.length_bytes;
    world_.note("write", piece.how == LoggedEvent::How::kCaptured ? "disk {} offset {} length {}"
                                                                  : "disk {} offset {} length {}: not captured",
                piece.disk, piece.offset_bytes, piece.length_bytes);
    oracle_.log(std::move(piece));
  } while (done < model.length_bytes);
}

void SourceHost::complete_later(std::uint64_t id, const InFlight& write) {
  wake_agent(world_.below(200) * kMicrosecond);
  in_flight_.emplace(id, write);
  const std::uint64_t delay_us = world_.per_mille(15) ? world_.below(1'500'000)
                                 : world_.chance(20)  ? world_.below(40'000)
                                                      : world_.below(2'000);
  if (world_.chance(30)) {
    // The disk has it before it says so.
    world_.scheduler.after(world_.below(delay_us + 1) * kMicrosecond, [this, id, boot = boots_] {
      if (boot == boots_ && in_flight_.contains(id)) capture_->apply(id);
    });
  }
  world_.scheduler.after(delay_us * kMicrosecond, [this, id, boot = boots_] {
    if (boot == boots_ && in_flight_.contains(id)) complete(id);
  });
}

void SourceHost::complete(std::uint64_t id) {
  capture_->complete(id);
  in_flight_.erase(id);
}

void SourceHost::request_mark() {
  if (!replicator_) return;
  const std::string name = "mark-" + std::to_string(next_mark_++);
  replicator_->request_mark({name, Consistency::kCrash}, clock_.boot_ns() + world_.below(2 * kSecond),
                            [this, name](const Result<Seq>& result) {
                              if (result.ok()) oracle_.mark_done(*result, name);
                            });
}

}  // namespace understudy::sim
