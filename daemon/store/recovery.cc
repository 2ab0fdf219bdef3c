// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/recovery.h"

#include <algorithm>
#include <deque>

#include "daemon/store/store_paths.h"
#include "daemon/store/window_file.h"

namespace understudy {
namespace {

constexpr Seq kNoSeq = ~Seq{0};

struct SegmentFile {
  std::string name;
  Seq first_seq = 0;
  std::unique_ptr<File> file;
  std::uint64_t size_bytes = 0;
  const ManifestRun* run = nullptr;  // null = a segment
};

// Segments that a run stands for may be there still: they do not count.
Result<std::vector<SegmentFile>> list_segments(FileSystem& file_system, const std::string& journal,
                                               const Manifest& manifest) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system.list(journal));
  std::vector<SegmentFile> files;
  for (const ManifestRun& run : manifest.runs)
    files.push_back({run_name(run.first_seq, run.last_seq), run.first_seq, nullptr, 0, &run});
  for (const std::string& name : names) {
    const std::optional<Seq> first_seq = parse_segment_name(name);
    if (first_seq && !is_in_run(manifest, *first_seq)) files.push_back({name, *first_seq, nullptr, 0, nullptr});
  }
  std::sort(files.begin(), files.end(),
            [](const SegmentFile& a, const SegmentFile& b) { return a.first_seq < b.first_seq; });
  return files;
}

// Walks the frames of one segment up to the first that is not intact.
class SegmentScan {
 public:
  SegmentScan(const SegmentFile& file, const SegmentInfo& info) : file_(file), info_(info), state(info.state) {}

  // The same from the tables alone, payloads only of batches that nothing proves to have been durable. false =
  // something is not as it should be: run() says what.
  Result<bool> run_quick(Seq proven_before) {
    proven_seq = proven_before;
    const WindowFile window(*file_.file);
    const JournalSegment segment{file_.name, info_, file_.size_bytes};
    SegmentEntryReader reader(window, segment);
    std::deque<BatchProof> unproven;
    while (!reader.at_end()) {
      Result<JournalEntry> entry = reader.next();
      if (!entry.ok() && entry.error().kind() != ErrorKind::kCorrupt) return std::move(entry).error();
      if (!entry.ok() || !apply_batch(state, entry->batch).ok()) return false;
      proven_seq = std::max(proven_seq, entry->location.frame.durable_seq);
      unproven.push_back({entry->batch.info().last_seq(), entry->location.frame});
      while (!unproven.empty() && unproven.front().last_seq <= proven_seq) unproven.pop_front();
      ++batches;
    }
    for (const BatchProof& batch : unproven) {
      RETURN_IF_ERROR(read_frame_batch(*file_.file, batch.frame, stored_));
      if (!BatchReader::decode(stored_, Verify::kStored).ok()) return false;
    }
    end_bytes = file_.size_bytes;
    return true;
  }

  // ok = ran to the end of the file or stopped at bad bytes (then `reason` is set).
  Status run() {
    std::vector<std::byte> header(info_.frames_offset_bytes);
    ASSIGN_OR_RETURN(const std::size_t got, file_.file->read(0, header));
    CHECK_EQ(got, header.size());
    digest.update(header);
    end_bytes = info_.frames_offset_bytes;
    while (end_bytes < file_.size_bytes) {
      if (Status status = take_frame(); !status.ok()) {
        if (status.error().kind() != ErrorKind::kCorrupt) return status;
        reason = status.error().message();
        return ok_status();
      }
    }
    return ok_status();
  }

  Seq expected_seq() const { return state.position.seq + 1; }

 private:
  Status take_frame() {
    ASSIGN_OR_RETURN(const FrameInfo frame, read_frame_header(*file_.file, info_, end_bytes, file_.size_bytes));
    proven_seq = std::max(proven_seq, frame.durable_seq);
    RETURN_IF_ERROR(read_frame_batch(*file_.file, frame, stored_));
    ASSIGN_OR_RETURN(const BatchReader batch, BatchReader::decode(stored_, Verify::kStored));
    const auto wrong = [](const char* what) { return Error(ErrorKind::kCorrupt, what); };
    if (batch.info().server != info_.server) return wrong("batch is of another server");
    if (batch.info().first_seq != expected_seq() || frame.first_seq != expected_seq() ||
        batch.info().encoded_bytes != frame.batch_bytes)
      return wrong("batch is not the one that follows");
    StreamState next = state;
    RETURN_IF_ERROR(apply_batch(next, batch));
    state = std::move(next);
    ++batches;
    digest.update(encode_frame_header(info_, frame));
    digest.update(stored_);
    end_bytes = frame.end_offset_bytes();
    return ok_status();
  }

  struct BatchProof {
    Seq last_seq = 0;
    FrameInfo frame;
  };
  const SegmentFile& file_;
  const SegmentInfo& info_;
  std::vector<std::byte> stored_;

 public:
  std::uint64_t batches = 0;
  StreamState state;
  Sha256 digest;
  std::uint64_t end_bytes = 0;
  Seq proven_seq = 0;                 // highest durable_seq of any frame
  std::optional<std::string> reason;  // why it stopped before the end of the file
};

