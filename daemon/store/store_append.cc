// SPDX-License-Identifier: Apache-2.0
// The writing half of the store: append, commit, segments.
#include "daemon/base/limits.h"
#include "daemon/store/segment_format.h"
#include "daemon/store/store_impl.h"
#include "daemon/store/store_paths.h"

namespace understudy {
namespace {

std::string number(std::uint64_t value) { return std::to_string(value); }

Error refused(std::string message) { return Error(ErrorKind::kRefused, "append: " + std::move(message)); }

// The same batch without the payloads that went to the base.
std::vector<std::byte> encode_without(const BatchReader& batch, const std::vector<bool>& to_base) {
  const BatchInfo& info = batch.info();
  BatchWriter writer;
  writer.start(info.server, info.first_seq, info.epoch, info.generation);
  for (std::size_t i = 0; i < batch.records().size(); ++i) {
    Record record = batch.records()[i];
    if (to_base[i] && !record.payload.empty()) {
      record.flags |= kRecordInBase;
      record.payload = {};
    }
    writer.add(record);
  }
  writer.set_cursor(info.cursor);
  std::vector<std::byte> encoded;
  writer.encode(Compression{}, encoded);
  return encoded;
}

bool any(const std::vector<bool>& flags) {
  for (const bool flag : flags)
    if (flag) return true;
  return false;
}

}  // namespace

Status StoreImpl::check_writable() const {
  const std::lock_guard lock(mutex_);
  if (failure_) return *failure_;
  return ok_status();
}

Error StoreImpl::fail(Error error) {
  const std::lock_guard lock(mutex_);
  if (!failure_)
    failure_ = Error(error.kind(), "the store is read-only until it is opened again, because: " + error.message(),
                     error.error_number());
  return error;
}

Status StoreImpl::check_follows(const BatchInfo& info, std::size_t bytes) const {
  const StreamPosition& last = state_.position;
  if (bytes != info.encoded_bytes)
    return Error(ErrorKind::kCorrupt,
                 "append: got " + number(bytes) + " bytes of a batch of " + number(info.encoded_bytes));
  if (info.server != manifest_.identity.server)
    return refused("the batch is of server " + info.server.to_string() + ", this store is of '" +
                   manifest_.identity.server_name + "' (" + manifest_.identity.server.to_string() + ")");
  if (info.first_seq <= last.seq)
    return refused("the batch begins with seq " + number(info.first_seq) + ", the store already has everything up to " +
                   number(last.seq));
  if (info.first_seq != last.seq + 1)
    return refused("the batch begins with seq " + number(info.first_seq) + ", the store ends at " + number(last.seq) +
                   ": records between are missing");
  if (last.seq == 0) return ok_status();  // the first batch sets epoch, generation and cursor
  if (info.epoch != manifest_.identity.epoch)
    return refused("the batch has epoch " + number(info.epoch) + ", the store has epoch " +
                   number(manifest_.identity.epoch));
  if (info.generation < last.generation)
    return refused("the batch has generation " + number(info.generation) + ", the store is at " +
                   number(last.generation));
  if (info.generation == last.generation) {
    if (info.cursor.capture_id != last.cursor.capture_id)
      return refused("the batch comes from another capture but has the same generation " + number(info.generation));
    if (info.cursor.position < last.cursor.position || info.cursor.loss_count < last.cursor.loss_count)
      return refused("the capture cursor goes back from " + number(last.cursor.position) + " to " +
                     number(info.cursor.position));
  }
  return ok_status();
}

Result<StreamState> StoreImpl::plan_batch(const BatchReader& batch, std::vector<bool>& to_base) const {
  StreamState state = state_;
  to_base.assign(batch.records().size(), false);
  std::map<std::uint16_t, ExtentSet> in_batch;
  Seq seq = batch.info().first_seq;
  for (std::size_t i = 0; i < batch.records().size(); ++i, ++seq) {
    const Record& record = batch.records()[i];
    if ((record.flags & (kRecordInBase | kRecordInRun)) != 0)
      return refused("record " + number(seq) + " says its payload is in the store already");
    const bool initial = record.kind == RecordKind::kCopy && (record.flags & kRecordInitial) != 0;
    if (Status status = apply_record(state, seq, record); !status.ok())
      return std::move(status).error().with_context("append");
    if (!initial || state.position.initial_copy_done) continue;
    const DiskGeometry* disk = state.find_disk(record.disk);
    if (record.offset_bytes + record.length_bytes > disk->size_bytes)
      return refused("record " + number(seq) + " is a copy beyond the end of disk '" + disk->name + "'");
    // What a journaled record says lies in the base is never written again: a second copy of it goes to the journal.
    const auto covered = in_base_.find(record.disk);
    ExtentSet& claimed = in_batch[record.disk];
    to_base[i] = (covered == in_base_.end() || !covered->second.overlaps(record.offset_bytes, record.length_bytes)) &&
                 !claimed.overlaps(record.offset_bytes, record.length_bytes);
    if (to_base[i] && !record.payload.empty()) claimed.add(record.offset_bytes, record.length_bytes);
  }
  for (std::size_t i = 0; i < to_base.size(); ++i)  // a disk that is removed in the same batch has no base any more
    to_base[i] = to_base[i] && state.find_disk(batch.records()[i].disk) != nullptr;
  apply_batch_info(state, batch.info());
  return state;
}

Status StoreImpl::write_base(const BatchReader& batch, const StreamState& after, const std::vector<bool>& to_base) {
  base_changed_ = true;
  for (std::size_t i = 0; i < to_base.size(); ++i) {
    if (!to_base[i]) continue;
    const Record& record = batch.records()[i];
    if (Status status = base_.write(record, *after.find_disk(record.disk)); !status.ok()) {
      if (status.error().kind() == ErrorKind::kNoSpace) return status;  // the retry writes the same bytes again
      return fail(std::move(status).error());
    }
  }
  for (std::size_t i = 0; i < to_base.size(); ++i) {
    const Record& record = batch.records()[i];
    if (to_base[i] && !record.payload.empty()) in_base_[record.disk].add(record.offset_bytes, record.length_bytes);
  }
  return ok_status();
}

void StoreImpl::add_frame(const BatchInfo& info, std::span<const std::byte> batch) {
  FrameInfo frame;
  frame.first_seq = info.first_seq;
  frame.batch_bytes = static_cast<std::uint32_t>(batch.size());
  SegmentInfo binding;
  {
    const std::lock_guard lock(mutex_);
    frame.durable_seq = durable_.seq;
    binding.server = identity_.server;
    binding.first_seq = segments_.back().info.first_seq;
  }
  const std::vector<std::byte> header = encode_frame_header(binding, frame);
  pending_.insert(pending_.end(), header.begin(), header.end());
  pending_.insert(pending_.end(), batch.begin(), batch.end());
  ++segment_batches_;
}

Status StoreImpl::append(std::span<const std::byte> batch) {
  RETURN_IF_ERROR(check_writable());
  ASSIGN_OR_RETURN(const BatchInfo info, BatchReader::peek(batch));
  RETURN_IF_ERROR(check_follows(info, batch.size()));
  ASSIGN_OR_RETURN(const BatchReader decoded, BatchReader::decode(batch, Verify::kRecords));
  std::vector<bool> to_base;
  ASSIGN_OR_RETURN(StreamState after, plan_batch(decoded, to_base));

  // Whatever may run out of space comes before anything is taken in.
  if (pending_.size() + batch.size() > kAppendBufferBytesMax) RETURN_IF_ERROR(write_pending());
  RETURN_IF_ERROR(begin_segment_for(info, batch.size()));
  if (any(to_base)) {
    RETURN_IF_ERROR(write_base(decoded, after, to_base));
    add_frame(info, encode_without(decoded, to_base));
  } else {
    add_frame(info, batch);
  }
  state_ = std::move(after);
  return ok_status();
}

Status StoreImpl::begin_segment_for(const BatchInfo& info, std::size_t batch_bytes) {
  if (file_ != nullptr) {
    const std::uint64_t used = written_bytes_ + pending_.size();
    std::uint64_t frames_offset = 0;
    Seq first_seq = 0;
    {
      const std::lock_guard lock(mutex_);
      frames_offset = segments_.back().info.frames_offset_bytes;
      first_seq = segments_.back().info.first_seq;
    }
    const bool fits = used + sizeof(FrameHeader) + batch_bytes <= options_.segment_bytes_max &&
                      segment_batches_ < options_.segment_batches_max &&
                      info.last_seq() - first_seq < options_.segment_records_max;
    if (used == frames_offset || fits) return ok_status();
    RETURN_IF_ERROR(make_durable());  // the next header will prove that this segment was complete
  }
  return create_segment(info);
}

Status StoreImpl::create_segment(const BatchInfo& info) {
  if (state_.position.seq == 0 && info.epoch != manifest_.identity.epoch) {
    const std::lock_guard lock(manifest_mutex_);
    Manifest manifest = manifest_;
    manifest.identity.epoch = info.epoch;
    RETURN_IF_ERROR(write_manifest(file_system_, options_.directory, manifest));
    manifest_ = std::move(manifest);
    const std::lock_guard identity_lock(mutex_);
    identity_.epoch = info.epoch;
  }
  JournalSegment segment;
  segment.name = segment_name(info.first_seq);
  segment.info.server = manifest_.identity.server;
  segment.info.store = manifest_.store;
  segment.info.first_seq = info.first_seq;
  segment.info.state = state_;
  {
    const std::lock_guard lock(mutex_);
    segment.info.number = segments_.empty() ? 1 : segments_.back().last_number() + 1;
  }
  if (file_ != nullptr) {
    segment.info.previous_bytes = written_bytes_;
    segment.info.previous_digest = digest_.digest();
  }
  const std::vector<std::byte> header = encode_segment_header(segment.info, info);
  segment.info.frames_offset_bytes = header.size();
  segment.end_bytes = header.size();

  const std::string path = journal_path(options_.directory) + "/" + segment.name;
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, file_system_.open(path, FileMode::kCreate));
  if (Status status = file->write(0, header); !status.ok()) {
    const bool removed = file_system_.remove(path).ok();
    if (status.error().kind() == ErrorKind::kNoSpace && removed) return status;
    return fail(std::move(status).error());
  }
  if (Status status = file->sync(); !status.ok()) return fail(std::move(status).error());
  if (Status status = file_system_.sync_directory(journal_path(options_.directory)); !status.ok())
    return fail(std::move(status).error());

