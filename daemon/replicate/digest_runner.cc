// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/digest_runner.h"

#include <algorithm>
#include <utility>

#include "daemon/base/check.h"

namespace understudy {

std::string_view digest_purpose_name(DigestPurpose purpose) {
  switch (purpose) {
    case DigestPurpose::kRepair: return "repair";
    case DigestPurpose::kAfterCrash: return "after-crash";
    case DigestPurpose::kScrub: return "scrub";
  }
  return "unknown";
}

DigestRunner::DigestRunner(Tracker& tracker, DiskReader* reader, const std::vector<DiskGeometry>& disks,
                           const DigestOptions& options)
    : tracker_(tracker), reader_(reader), options_(options), disks_(tracker.disks()), proofs_(disks) {
  if (reader_ == nullptr) return;
  CHECK_GE(std::uint64_t{reader_->buffer_bytes()}, kDigestChunkBytes);
  buffers_.resize(reader_->buffer_count());
}

void DigestRunner::session_up(bool possible) {
  abort();
  possible_ = possible && reader_ != nullptr && !disks_.empty();
}

void DigestRunner::session_down() {
  abort();
  possible_ = false;
}

void DigestRunner::begin(Mode mode, DigestPurpose purpose) {
  CHECK(mode_ == Mode::kIdle);
  mode_ = mode;
  progress_ = DigestProgress{};
  progress_.purpose = purpose;
  for (const TrackedDisk& disk : disks_) progress_.total_bytes += disk.size_bytes;
  disk_index_ = 0;
  offset_bytes_ = 0;
  began_ns_ = 0;
}

void DigestRunner::begin_scrub() {
  begin(Mode::kScrub, DigestPurpose::kScrub);
  if (!scrub_place_) return;
  disk_index_ = scrub_place_->disk_index;
  offset_bytes_ = scrub_place_->offset_bytes;
  progress_ = scrub_place_->progress;
  scrub_place_.reset();
}

void DigestRunner::begin_clearing(DigestPurpose purpose) {
  if (!possible_) return;
  abort();
  begin(Mode::kClearing, purpose);
}

void DigestRunner::abort() {
  if (mode_ == Mode::kScrub) scrub_place_ = Place{disk_index_, offset_bytes_, progress_};
  drop_regions();
  leave_copy_mode();
  mode_ = Mode::kIdle;
}

void DigestRunner::give_up() {
  if (mode_ == Mode::kClearing) {
    for (const auto& active : active_) {
      for (const GranuleRange& claim : active->claims) tracker_.dirty().unclaim(claim);
    }
  }
  abort();
}

// What a scrub had under way is read again later: it goes back to the first region that is not finished.
void DigestRunner::drop_regions() {
  for (BufferUse& buffer : buffers_) {
    if (buffer.state == BufferUse::State::kReading) buffer.state = BufferUse::State::kGivenUp;
  }
  while (!active_.empty()) {
    const Active& last = *active_.back();
    if (last.recheck) {
      recheck_later(last, last.region.wanted());
    } else if (mode_ == Mode::kScrub) {
      for (std::size_t i = 0; i < disks_.size(); ++i) {
        if (disks_[i].slot == last.region.disk()) scrub_place_->disk_index = i;
      }
      scrub_place_->offset_bytes = last.region.offset_bytes();
    }
    active_.pop_back();
  }
}

void DigestRunner::leave_copy_mode() {
  if (std::exchange(copy_mode_, false)) (void)tracker_.set_copy_mode(false);  // only costs the host a little
}

void DigestRunner::set_scrub(bool enabled, std::uint64_t period_ns, std::uint64_t bytes_per_second_max) {
  options_.scrub_enabled = enabled;
  options_.scrub_period_ns = std::max<std::uint64_t>(period_ns, 1);
  options_.scrub_bytes_per_second = std::max<std::uint64_t>(bytes_per_second_max, 1);
  next_region_ns_ = 0;
}

void DigestRunner::note_event(const CaptureEvent& event) {
  for (const auto& active : active_) {
    active->region.note_event(event.disk, event.offset_bytes, event.length_bytes, event.position);
  }
}

Status DigestRunner::work(const Situation& situation, const std::function<void(const GranuleRange&)>& on_claim) {
  now_ns_ = situation.now_ns;
  may_claim_ = situation.may_claim;
  if (reader_ == nullptr) return ok_status();
  reap();
  if (!possible_) return ok_status();
  const bool may_scrub = situation.whole && options_.scrub_enabled;
  if (mode_ == Mode::kScrub && !may_scrub) {
    // What is under way might be explained by a loss; the Copier, if it runs, has a copy mode of its own.
    if (situation.copier_active) copy_mode_ = false;
    abort();
  }
  if (mode_ == Mode::kIdle && may_scrub) begin_scrub();
  if (mode_ == Mode::kIdle || (mode_ == Mode::kClearing && !situation.copies_settled)) return ok_status();
  RETURN_IF_ERROR(fill(on_claim));
  end_when_done();
  return ok_status();
}

void DigestRunner::reap() {
  while (auto completion = reader_->reap()) {
    BufferUse& buffer = buffers_.at(completion->tag);
    const BufferUse use = std::exchange(buffer, BufferUse{});
    if (use.state != BufferUse::State::kReading) continue;
    Active* active = find(use.token);
    CHECK(active != nullptr);
    const std::uint64_t bytes = active->region.chunk_bytes(use.chunk);
    if (completion->error_number != 0 || completion->bytes_read != bytes) {
      active->region.give_up(use.chunk);
      continue;
    }
    const auto data = std::span<const std::byte>(reader_->buffer(static_cast<std::uint32_t>(completion->tag)));
    // The head first: hashing takes a while, and what is captured meanwhile is after the read.
    const std::uint64_t head_after = tracker_.head();
    active->region.read_finished(use.chunk, data.first(bytes), head_after);
  }
}

std::size_t DigestRunner::free_buffers() const {
  return static_cast<std::size_t>(std::count_if(
      buffers_.begin(), buffers_.end(), [](const BufferUse& use) { return use.state == BufferUse::State::kFree; }));
}

// Half of the buffers at a stroke: to look at what is in flight costs as much as hashing some of them.
Status DigestRunner::fill(const std::function<void(const GranuleRange&)>& on_claim) {
  if (free_buffers() * 2 < buffers_.size()) return ok_status();
  for (std::size_t i = 0; free_buffers() > 0; ++i) {
    if (i == active_.size() && !open_region(on_claim)) return ok_status();
    Active& active = *active_[i];
    if (began_ns_ == 0) began_ns_ = now_ns_;
    if (!active.region.asked() && active.region.next_to_read()) RETURN_IF_ERROR(look_and_read(active));
  }
  return ok_status();
}

Status DigestRunner::look_and_read(Active& active) {
  // A write submitted from here on has an event behind this head, or is lost and makes its claimed granule dirty again;
  // one that was submitted before and has not completed is among those in flight.
  const std::uint64_t head_before = tracker_.head();
  if (mode_ != Mode::kClearing && !active.recheck) {
    read_chunks(active, head_before, nullptr);
    return ok_status();
  }
  ASSIGN_OR_RETURN(const std::vector<InFlightWrite> writes, tracker_.in_flight());
  read_chunks(active, head_before, &writes);
  return ok_status();
}

// `writes`: those in flight, when they matter: a chunk under one of them cannot be told from a different one.
void DigestRunner::read_chunks(Active& active, std::uint64_t head_before, const std::vector<InFlightWrite>* writes) {
  DigestRegion& region = active.region;
  for (std::uint32_t i = 0; i < buffers_.size(); ++i) {
    if (buffers_[i].state != BufferUse::State::kFree) continue;
    std::optional<unsigned> chunk;
    while ((chunk = region.next_to_read())) {
      if (writes == nullptr || respects_in_flight(region, *chunk, *writes)) break;
      region.give_up(*chunk);
    }
    if (!chunk) return;
    region.read_begins(*chunk, head_before);
    buffers_[i] = {BufferUse::State::kReading, active.token, *chunk};
    const Status status = reader_->submit(region.disk(), region.chunk_offset_bytes(*chunk),
                                          static_cast<std::uint32_t>(region.chunk_bytes(*chunk)), i, i);
    if (status.ok()) continue;
    buffers_[i] = BufferUse{};
    region.give_up(*chunk);
  }
}

bool DigestRunner::respects_in_flight(const DigestRegion& region, unsigned chunk,
                                      const std::vector<InFlightWrite>& writes) const {
  const std::uint64_t begin = region.chunk_offset_bytes(chunk);
  const std::uint64_t end = begin + region.chunk_bytes(chunk);
  return std::none_of(writes.begin(), writes.end(), [&](const InFlightWrite& write) {
    return write.disk == region.disk() && write.offset_bytes < end && write.offset_bytes + write.length_bytes > begin;
  });
}

std::optional<std::uint64_t> DigestRunner::wake_at_ns() const {
  if (mode_ == Mode::kIdle) return std::nullopt;
  std::optional<std::uint64_t> at;
  const auto consider = [&at](std::uint64_t ns) { at = at ? std::min(*at, ns) : ns; };
  if (mode_ == Mode::kScrub && active_.size() < options_.regions_max) consider(next_region_ns_);
  if (mode_ == Mode::kScrub && !rechecks_.empty()) consider(rechecks_.front().at_ns);
  return at;
}

DigestRunner::Active* DigestRunner::find(std::uint64_t token) {
  for (const auto& active : active_) {
    if (active->token == token) return active.get();
  }
  return nullptr;
}

const TrackedDisk& DigestRunner::tracked(std::uint16_t slot) const {
  for (const TrackedDisk& disk : disks_) {
    if (disk.slot == slot) return disk;
  }
  check_failed("slot of a tracked disk", __FILE__, __LINE__, std::to_string(slot));
}

}  // namespace understudy