class Recovery {
 public:
  Recovery(FileSystem& file_system, const std::string& directory, const Manifest& manifest, OpenMode mode)
      : file_system_(file_system),
        journal_(journal_path(directory)),
        runs_(runs_path(directory)),
        manifest_(manifest),
        mode_(mode) {}

  Result<RecoveredJournal> run() {
    ASSIGN_OR_RETURN(files_, list_segments(file_system_, journal_, manifest_));
    for (std::size_t i = 0; i < files_.size(); ++i) {
      ASSIGN_OR_RETURN(const bool usable, take_header(i));
      if (!usable) break;
    }
    if (!result_.segments.empty()) RETURN_IF_ERROR(scan_last());
    if (result_.damage.empty() && result_.state.position.seq < manifest_.durable_seq)
      add_damage("journal", 0, 0, result_.state.position.seq + 1,
                 "the MANIFEST says that seq " + std::to_string(manifest_.durable_seq) +
                     " was durable, the journal ends at seq " + std::to_string(result_.state.position.seq));
    return std::move(result_);
  }

 private:
  void add_damage(const std::string& object, std::uint64_t offset, std::uint64_t length, Seq first_seq,
                  std::string reason) {
    result_.damage.push_back(Damage{object, offset, length, first_seq, std::move(reason), false});
  }

  // Opens file i and checks its header against the one before it. false = nothing from here on is usable.
  Result<bool> take_header(std::size_t i) {
    SegmentFile& file = files_[i];
    if (file.run != nullptr) return take_run(file);
    const std::string path = journal_ + "/" + file.name;
    ASSIGN_OR_RETURN(file.file, file_system_.open(path, FileMode::kRead));
    ASSIGN_OR_RETURN(file.size_bytes, file.file->size());
    Result<SegmentInfo> info = read_segment_header(*file.file);
    if (!info.ok()) {
      if (info.error().kind() != ErrorKind::kCorrupt)
        return std::move(info).error().with_context("open '" + path + "'");
      return on_bad_header(i, info.error().message());
    }
    if (const std::string reason = mismatch_of(*info, file); !reason.empty()) {
      add_damage(file.name, 0, file.size_bytes, file.first_seq, reason);
      return false;
    }
    if (!result_.segments.empty() && !check_previous(file, *info)) return false;
    result_.segments.push_back(JournalSegment{file.name, std::move(*info), file.size_bytes});
    return true;
  }

  // A run was complete before the MANIFEST named it: whatever is wrong with it is damage.
  Result<bool> take_run(SegmentFile& file) {
    const auto damaged = [&](const std::string& reason) {
      add_damage(file.name, 0, file.run->file_bytes, file.first_seq, reason);
      return false;
    };
    Result<std::unique_ptr<File>> opened = file_system_.open(runs_ + "/" + file.name, FileMode::kRead);
    if (!opened.ok()) {
      if (opened.error().kind() == ErrorKind::kNotFound) return damaged("the MANIFEST names it, but it is not there");
      return std::move(opened).error();
    }
    file.file = std::move(*opened);
    Result<RunInfo> info = read_run_header(*file.file);
    if (!info.ok()) {
      if (info.error().kind() != ErrorKind::kCorrupt)
        return std::move(info).error().with_context("open '" + runs_ + "/" + file.name + "'");
      return damaged(info.error().message());
    }
    if (const std::string reason = mismatch_of(info->segment, file); !reason.empty()) return damaged(reason);
    if (info->last_seq != file.run->last_seq || info->file_bytes != file.run->file_bytes)
      return damaged("it is another one than the MANIFEST says");
    file.size_bytes = info->frames_end_bytes;
    if (!result_.segments.empty() && !check_previous(file, info->segment)) return false;
    JournalSegment segment{file.name, info->segment, info->frames_end_bytes};
    segment.run_digest = file.run->digest;
    segment.run = std::make_shared<const RunInfo>(std::move(*info));
    result_.segments.push_back(std::move(segment));
    return true;
  }

  // A header that was never completed is what a crash while beginning a segment leaves; no frame can follow it.
  Result<bool> on_bad_header(std::size_t i, const std::string& reason) {
    const SegmentFile& file = files_[i];
    SegmentInfo probe;
    probe.server = manifest_.identity.server;
    probe.first_seq = file.first_seq;
    ASSIGN_OR_RETURN(const std::optional<FrameInfo> frame, find_next_frame(*file.file, probe, 0, file.size_bytes));
    if (i + 1 < files_.size() || frame.has_value() || manifest_.durable_seq >= file.first_seq) {
      add_damage(file.name, 0, file.size_bytes, file.first_seq, reason);
    } else {
      result_.torn_tail = Damage{file.name, 0, file.size_bytes, file.first_seq, reason, true};
      result_.torn_file = file.name;
    }
    return false;
  }

