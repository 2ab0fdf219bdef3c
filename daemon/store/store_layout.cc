// SPDX-License-Identifier: Apache-2.0
// Which files make up the store: runs take the place of segments, and what they replaced is removed when nobody needs
// it any more (store_pin.h says why no reader can lose a file).
#include <algorithm>

#include "daemon/store/run_merge.h"
#include "daemon/store/store_impl.h"
#include "daemon/store/store_paths.h"

namespace understudy {

Status StoreImpl::hold_files() {
  std::shared_ptr<const JournalSnapshot> held = snapshot();
  RETURN_IF_ERROR(held->hold_files());
  for (const DiskGeometry& disk : held->position().disks) (void)held->open_base(disk.disk).ok();
  held_ = std::move(held);
  return ok_status();
}

Status StoreImpl::adopt_run(const MergedRun& run) {
  const std::lock_guard manifest_lock(manifest_mutex_);
  RETURN_IF_ERROR(check_writable());
  std::size_t first = 0;
  std::size_t end = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto refuse = [&](const char* why) { return Error(ErrorKind::kRefused, "run '" + run.name + "': " + why); };
    while (first < segments_.size() && segments_[first].info.first_seq != run.info.segment.first_seq) ++first;
    for (end = first; end < segments_.size() && segments_[end].last_number() < run.info.last_number;) ++end;
    if (end + 1 >= segments_.size() || segments_[end].last_number() != run.info.last_number)
      return refuse("what it was made of is not sealed in this store");
    ++end;
    const SegmentInfo& next = segments_[end].info;
    if (segments_[first].info.number != run.info.segment.number || next.first_seq != run.info.last_seq + 1 ||
        next.previous_digest != run.info.last_digest || next.previous_bytes != run.info.last_bytes)
      return refuse("it is not of the history that it would stand for");
  }
  Manifest manifest = manifest_;
  manifest.incompatible_flags |= kManifestHasRuns;
  ++manifest.layout;
  const ManifestRun entry{run.info.segment.first_seq, run.info.last_seq, run.info.file_bytes, run.digest};
  std::erase_if(manifest.runs, [&](const ManifestRun& old) {
    return old.first_seq >= entry.first_seq && old.last_seq <= entry.last_seq;
  });
  manifest.runs.insert(std::upper_bound(manifest.runs.begin(), manifest.runs.end(), entry,
                                        [](const auto& a, const auto& b) { return a.first_seq < b.first_seq; }),
                       entry);
  if (Status status = write_manifest(file_system_, options_.directory, manifest); !status.ok()) {
    // Without room nothing happened. After anything else it is not known which of the two a crash would leave.
    if (status.error().kind() == ErrorKind::kNoSpace) return status;
    return fail(std::move(status).error());
  }
  manifest_.incompatible_flags = manifest.incompatible_flags;
  manifest_.layout = manifest.layout;
  manifest_.runs = std::move(manifest.runs);

  const std::lock_guard lock(mutex_);
  JournalSegment merged;
  merged.name = run.name;
  merged.info = run.info.segment;
  merged.end_bytes = run.info.frames_end_bytes;
  merged.run = std::make_shared<const RunInfo>(run.info);
  merged.run_digest = run.digest;
  journal_bytes_ += merged.file_bytes();
  for (std::size_t i = first; i < end; ++i) journal_bytes_ -= segments_[i].file_bytes();
  const auto at = segments_.begin() + static_cast<std::ptrdiff_t>(first);
  *at = std::move(merged);
  segments_.erase(at + 1, segments_.begin() + static_cast<std::ptrdiff_t>(end));
  layout_ = manifest_.layout;
  return ok_status();
}

// Under manifest_mutex_.
Result<std::vector<StoreImpl::Superseded>> StoreImpl::list_superseded() {
  std::vector<Superseded> files;
  const std::string journal = journal_path(options_.directory);
  ASSIGN_OR_RETURN(const std::vector<std::string> segments, file_system_.list(journal));
  for (const std::string& name : segments) {
    if (name.size() < 20 || !(name.ends_with(".wal") || name.ends_with(".idx") || name.ends_with(".idx.new"))) continue;
    const std::optional<Seq> first_seq = parse_unsigned(std::string_view(name).substr(0, 20));
    if (first_seq && is_in_run(manifest_, *first_seq)) files.push_back({journal + "/" + name, *first_seq});
  }
  const std::string runs = runs_path(options_.directory);
  const Result<std::vector<std::string>> names = file_system_.list(runs);
  if (!names.ok() && names.error().kind() == ErrorKind::kNotFound) return files;  // of a store from before runs
  if (!names.ok()) return names.error();
  for (const std::string& name : *names) {
    if (name.ends_with(".run.new")) files.push_back({runs + "/" + name, ~Seq{0}});  // nobody reads it
    const auto range = parse_run_name(name);
    if (!range) continue;
    const bool named = std::any_of(manifest_.runs.begin(), manifest_.runs.end(), [&](const ManifestRun& run) {
      return run.first_seq == range->first && run.last_seq == range->second;
    });
    if (!named) files.push_back({runs + "/" + name, range->first});
  }
  return files;
}

bool StoreImpl::is_kept(const Superseded& file, std::uint64_t gone_in_layout, const std::vector<PinInfo>& pins) const {
  if (file.first_seq == ~Seq{0}) return false;
  for (const PinInfo& pin : pins)
    if (pin.keeps(file.first_seq, gone_in_layout)) return true;
  const std::lock_guard lock(mutex_);
  for (const std::weak_ptr<const JournalSnapshot>& handed_out : handed_out_) {
    const std::shared_ptr<const JournalSnapshot> snapshot = handed_out.lock();
    if (snapshot != nullptr &&
        PinInfo{snapshot->layout(), snapshot->position().seq}.keeps(file.first_seq, gone_in_layout))
      return true;
  }
  return false;
}

Result<std::size_t> StoreImpl::remove_superseded() {
  const std::lock_guard manifest_lock(manifest_mutex_);
  RETURN_IF_ERROR(check_writable());
  ASSIGN_OR_RETURN(const std::vector<Superseded> files, list_superseded());
  if (files.empty()) return std::size_t{0};
  // Behind the MANIFEST that does not name them, which is durable.
  ASSIGN_OR_RETURN(const std::vector<PinInfo> pins, read_pins(file_system_, options_.directory));
  std::size_t kept = 0;
  std::map<std::string, std::uint64_t> gone;
  for (const Superseded& file : files) {
    // When it went is known of what this process saw going; of the rest only that it is not in the layout of now.
    const auto known = gone_in_layout_.find(file.path);
    const std::uint64_t layout = known != gone_in_layout_.end() ? known->second : manifest_.layout;
    if (is_kept(file, layout, pins)) {
      ++kept;
      gone.emplace(file.path, layout);
    } else if (Status status = file_system_.remove(file.path);
               !status.ok() && status.error().kind() != ErrorKind::kNotFound) {
      return status.error();
    }
  }
  gone_in_layout_ = std::move(gone);
  return kept;
}

}  // namespace understudy
