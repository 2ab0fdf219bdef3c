// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/copier.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/base/check.h"

namespace understudy {
namespace {

// Runs of zeros are looked for in pieces of this size: smaller ones would only make more records.
constexpr std::uint64_t kZeroPieceBytes = 64 << 10;

bool all_zero(std::span<const std::byte> data) {
  // Equal to itself one byte later, and the first byte is zero.
  return !data.empty() && data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

}  // namespace

Copier::Copier(Tracker& tracker, DiskReader& reader, const CopierOptions& options)
    : tracker_(tracker),
      reader_(reader),
      options_(options),
      chunks_(reader.buffer_count()),
      leased_(std::make_shared<std::vector<std::atomic<bool>>>(reader.buffer_count())) {
  for (const TrackedDisk& disk : tracker_.disks()) {
    CHECK_GT(disk.granule_bytes, 0u);
    CHECK_LE(disk.granule_bytes, options_.chunk_bytes_max);
    CHECK_LE(disk.granule_bytes, reader_.buffer_bytes());
    disks_.push_back({.disk = disk,
                      .granules = (disk.size_bytes + disk.granule_bytes - 1) / disk.granule_bytes,
                      .fragile = {},
                      .bad = {}});
  }
}

void Copier::begin() {
  CHECK(state_ == State::kIdle);
  state_ = State::kSettling;
  settle_asked_ = false;
  not_before_ns_ = 0;
  pass_pause_ns_ = options_.pass_pause_ns;
  start_pass();
}

void Copier::abort() {
  if (state_ == State::kIdle) return;
  for (Chunk& chunk : chunks_) {
    // The kernel still writes into the buffers of reads under way; they become free when those end.
    chunk.state = chunk.state == ChunkState::kReading || chunk.state == ChunkState::kGivenUp ? ChunkState::kGivenUp
                                                                                             : ChunkState::kFree;
  }
  state_ = State::kIdle;
  (void)tracker_.set_copy_mode(false);  // only costs the host a little when it stays on; begin() settles anew
}

void Copier::give_up() {
  for (const Chunk& chunk : chunks_) {
    if (chunk.state != ChunkState::kFree && chunk.state != ChunkState::kGivenUp) give_back(chunk.range);
  }
  abort();
}

void Copier::start_pass() {
  pass_disk_ = 0;
  pass_granule_ = 0;
  pass_scanned_ = disks_.empty();
  pass_found_ = false;
  pass_postponed_ = false;
}

void Copier::note_event(const CaptureEvent& event) {
  if (state_ == State::kIdle || event.length_bytes == 0) return;
  const std::uint64_t end = event.offset_bytes + event.length_bytes;
  for (Chunk& chunk : chunks_) {
    if (chunk.state == ChunkState::kFree || chunk.state == ChunkState::kGivenUp) continue;
    if (chunk.range.disk != event.disk || event.position <= chunk.head_before) continue;
    if (event.offset_bytes >= chunk.offset_bytes + chunk.length_bytes || end <= chunk.offset_bytes) continue;
    chunk.captured.add({event.offset_bytes, end});
  }
}

Status Copier::work(std::uint64_t now_ns, bool may_claim,
                    const std::function<void(const GranuleRange&)>& on_claim) {
  reap(now_ns);
  if (state_ == State::kIdle) return ok_status();
  if (state_ == State::kSettling) {
    if (now_ns < not_before_ns_) return ok_status();
    not_before_ns_ = now_ns + options_.pass_pause_ns;
    if (!settle_asked_) RETURN_IF_ERROR(tracker_.set_copy_mode(false));
    settle_asked_ = true;
    ASSIGN_OR_RETURN(const bool settled, tracker_.set_copy_mode(true));
    if (!settled) return ok_status();
    not_before_ns_ = 0;
    state_ = State::kCopying;
  }
  for (std::uint32_t i = 0; i < chunks_.size(); ++i) {
    if (chunks_[i].state == ChunkState::kRetry && now_ns >= chunks_[i].retry_at_ns) submit(i, now_ns);
  }
  if (!may_claim || now_ns < not_before_ns_) return ok_status();
  if (pass_scanned_ && chunks_in_use() == 0 && (pass_found_ || pass_postponed_)) {
    if (!pass_found_) {  // nothing but what must wait: look again later and later
      not_before_ns_ = now_ns + pass_pause_ns_;
      pass_pause_ns_ = std::min(2 * pass_pause_ns_, options_.pass_pause_ns_max);
      start_pass();
      return ok_status();
    }
    pass_pause_ns_ = options_.pass_pause_ns;
    start_pass();
  }
  if (!pass_scanned_) return claim_round(now_ns, on_claim);
  return ok_status();
}

Status Copier::claim_round(std::uint64_t now_ns, const std::function<void(const GranuleRange&)>& on_claim) {
  claimed_now_.clear();
  const std::uint64_t head_before = tracker_.head();
  const std::size_t limit = options_.chunks_max == 0 ? chunks_.size() : options_.chunks_max;
  std::size_t in_use = chunks_in_use();
  for (std::uint32_t i = 0; i < chunks_.size() && in_use < limit && !pass_scanned_; ++i) {
    if (!buffer_free(i)) continue;
    const auto range = claim_next(now_ns);
    if (!range) break;
    const TrackedDisk& disk = disk_state(range->disk).disk;
    Chunk& chunk = chunks_[i];
    chunk.state = ChunkState::kRetry;  // not yet submitted
    chunk.range = *range;
    chunk.offset_bytes = range->first * disk.granule_bytes;
    chunk.length_bytes = std::min(range->count * disk.granule_bytes, disk.size_bytes - chunk.offset_bytes);
    chunk.head_before = head_before;
    chunk.claim = ++claims_;
    chunk.captured.clear();
    chunk.attempts = 0;
    chunk.retry_at_ns = 0;
    claimed_now_.push_back(i);
    ++in_use;
  }
  if (claimed_now_.empty()) return ok_status();

  auto writes = tracker_.in_flight();
  for (const std::uint32_t i : claimed_now_) {
    Chunk& chunk = chunks_[i];
    if (!writes.ok()) {
      give_back(chunk.range);
      chunk.state = ChunkState::kFree;
      continue;
    }
    respect_in_flight(chunk, *writes);
    if (chunk.range.count == 0) {
      chunk.state = ChunkState::kFree;
      continue;
    }
    pass_found_ = true;
    on_claim(chunk.range);
    submit(i, now_ns);
  }
  if (!writes.ok()) return std::move(writes).error();
  return ok_status();
}

// The next dirty run of the pass that may be read now; it is claimed.
std::optional<GranuleRange> Copier::claim_next(std::uint64_t now_ns) {
  while (pass_disk_ < disks_.size()) {
    DiskState& disk = disks_[pass_disk_];
    const std::uint64_t chunk_bytes = std::min<std::uint64_t>(options_.chunk_bytes_max, reader_.buffer_bytes());
    std::optional<GranuleRange> range;
    if (pass_granule_ < disk.granules) {
      range = tracker_.dirty().claim_next(disk.disk.slot, pass_granule_, chunk_bytes / disk.disk.granule_bytes);
    }
    if (!range) {
      ++pass_disk_;
      pass_granule_ = 0;
      continue;
    }
    CHECK_GT(range->count, 0u);
    CHECK_LE(range->first + range->count, disk.granules);
    range = trim_claim(disk, *range, now_ns);
    if (range) return range;
  }
  pass_scanned_ = true;
  return std::nullopt;
}

// Cuts a claimed run to what may be read in one go and moves the pass behind it; nullopt = nothing of its beginning.
std::optional<GranuleRange> Copier::trim_claim(DiskState& disk, GranuleRange range, std::uint64_t now_ns) {
  if (!disk.bad.empty() && now_ns >= disk.bad_retry_at_ns) disk.bad.clear();
  const Interval claimed{range.first, range.first + range.count};
  std::uint64_t end = claimed.end;
  if (const auto bad = disk.bad.first_overlap(claimed)) {
    pass_postponed_ = true;
    if (bad->begin <= claimed.begin) {
      give_back(range);
      pass_granule_ = std::min(bad->end, disk.granules);
      return std::nullopt;
    }
    end = bad->begin;
  }
  if (const auto fragile = disk.fragile.first_overlap({claimed.begin, end})) {
    end = fragile->begin <= claimed.begin ? claimed.begin + 1 : fragile->begin;
  }
  if (end < claimed.end) give_back({range.disk, end, claimed.end - end});
  pass_granule_ = end;
  return GranuleRange{range.disk, claimed.begin, end - claimed.begin};
}

// Step 2 of the algorithm. Granules that cannot be read now go back; what is left of the chunk is one run.
void Copier::respect_in_flight(Chunk& chunk, const std::vector<InFlightWrite>& writes) {
  const std::uint64_t granule_bytes = disk_state(chunk.range.disk).disk.granule_bytes;
  const std::uint64_t end_bytes = chunk.offset_bytes + chunk.length_bytes;
  IntervalSet lost;
  for (const InFlightWrite& write : writes) {
    const std::uint64_t write_end = write.offset_bytes + write.length_bytes;
    if (write.disk != chunk.range.disk || write.offset_bytes >= end_bytes || write_end <= chunk.offset_bytes) continue;
    if (write.lost) {
      lost.add({write.offset_bytes / granule_bytes, (write_end + granule_bytes - 1) / granule_bytes});
    } else {
      chunk.captured.add({write.offset_bytes, write_end});
    }
  }
  const Interval all{chunk.range.first, chunk.range.first + chunk.range.count};
  if (!lost.overlaps(all)) return;
  pass_postponed_ = true;
  Interval keep{all.begin, all.begin};
  lost.for_each_gap(all, [&](Interval part) {
    if (part.end - part.begin > keep.end - keep.begin) keep = part;
  });
  if (keep.begin > all.begin) give_back({chunk.range.disk, all.begin, keep.begin - all.begin});
  if (keep.end < all.end) give_back({chunk.range.disk, keep.end, all.end - keep.end});
  chunk.range.first = keep.begin;
  chunk.range.count = keep.end - keep.begin;
  chunk.offset_bytes = keep.begin * granule_bytes;
  chunk.length_bytes = std::min(end_bytes, keep.end * granule_bytes) - chunk.offset_bytes;
}

void Copier::submit(std::uint32_t index, std::uint64_t now_ns) {
  Chunk& chunk = chunks_[index];
  chunk.state = ChunkState::kReading;
  ++chunk.attempts;
  const Status status = reader_.submit(chunk.range.disk, chunk.offset_bytes,
                                       static_cast<std::uint32_t>(chunk.length_bytes), index, index);
  if (status.ok()) return;
  const int error_number = status.error().error_number();
  read_failed(chunk, error_number != 0 ? error_number : EIO, now_ns);
}

void Copier::reap(std::uint64_t now_ns) {
  while (auto completion = reader_.reap()) {
    CHECK_LT(completion->tag, chunks_.size());
    Chunk& chunk = chunks_[completion->tag];
    if (chunk.state == ChunkState::kGivenUp) {
      chunk.state = ChunkState::kFree;
    } else {
      CHECK(chunk.state == ChunkState::kReading);
      read_finished(chunk, *completion, now_ns);
    }
  }
}

void Copier::read_finished(Chunk& chunk, const ReadCompletion& completion, std::uint64_t now_ns) {
  if (completion.error_number != 0 || completion.bytes_read != chunk.length_bytes) {
    read_failed(chunk, completion.error_number, now_ns);
    return;
  }
  chunk.state = ChunkState::kRead;
  chunk.head_after = tracker_.head();
  chunk.read_ns = now_ns;
  DiskState& disk = disk_state(chunk.range.disk);
  if (!disk.fragile.empty()) disk.fragile.remove({chunk.range.first, chunk.range.first + chunk.range.count});
}

void Copier::read_failed(Chunk& chunk, int error_number, std::uint64_t now_ns) {
  if (chunk.attempts < options_.read_attempts_max) {
    chunk.state = ChunkState::kRetry;
    chunk.retry_at_ns = now_ns + options_.retry_ns;
    return;
  }
  DiskState& disk = disk_state(chunk.range.disk);
  const Interval granules{chunk.range.first, chunk.range.first + chunk.range.count};
  if (chunk.range.count > 1) {
    disk.fragile.add(granules);
  } else {
    disk.bad.add(granules);
    disk.bad_retry_at_ns = now_ns + options_.bad_retry_ns;
    failures_.push_back({chunk.range.disk, chunk.offset_bytes, chunk.length_bytes, error_number});
  }
  pass_postponed_ = true;
  give_back(chunk.range);
  chunk.state = ChunkState::kFree;
}

std::optional<CopyChunk> Copier::take_ready(std::uint64_t stream_position) {
  const auto index = oldest_ready(stream_position);
  if (!index) return std::nullopt;
  Chunk& chunk = chunks_[*index];
  CopyChunk out;
  out.range = chunk.range;
  out.read_ns = chunk.read_ns;
  make_fragments(chunk, *index, out);
  chunk.state = ChunkState::kFree;
  return out;
}

std::optional<std::uint32_t> Copier::oldest_ready(std::uint64_t stream_position) const {
  std::optional<std::uint32_t> oldest;
  for (std::uint32_t i = 0; i < chunks_.size(); ++i) {
    const Chunk& chunk = chunks_[i];
    if (chunk.state != ChunkState::kRead || chunk.head_after > stream_position) continue;
    if (!oldest || chunk.claim < chunks_[*oldest].claim) oldest = i;
  }
  return oldest;
}

void Copier::make_fragments(const Chunk& chunk, std::uint32_t index, CopyChunk& out) {
  const auto data = std::span<const std::byte>(reader_.buffer(index)).first(chunk.length_bytes);
  bool any_data = false;
  const auto append = [&](std::uint64_t begin, std::uint64_t end, bool zeros) {
    if (!out.fragments.empty()) {
      CopyFragment& last = out.fragments.back();
      if (last.zeros == zeros && last.offset_bytes + last.length_bytes == begin) {
        last.length_bytes += end - begin;
        if (!zeros) last.data = data.subspan(last.offset_bytes - chunk.offset_bytes, last.length_bytes);
        return;
      }
    }
    CopyFragment fragment{chunk.range.disk, begin, end - begin, zeros, {}};
    if (!zeros) fragment.data = data.subspan(begin - chunk.offset_bytes, end - begin);
    any_data |= !zeros;
    out.fragments.push_back(fragment);
  };
  chunk.captured.for_each_gap({chunk.offset_bytes, chunk.offset_bytes + chunk.length_bytes}, [&](Interval part) {
    for (std::uint64_t at = part.begin; at < part.end;) {
      const std::uint64_t end = std::min(part.end, (at / kZeroPieceBytes + 1) * kZeroPieceBytes);
      append(at, end, all_zero(data.subspan(at - chunk.offset_bytes, end - at)));
      at = end;
    }
  });
  if (!any_data) return;
  (*leased_)[index].store(true, std::memory_order_relaxed);
  out.keepalive = std::shared_ptr<void>(reader_.buffer(index).data(), [leased = leased_, index](void*) {
    (*leased)[index].store(false, std::memory_order_release);
  });
}

bool Copier::pass_found_nothing() const {
  return state_ == State::kCopying && pass_scanned_ && !pass_found_ && !pass_postponed_ && chunks_in_use() == 0;
}

Result<bool> Copier::verify_clean(std::uint64_t now_ns) {
  CHECK(pass_found_nothing());
  ASSIGN_OR_RETURN(const std::vector<InFlightWrite> writes, tracker_.in_flight());
  const bool lost_in_flight =
      std::any_of(writes.begin(), writes.end(), [](const InFlightWrite& write) { return write.lost; });
  bool dirty = false;
  for (const DiskState& disk : disks_) dirty = dirty || tracker_.dirty().dirty_count(disk.disk.slot) > 0;
  if (!lost_in_flight && !dirty) return true;
  start_pass();
  not_before_ns_ = now_ns + options_.pass_pause_ns;
  return false;
}

std::optional<std::uint64_t> Copier::wake_at_ns() const {
  if (state_ == State::kIdle) return std::nullopt;
  std::optional<std::uint64_t> at;
  const auto consider = [&at](std::uint64_t ns) { at = at ? std::min(*at, ns) : ns; };
  for (const Chunk& chunk : chunks_) {
    if (chunk.state == ChunkState::kRetry) consider(chunk.retry_at_ns);
  }
  if (chunks_in_use() == 0 || not_before_ns_ != 0) consider(not_before_ns_);
  return at;
}

std::uint32_t Copier::chunks_in_use() const {
  return static_cast<std::uint32_t>(std::count_if(
      chunks_.begin(), chunks_.end(), [](const Chunk& chunk) { return chunk.state != ChunkState::kFree; }));
}

std::uint64_t Copier::unreadable_bytes() const {
  std::uint64_t bytes = 0;
  for (const DiskState& disk : disks_) bytes += disk.bad.total() * disk.disk.granule_bytes;
  return bytes;
}

std::optional<DiskReadFailure> Copier::take_failure() {
  if (failures_.empty()) return std::nullopt;
  const DiskReadFailure failure = failures_.front();
  failures_.erase(failures_.begin());
  return failure;
}

void Copier::give_back(const GranuleRange& range) { tracker_.dirty().unclaim(range); }

bool Copier::buffer_free(std::uint32_t index) const {
  return chunks_[index].state == ChunkState::kFree && !(*leased_)[index].load(std::memory_order_acquire);
}

Copier::DiskState& Copier::disk_state(std::uint16_t slot) {
  for (DiskState& disk : disks_) {
    if (disk.disk.slot == slot) return disk;
  }
  check_failed("slot of a tracked disk", __FILE__, __LINE__, std::to_string(slot));
}

}  // namespace understudy