  std::string mismatch_of(const SegmentInfo& info, const SegmentFile& file) const {
    if (info.server != manifest_.identity.server)
      return "segment is of another server: " + info.server.to_string() + ", this store is of " +
             manifest_.identity.server.to_string();
    if (info.store != manifest_.store) return "segment is of another store of this server";
    if (info.first_seq != file.first_seq)
      return "segment begins with seq " + std::to_string(info.first_seq) + ", which is not in its name";
    const std::uint64_t wanted = result_.segments.empty() ? 1 : result_.segments.back().last_number() + 1;
    if (info.number != wanted)
      return "segment has number " + std::to_string(info.number) + ", expected " + std::to_string(wanted) +
             ": segments are missing";
    return std::string();
  }

  // The segment before was complete when this one was begun.
  bool check_previous(const SegmentFile& file, const SegmentInfo& info) {
    JournalSegment& previous = result_.segments.back();
    if (previous.is_run()) {
      if (previous.run->last_seq + 1 == info.first_seq && previous.run->last_bytes == info.previous_bytes &&
          previous.run->last_digest == info.previous_digest)
        return true;
      add_damage(file.name, 0, file.size_bytes, file.first_seq,
                 "hash chain is broken: it does not follow run '" + previous.name + "'");
      return false;
    }
    if (previous.end_bytes == info.previous_bytes) return true;
    const std::string reason = "segment is " + std::to_string(previous.end_bytes) + " bytes long, but was " +
                               std::to_string(info.previous_bytes) + " when '" + file.name + "' was begun";
    if (previous.end_bytes > info.previous_bytes) {
      add_damage(previous.name, info.previous_bytes, previous.end_bytes - info.previous_bytes, info.first_seq, reason);
      previous.end_bytes = info.previous_bytes;
      return true;
    }
    add_damage(previous.name, previous.end_bytes, info.previous_bytes - previous.end_bytes, info.first_seq, reason);
    return false;
  }

  Status scan_last() {
    JournalSegment& segment = result_.segments.back();
    const std::size_t index = result_.segments.size() - 1;
    files_[index].size_bytes = segment.end_bytes;
    // A run stands only for segments that others followed.
    if (segment.is_run() && result_.damage.empty())
      add_damage("journal", 0, 0, segment.run->last_seq + 1,
                 "the segment behind run '" + segment.name + "' is missing");
    if (mode_ == OpenMode::kReadOnly || segment.is_run()) {
      SegmentScan quick(files_[index], segment.info);
      ASSIGN_OR_RETURN(const bool good, quick.run_quick(manifest_.durable_seq));
      if (good) {
        result_.state = std::move(quick.state);
        result_.last_batches = quick.batches;
        return ok_status();
      }
    }
    SegmentScan scan(files_[index], segment.info);
    if (Status status = scan.run(); !status.ok())
      return std::move(status).error().with_context("open '" + journal_ + "/" + segment.name + "' at byte " +
                                                    std::to_string(scan.end_bytes));
    const std::uint64_t size = segment.end_bytes;
    segment.end_bytes = scan.end_bytes;
    result_.state = std::move(scan.state);
    result_.digest = std::move(scan.digest);
    result_.last_batches = scan.batches;
    if (!scan.reason) return ok_status();
    const Seq lost_seq = result_.state.position.seq + 1;
    const bool last_file = index + 1 == files_.size() || result_.torn_file.has_value();
    ASSIGN_OR_RETURN(const Seq proven,
                     last_file ? proof_behind(*files_[index].file, segment.info, scan, size) : Result<Seq>(kNoSeq));
    Damage damage{segment.name, scan.end_bytes, size - scan.end_bytes, lost_seq, *scan.reason, lost_seq > proven};
    if (damage.torn_tail && !result_.torn_file) {
      result_.torn_tail = std::move(damage);
    } else {
      // A next segment was begun, so this one had been synced as a whole.
      damage.torn_tail = false;
      result_.torn_tail.reset();
      result_.torn_file.reset();
      result_.damage.push_back(std::move(damage));
    }
    return ok_status();
  }

  // The highest seq that is proven to have been durable, looking also at intact frames behind the bad bytes.
  Result<Seq> proof_behind(const File& file, const SegmentInfo& info, const SegmentScan& scan, std::uint64_t size) {
    Seq proven = std::max(manifest_.durable_seq, scan.proven_seq);
    std::uint64_t at = scan.end_bytes;
    while (true) {
      ASSIGN_OR_RETURN(const std::optional<FrameInfo> frame, find_next_frame(file, info, at, size));
      if (!frame) return proven;
      proven = std::max(proven, frame->durable_seq);
      at = frame->offset_bytes + 8;
    }
  }

  FileSystem& file_system_;
  const std::string journal_;
  const std::string runs_;
  const Manifest& manifest_;
  const OpenMode mode_;
  std::vector<SegmentFile> files_;
  RecoveredJournal result_;
};

}  // namespace

Result<RecoveredJournal> recover_journal(FileSystem& file_system, const std::string& store_directory,
                                         const Manifest& manifest, OpenMode mode) {
  return Recovery(file_system, store_directory, manifest, mode).run();
}

}  // namespace understudy