  file_ = std::move(file);
  segment_batches_ = 0;
  written_bytes_ = header.size();
  digest_ = Sha256();
  digest_.update(header);
  const std::lock_guard lock(mutex_);
  durable_digest_ = digest_.digest();
  journal_bytes_ += header.size();
  segments_.push_back(std::move(segment));
  return ok_status();
}

// Base data first: once a frame is in the page cache, the kernel may write it to disk at any time.
Status StoreImpl::write_pending() {
  if (pending_.empty()) return ok_status();
  if (base_.dirty())
    if (Status status = base_.sync(); !status.ok()) return fail(std::move(status).error());
  if (Status status = file_->write(written_bytes_, pending_); !status.ok()) {
    if (status.error().kind() != ErrorKind::kNoSpace) return fail(std::move(status).error());
    // Cut back what was written of it; `pending_` still has everything for the next try.
    if (Status cut = file_->truncate(written_bytes_); !cut.ok()) return fail(std::move(cut).error());
    return status;
  }
  // Hashed while the device is writing.
  file_->begin_writeback(written_bytes_, pending_.size());
  digest_.update(pending_);
  written_bytes_ += pending_.size();
  pending_.clear();
  unsynced_ = true;
  return ok_status();
}

Status StoreImpl::make_durable() {
  RETURN_IF_ERROR(write_pending());
  if (!unsynced_) return ok_status();
  if (Status status = file_->sync(); !status.ok()) return fail(std::move(status).error());
  unsynced_ = false;
  const std::lock_guard lock(mutex_);
  durable_ = state_.position;
  journal_bytes_ += written_bytes_ - segments_.back().end_bytes;
  segments_.back().end_bytes = written_bytes_;
  durable_digest_ = digest_.digest();
  return ok_status();
}

Result<Seq> StoreImpl::commit() {
  RETURN_IF_ERROR(check_writable());
  RETURN_IF_ERROR(make_durable());
  if (base_changed_) RETURN_IF_ERROR(update_base_bytes());
  const std::lock_guard lock(mutex_);
  return durable_.seq;
}

Status StoreImpl::update_base_bytes() {
  ASSIGN_OR_RETURN(const std::uint64_t bytes, base_.allocated_bytes());
  const std::lock_guard lock(mutex_);
  base_bytes_ = bytes;
  base_changed_ = false;
  return ok_status();
}

}  // namespace understudy
