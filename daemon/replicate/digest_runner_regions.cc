// SPDX-License-Identifier: Apache-2.0
// Which region comes next, what is asked about it, and what becomes of the answer.
#include <algorithm>
#include <utility>

#include "daemon/base/check.h"
#include "daemon/replicate/digest_runner.h"

namespace understudy {
namespace {

constexpr std::uint64_t kFrameOverheadBytes = 16 + 22;  // frame header; record header and tag of TLS
// Differences that wait to be looked at again; further ones are found by the next round.
constexpr std::size_t kRechecksMax = 64;
// A chunk that is written all the time is left to the next round.
constexpr unsigned kRechecksOfChunkMax = 8;
// A small disk is gone through more often than wanted rather than slower.
constexpr std::uint64_t kScrubBytesPerSecondMin = 64u << 10;

std::uint64_t chunk_bit(unsigned chunk) { return std::uint64_t{1} << chunk; }

std::uint64_t all_chunks(std::uint64_t region_bytes) {
  const unsigned chunks = digest_chunk_count(region_bytes);
  return chunks == 64 ? ~std::uint64_t{0} : chunk_bit(chunks) - 1;
}

template <typename Message>
std::uint64_t wire_bytes_of(const Message& message) {
  std::uint64_t bytes = kFrameOverheadBytes + message.digests.size() * sizeof(Digest);
  if constexpr (std::is_same_v<Message, DigestAnswer>) return bytes + 24 + 2 * message.different.size();
  return bytes + 48;
}

}  // namespace

bool DigestRunner::open_region(const std::function<void(const GranuleRange&)>& on_claim) {
  if (active_.size() >= options_.regions_max) return false;
  if (mode_ == Mode::kClearing) return open_clear_region(on_claim);
  return open_recheck() || open_scrub_region();
}

bool DigestRunner::open_scrub_region() {
  if (now_ns_ < next_region_ns_ || disk_index_ >= disks_.size()) return false;
  const TrackedDisk& disk = disks_[disk_index_];
  const std::uint64_t bytes = std::min(options_.scrub_region_bytes, disk.size_bytes - offset_bytes_);
  active_.push_back(std::make_unique<Active>(
      Active{next_token_++, DigestRegion(disk.slot, offset_bytes_, bytes, all_chunks(bytes)), {}, false, 0, 0}));
  offset_bytes_ += bytes;
  if (offset_bytes_ >= disk.size_bytes) {
    ++disk_index_;
    offset_bytes_ = 0;
  }
  const double seconds = static_cast<double>(bytes) / static_cast<double>(scrub_bytes_per_second());
  next_region_ns_ = now_ns_ + static_cast<std::uint64_t>(seconds * 1e9);
  return true;
}

// So that a round takes a period, but never faster than allowed.
std::uint64_t DigestRunner::scrub_bytes_per_second() const {
  const double seconds = static_cast<double>(options_.scrub_period_ns) / 1e9;
  const auto needed = static_cast<std::uint64_t>(static_cast<double>(progress_.total_bytes) / seconds);
  return std::min(options_.scrub_bytes_per_second, std::max(needed, kScrubBytesPerSecondMin));
}

bool DigestRunner::open_recheck() {
  if (rechecks_.empty() || now_ns_ < rechecks_.front().at_ns) return false;
  if (!copy_mode_) {
    const auto settled = tracker_.set_copy_mode(true);
    copy_mode_ = settled.ok() && *settled;
    if (!copy_mode_) {
      (void)tracker_.set_copy_mode(false);
      rechecks_.front().at_ns = now_ns_ + options_.recheck_pause_ns;
      return false;
    }
  }
  const Recheck recheck = rechecks_.front();
  rechecks_.pop_front();
  active_.push_back(std::make_unique<Active>(
      Active{next_token_++, DigestRegion(recheck.disk, recheck.offset_bytes, recheck.length_bytes, recheck.chunks), {},
             true, recheck.rechecks + 1, 0}));
  return true;
}

void DigestRunner::compare_soon(std::uint16_t slot, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  const auto disk = std::find_if(disks_.begin(), disks_.end(), [&](const TrackedDisk& d) { return d.slot == slot; });
  if (disk == disks_.end() || offset_bytes >= disk->size_bytes) return;
  const std::uint64_t end = offset_bytes + std::min(length_bytes, disk->size_bytes - offset_bytes);
  for (std::uint64_t at = offset_bytes / kDigestChunkBytes * kDigestChunkBytes; at < end;) {
    const std::uint64_t chunks = (end - at + kDigestChunkBytes - 1) / kDigestChunkBytes * kDigestChunkBytes;
    const std::uint64_t bytes = std::min({chunks, kDigestRegionBytes, disk->size_bytes - at});
    const bool known = std::any_of(rechecks_.begin(), rechecks_.end(), [&](const Recheck& recheck) {
      return recheck.disk == slot && recheck.offset_bytes == at && recheck.length_bytes == bytes;
    });
    if (rechecks_.size() >= kRechecksMax) return;
    if (!known) rechecks_.push_back({slot, at, bytes, all_chunks(bytes), now_ns_, 0});
    at += bytes;
  }
}

// Claims what is dirty in the next region that has anything dirty.
bool DigestRunner::open_clear_region(const std::function<void(const GranuleRange&)>& on_claim) {
  if (!may_claim_) return false;
  for (; disk_index_ < disks_.size(); ++disk_index_, offset_bytes_ = 0) {
    const TrackedDisk& disk = disks_[disk_index_];
    const std::uint64_t granule = disk.granule_bytes;
    std::vector<GranuleRange> claims;
    std::uint64_t region_begin = 0;
    std::uint64_t region_end = disk.size_bytes;
    std::uint64_t wanted = 0;
    for (std::uint64_t at = offset_bytes_; at < region_end;) {
      auto range = tracker_.dirty().claim_next(disk.slot, at / granule, kDigestRegionBytes / granule);
      if (!range) break;
      const std::uint64_t begin = range->first * granule;
      if (claims.empty()) {
        region_begin = begin / kDigestRegionBytes * kDigestRegionBytes;
        region_end = std::min(region_begin + kDigestRegionBytes, disk.size_bytes);
      }
      const std::uint64_t end_granule = (region_end + granule - 1) / granule;
      const std::uint64_t keep_end = std::min(range->first + range->count, end_granule);
      const std::uint64_t cut = std::max(range->first, keep_end);
      if (cut < range->first + range->count) {
        tracker_.dirty().unclaim({disk.slot, cut, range->first + range->count - cut});
      }
      if (range->first >= end_granule) break;
      range->count = keep_end - range->first;
      on_claim(*range);
      claims.push_back(*range);
      at = keep_end * granule;
      for (std::uint64_t chunk = (begin - region_begin) / kDigestChunkBytes;
           region_begin + chunk * kDigestChunkBytes < std::min(at, region_end); ++chunk) {
        wanted |= chunk_bit(static_cast<unsigned>(chunk));
      }
    }
    if (claims.empty()) continue;
    active_.push_back(std::make_unique<Active>(Active{
        next_token_++, DigestRegion(disk.slot, region_begin, region_end - region_begin, wanted), claims, false, 0, 0}));
    offset_bytes_ = region_end;
    return true;
  }
  return false;
}

bool DigestRunner::question_due(std::uint64_t stream_position) const {
  return std::any_of(active_.begin(), active_.end(), [&](const auto& active) {
    return !active->region.asked() && active->region.complete(stream_position);
  });
}

std::optional<DigestQuestion> DigestRunner::take_question(std::uint64_t stream_position, Seq seq,
                                                          std::uint64_t wall_ns) {
  for (std::size_t i = 0; i < active_.size(); ++i) {
    Active& active = *active_[i];
    if (active.region.asked() || !active.region.complete(stream_position)) continue;
    active.asked_wall_ns = wall_ns;
    if (auto question = active.region.ask_region(active.token, seq)) {
      wire_bytes_ += wire_bytes_of(*question);
      return question;
    }
    finish(active.token);  // nothing in it could be read
    --i;
  }
  return std::nullopt;
}

std::optional<DigestQuestion> DigestRunner::take_answer(const DigestAnswer& answer) {
  wire_bytes_ += wire_bytes_of(answer);
  Active* active = find(answer.token);
  if (active == nullptr || !active->region.asked()) return std::nullopt;  // of a scan that was given up
  if (auto question = active->region.take_answer(answer)) {
    wire_bytes_ += wire_bytes_of(*question);
    return question;
  }
  finish(active->token);
  return std::nullopt;
}

void DigestRunner::finish(std::uint64_t token) {
  const auto place = std::find_if(active_.begin(), active_.end(), [&](const auto& one) { return one->token == token; });
  CHECK(place != active_.end());
  const std::unique_ptr<Active> active = std::move(*place);
  active_.erase(place);
  const DigestRegion& region = active->region;
  for (unsigned i = 0; i < digest_chunk_count(region.length_bytes()); ++i) {
    const std::uint64_t bytes = region.chunk_bytes(i);
    if ((region.equal_chunks() & chunk_bit(i)) != 0) {
      proofs_.note_equal(region.disk(), region.chunk_offset_bytes(i), bytes, active->asked_wall_ns);
      progress_.equal_bytes += bytes;
    } else if ((region.different_chunks() & chunk_bit(i)) != 0) {
      for (unsigned leaf = 0; leaf * kDigestLeafBytes < bytes; ++leaf) {
        const std::uint64_t offset = region.chunk_offset_bytes(i) + leaf * kDigestLeafBytes;
        const std::uint64_t leaf_bytes = std::min(kDigestLeafBytes, bytes - leaf * kDigestLeafBytes);
        if ((region.different_leaves(i) >> leaf & 1) == 0) {
          proofs_.note_leaf_equal(region.disk(), offset);
          progress_.equal_bytes += leaf_bytes;
        } else if (proofs_.is_left_out(region.disk(), offset)) {
          progress_.left_out_bytes += leaf_bytes;
        } else {
          progress_.different_bytes += leaf_bytes;
        }
      }
      if (unexplained_leaves(region, i) == 0) {
        proofs_.note_rest_equal(region.disk(), region.chunk_offset_bytes(i), active->asked_wall_ns);
      }
    } else if ((region.undecided_chunks() & chunk_bit(i)) != 0) {
      progress_.undecided_bytes += bytes;
    }
  }
  if (mode_ == Mode::kClearing) {
    finish_claims(*active);
  } else {
    finish_scrub(*active);
  }
}

bool DigestRunner::granule_is_equal(const DigestRegion& region, std::uint64_t begin_bytes,
                                    std::uint64_t end_bytes) const {
  for (std::uint64_t at = begin_bytes; at < end_bytes; at = (at / kDigestLeafBytes + 1) * kDigestLeafBytes) {
    const std::uint64_t inside = at - region.offset_bytes();
    const auto chunk = static_cast<unsigned>(inside / kDigestChunkBytes);
    if ((region.equal_chunks() & chunk_bit(chunk)) != 0) continue;
    if ((region.different_chunks() & chunk_bit(chunk)) == 0) return false;
    const auto leaf = inside % kDigestChunkBytes / kDigestLeafBytes;
    if ((region.different_leaves(chunk) >> leaf & 1) != 0) return false;
  }
  return true;
}

// CLAIMED -> CLEAN where equal, back to DIRTY elsewhere; what was lost meanwhile is DIRTY already and stays so.
void DigestRunner::finish_claims(const Active& active) {
  const DigestRegion& region = active.region;
  const TrackedDisk& disk = tracked(region.disk());
  for (const GranuleRange& claim : active.claims) {
    GranuleRange run{claim.disk, claim.first, 0};
    bool run_equal = false;
    const auto end_run = [&] {
      if (run.count > 0) run_equal ? tracker_.dirty().finish(run) : tracker_.dirty().unclaim(run);
    };
    for (std::uint64_t granule = claim.first; granule < claim.first + claim.count; ++granule) {
      const std::uint64_t begin = granule * disk.granule_bytes;
      const std::uint64_t end = std::min(begin + disk.granule_bytes, disk.size_bytes);
      const bool equal = granule_is_equal(region, begin, end);
      if (equal != run_equal) {
        end_run();
        run = {claim.disk, granule, 0};
        run_equal = equal;
      }
      ++run.count;
    }
    end_run();
  }
}

void DigestRunner::finish_scrub(const Active& active) {
  const DigestRegion& region = active.region;
  if (!active.recheck) {
    std::uint64_t unexplained = 0;
    for (unsigned i = 0; i < digest_chunk_count(region.length_bytes()); ++i) {
      if (unexplained_leaves(region, i) != 0) unexplained |= chunk_bit(i);
    }
    if (unexplained != 0) recheck_later(active, unexplained);
    return;
  }
  if (region.undecided_chunks() != 0) recheck_later(active, region.undecided_chunks());
  for (unsigned i = 0; i < digest_chunk_count(region.length_bytes()); ++i) {
    const std::uint64_t leaves = unexplained_leaves(region, i);
    for (unsigned leaf = 0; leaf < kDigestLeavesPerChunk; ++leaf) {
      if ((leaves >> leaf & 1) == 0) continue;
      const std::uint64_t offset = region.chunk_offset_bytes(i) + leaf * kDigestLeafBytes;
      const std::uint64_t bytes = std::min(kDigestLeafBytes, region.chunk_bytes(i) - leaf * kDigestLeafBytes);
      const std::uint64_t proved_ns = proofs_.proved_at(region.disk(), offset);
      const bool may_be_left_out = proved_ns == 0 && !proofs_.left_out_known();
      if (!findings_.empty() && findings_.back().disk == region.disk() &&
          findings_.back().may_be_left_out == may_be_left_out &&
          findings_.back().offset_bytes + findings_.back().length_bytes == offset) {
        findings_.back().length_bytes += bytes;
      } else {
        findings_.push_back({region.disk(), offset, bytes, proved_ns, may_be_left_out});
      }
    }
  }
}

std::uint64_t DigestRunner::unexplained_leaves(const DigestRegion& region, unsigned chunk) const {
  if ((region.different_chunks() & chunk_bit(chunk)) == 0) return 0;
  std::uint64_t leaves = region.different_leaves(chunk);
  for (unsigned leaf = 0; leaf < kDigestLeavesPerChunk; ++leaf) {
    if (proofs_.is_left_out(region.disk(), region.chunk_offset_bytes(chunk) + leaf * kDigestLeafBytes)) {
      leaves &= ~(std::uint64_t{1} << leaf);
    }
  }
  return leaves;
}

void DigestRunner::recheck_later(const Active& active, std::uint64_t chunks) {
  if (rechecks_.size() >= kRechecksMax || active.rechecks >= kRechecksOfChunkMax) return;
  rechecks_.push_back({active.region.disk(), active.region.offset_bytes(), active.region.length_bytes(), chunks,
                       now_ns_ + options_.recheck_pause_ns, active.rechecks});
}

void DigestRunner::update_done() {
  std::uint64_t done = offset_bytes_;
  for (std::size_t i = 0; i < disk_index_ && i < disks_.size(); ++i) done += disks_[i].size_bytes;
  for (const auto& active : active_) {
    if (!active->recheck) done -= std::min(done, active->region.length_bytes());
  }
  if (began_ns_ != 0) progress_.duration_ns = now_ns_ - began_ns_;
  progress_.done_bytes = std::min(done, progress_.total_bytes);
}

void DigestRunner::end_when_done() {
  update_done();
  const bool recheck_active =
      std::any_of(active_.begin(), active_.end(), [](const auto& active) { return active->recheck; });
  if (rechecks_.empty() && !recheck_active) leave_copy_mode();
  if (mode_ == Mode::kClearing) {
    const std::uint64_t compared = progress_.equal_bytes + progress_.different_bytes;
    if (compared >= options_.worthwhile_after_bytes && progress_.different_bytes > compared / 2) {
      progress_.given_up = true;
      for (const auto& active : active_) {
        for (const GranuleRange& claim : active->claims) tracker_.dirty().unclaim(claim);
      }
      drop_regions();
    }
  }
  const bool more = disk_index_ < disks_.size() || !active_.empty() || (mode_ == Mode::kScrub && !rechecks_.empty());
  if (more && !progress_.given_up) return;
  finished_ = progress_;
  mode_ = Mode::kIdle;
}

std::optional<DigestProgress> DigestRunner::take_finished() { return std::exchange(finished_, std::nullopt); }

std::vector<DigestFinding> DigestRunner::take_findings() { return std::exchange(findings_, {}); }

}  // namespace understudy
