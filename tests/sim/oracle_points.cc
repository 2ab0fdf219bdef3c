// SPDX-License-Identifier: Apache-2.0
// What is read back: the store as a power cut would leave it, its points, and bytes that flipped on its disk.
#include <algorithm>
#include <set>

#include "daemon/base/checksum.h"
#include "daemon/store/store_paths.h"
#include "daemon/view/view.h"
#include "tests/sim/oracle.h"

namespace understudy::sim {
namespace {

std::string number(std::uint64_t value) { return std::to_string(value); }
std::string message(const Error& error) { return error.message(); }

void apply_event(const LoggedEvent& event, std::vector<std::vector<std::byte>>& disks) {
  if (event.kind == CaptureKind::kBarrier) return;
  const auto at = disks[event.disk].begin() + static_cast<std::ptrdiff_t>(event.offset_bytes);
  if (event.kind == CaptureKind::kWrite) {
    std::copy(event.data.begin(), event.data.end(), at);
  } else {
    std::fill(at, at + static_cast<std::ptrdiff_t>(event.length_bytes), std::byte{0});
  }
}

}  // namespace

StoreOptions Oracle::options(MemoryFileSystem& disk) const {
  StoreOptions options;
  options.directory = "/stores/web-1";
  options.segment_bytes_max = segment_bytes_;
  options.file_system = &disk;
  return options;
}

// Null = there is no store yet.
std::unique_ptr<Store> Oracle::open(MemoryFileSystem& disk, bool damage_allowed) {
  auto store = Store::open(options(disk), OpenMode::kReadOnly, [&](const Damage& damage) {
    REQUIRE(damage.torn_tail || damage_allowed, "I7", "damage that nothing made: " + damage.reason);
  });
  if (!store.ok() && store.error().kind() == ErrorKind::kNotFound) {
    REQUIRE(promised_ == 0, "I5", "the store is gone");
    return nullptr;
  }
  REQUIRE(store.ok(), "I5", store.ok() ? "" : "the store cannot be opened: " + message(store.error()));
  return std::move(store).value();
}

void Oracle::promised(Seq seq, MemoryFileSystem& disk) {
  promised_ = std::max(promised_, seq);
  if (world_.chance(6)) inspect(disk);
}

void Oracle::restarted(MemoryFileSystem& disk) { inspect(disk); }

void Oracle::store_went_back() {
  promised_ = 0;
  marks_promised_.clear();
  start_over();
}

void Oracle::start_over() {
  seq_ = 0;
  at_.reset();
  gap_open_ = true;
  gap_seen_ = false;
  healed_once_ = false;
  next_event_ = 0;
  preflush_seen_ = fua_due_ = false;
  time_ns_ = 0;
  gaps_.clear();
  points_.clear();
  hashes_.clear();
  marks_.clear();
}

void Oracle::inspect(MemoryFileSystem& disk) {
  const std::unique_ptr<MemoryFileSystem> left = disk.after_power_cut();
  const std::unique_ptr<Store> store = open(*left, false);
  if (store == nullptr) return;
  const Seq durable = store->position().seq;
  REQUIRE(durable >= promised_, "I5",
          "seq " + number(promised_) + " was promised, a power cut now leaves " + number(durable));
  const std::shared_ptr<const JournalSnapshot> snapshot = store->snapshot();
  // What was seen last may have been merged since.
  auto begun = seq_ != 0 ? JournalReader::from_seq(snapshot, seq_) : JournalReader(snapshot);
  REQUIRE(begun.ok(), "I7", begun.ok() ? "" : message(begun.error()));
  JournalReader& reader = *begun;
  for (Seq known_seq = 0; known_seq < seq_;) {
    const auto known = reader.next();
    REQUIRE(known.ok() && *known, "I5", "a durable batch has gone");
    known_seq = (*known)->batch.info().last_seq();
    REQUIRE(known_seq <= seq_, "I5", "a durable batch has changed");
  }
  const std::uint64_t heals_before = heals_checked_;
  while (true) {
    auto entry = reader.next();
    REQUIRE(entry.ok(), "I7", entry.ok() ? "" : message(entry.error()));
    if (!*entry) break;
    REQUIRE((*entry)->batch.info().first_seq == seq_ + 1, "I1", "seq " + number(seq_ + 1) + " is missing");
    check_batch((*entry)->batch);
  }
  REQUIRE(seq_ == durable, "I5", "the journal ends at " + number(seq_) + " and says " + number(durable));
  if (!points_.empty() && !gap_open_ && (heals_before != heals_checked_ || world_.chance(30))) {
    check_point(*store, points_.back());
  }
}

const std::vector<std::vector<std::byte>>& Oracle::expected_at(const PointKnown& point) {
  Capture& capture = captures_[point.capture];
  if (point.events < capture.applied) {
    capture.expected = capture.before;
    capture.applied = 0;
  }
  for (; capture.applied < point.events; ++capture.applied) apply_event(capture.log[capture.applied], capture.expected);
  return capture.expected;
}

void Oracle::check_point(const Store& store, const PointKnown& point) {
  ++points_checked_;
  auto view = PointInTimeView::open(store, Point{point.seq, 0, false});
  REQUIRE(view.ok(), "I6", view.ok() ? "" : "point " + number(point.seq) + ": " + message(view.error()));
  const std::vector<std::vector<std::byte>>& expected = expected_at(point);
  REQUIRE((*view)->disks().size() == expected.size(), "I6", "a point with other disks");
  for (std::uint16_t disk = 0; disk < expected.size(); ++disk) {
    std::vector<std::byte> got(expected[disk].size());
    const Status status = (*view)->read(disk, 0, got);
    REQUIRE(status.ok(), "I7", status.ok() ? "" : "point " + number(point.seq) + ": " + message(status.error()));
    if (got == expected[disk]) continue;
    const auto differs = std::mismatch(got.begin(), got.end(), expected[disk].begin()).first - got.begin();
    throw Broken("I2: point " + number(point.seq) + " is not its prefix of " + number(point.events) + " events: disk " +
                 number(disk) + " differs in sector " + number(static_cast<std::uint64_t>(differs) / 512));
  }
}

// What an operator may choose is exactly what lies outside the gaps.
void Oracle::check_offers(const Store& store) {
  const auto timeline = read_timeline(store);
  REQUIRE(timeline.ok(), "I6", timeline.ok() ? "" : message(timeline.error()));
  REQUIRE(timeline->last_seq == seq_, "I6", "the timeline ends elsewhere");
  REQUIRE(timeline->gaps.size() == gaps_.size(), "I6",
          "the timeline has " + number(timeline->gaps.size()) + " gaps instead of " + number(gaps_.size()));
  for (std::size_t i = 0; i < gaps_.size(); ++i) {
    REQUIRE(timeline->gaps[i].first_seq == gaps_[i].first && timeline->gaps[i].last_seq == gaps_[i].second, "I6",
            "gap " + number(i) + " of the timeline is another");
  }
  for (int i = 0; i < 24; ++i) {
    const Seq seq = 1 + world_.below(seq_);
    const bool in_gap =
        gaps_.empty() || seq < gaps_.front().second || std::any_of(gaps_.begin(), gaps_.end(), [seq](const auto& gap) {
          return seq >= gap.first && (gap.second == 0 || seq < gap.second);
        });
    const auto point = resolve_point(*timeline, "seq:" + number(seq));
    REQUIRE(point.ok() != in_gap, "I6", "seq " + number(seq) + (in_gap ? " is offered inside a gap" : " is refused"));
  }
  const auto latest = resolve_point(*timeline, "latest");
  REQUIRE(latest.ok(), "I6", latest.ok() ? "" : message(latest.error()));
  REQUIRE(latest->seq >= gaps_.back().second, "I6", "the latest point lies in a gap");
  for (const auto& [seq, name] : marks_promised_) {
    const auto found = marks_.find(seq);
    REQUIRE(found != marks_.end() && found->second == name, "I5", "mark '" + name + "' is not at seq " + number(seq));
  }
}

void Oracle::final_inspection(MemoryFileSystem& disk, const std::vector<std::vector<std::byte>>& disks) {
  inspect(disk);
  REQUIRE(!gap_open_, "end", "the stream has an open gap");
  const std::unique_ptr<Store> store = open(disk, false);
  const std::vector<std::uint64_t> hashes = hashes_;
  check_offers(*store);
  const PointKnown last{seq_, at_->capture, next_event_};
  REQUIRE(last.capture + 1 == captures_.size() && last.events == captures_.back().log.size(), "end",
          "the last point lacks the last writes");
  check_point(*store, last);
  REQUIRE(expected_at(last) == disks, "end", "the oracle's disks are not the source's");
  for (int i = 0; i < 3; ++i) check_point(*store, points_[world_.below(points_.size())]);
  const Status scrubbed = store->scrub([](const Damage&) {}, nullptr);
  REQUIRE(scrubbed.ok(), "I7", scrubbed.ok() ? "" : message(scrubbed.error()));
  for (int i = 0; i < 2; ++i) check_flip(disk);
  // What was once durable never changed.
  start_over();
  exact_times_ = false;
  inspect(disk);
  REQUIRE(hashes == hashes_, "I5", "the journal is not the one that was seen before");
}

// A bit flips on the store's disk: it is found by name, and no view ever shows it.
void Oracle::check_flip(MemoryFileSystem& disk) {
  const std::unique_ptr<MemoryFileSystem> damaged = disk.clone();
  std::vector<std::string> paths = damaged->paths();
  // Files that a run has replaced, and unfinished ones, are nobody's any more.
  std::set<std::string> used;
  {
    const std::unique_ptr<Store> store = open(*damaged, false);
    const std::shared_ptr<const JournalSnapshot> snapshot = store->snapshot();
    for (const JournalSegment& segment : snapshot->segments()) {
      used.insert(segment.name);
      if (!segment.is_run()) used.insert(index_name(segment.info.first_seq));
    }
  }
  std::erase_if(paths, [&](const std::string& path) {
    const bool of_journal = path.find("/journal/") != std::string::npos || path.find("/runs/") != std::string::npos;
    return path.ends_with("/lock") || damaged->content(path).empty() ||
           (of_journal && !used.contains(path.substr(path.rfind('/') + 1)));
  });
  const std::string& path = paths[world_.below(paths.size())];
  std::vector<std::byte>& content = damaged->content(path);
  const std::uint64_t bit = world_.below(content.size() * 8);
  content[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  bool found = false;
  const auto opened = Store::open(options(*damaged), OpenMode::kReadOnly, [&](const Damage&) { found = true; });
  if (!opened.ok()) return;  // named by the error
  const Status scrubbed = (*opened)->scrub([&](const Damage&) { found = true; }, nullptr);
  found = found || !scrubbed.ok();
  const bool in_base = path.find("/base/") != std::string::npos;
  // An index is made from the segment beside it, what a power cut left unfinished is nobody's: a scrub need not read
  // either, but nobody must believe or need it.
  const bool derived = path.ends_with(".idx") || path.ends_with(".new");
  REQUIRE(found || in_base || derived, "I7", "bit " + number(bit) + " of '" + path + "' flipped and nobody noticed");
  for (int i = 0; i < 3; ++i) {
    const PointKnown& point = points_[world_.below(points_.size())];
    const auto view = PointInTimeView::open(**opened, Point{point.seq, 0, false});
    REQUIRE(view.ok() || !derived, "I7", "bit " + number(bit) + " of '" + path + "' flipped and no view opens");
    if (!view.ok()) continue;
    const std::vector<std::vector<std::byte>>& expected = expected_at(point);
    for (std::uint16_t slot = 0; slot < expected.size(); ++slot) {
      std::vector<std::byte> got(expected[slot].size());
      const bool read = (*view)->read(slot, 0, got).ok();
      REQUIRE(read || !derived, "I7", "bit " + number(bit) + " of '" + path + "' flipped and a view cannot be read");
      if (!read) continue;
      REQUIRE(got == expected[slot], "I7", "bit " + number(bit) + " of '" + path + "' flipped and was served");
    }
  }
}

}  // namespace understudy::sim
