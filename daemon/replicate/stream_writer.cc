// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/stream_writer.h"

#include <algorithm>
#include <utility>

#include "daemon/base/checksum.h"
#include "daemon/base/limits.h"

namespace understudy {
namespace {

// How long the difference between the two clocks is taken as constant.
constexpr std::uint64_t kClockSampleAgeNsMax = 500'000'000;
// Records an event may become, and a GAP and the marks in front of it.
constexpr std::uint32_t kRecordsPerEventMax = 4 + kPendingMarksMax;

}  // namespace

StreamWriter::StreamWriter(const StreamWriterOptions& options, const Clock& clock) : options_(options), clock_(clock) {
  CHECK_LE(options_.batch_payload_bytes_max, kBatchPayloadBytesMax);
}

void StreamWriter::resume(Seq last_seq, std::uint64_t generation, const CaptureCursor& cursor,
                          std::uint64_t last_time_ns) {
  drop_open_batch();
  next_seq_ = last_seq + 1;
  generation_ = generation;
  cursor_ = cursor;
  batch_start_cursor_ = cursor;
  // Not the newer of the two: records that were sent and are not durable are made again, with their own times.
  last_time_ns_ = last_time_ns;
  batch_start_time_ns_ = last_time_ns;
}

CaptureCursor StreamWriter::drop_open_batch() {
  next_seq_ -= record_count_;
  record_count_ = 0;
  payload_bytes_ = 0;
  oldest_event_ns_ = 0;
  batch_.reset();
  cursor_ = batch_start_cursor_;
  last_time_ns_ = batch_start_time_ns_;
  return cursor_;
}

void StreamWriter::set_generation(std::uint64_t generation) {
  CHECK(empty());
  CHECK_GE(generation, generation_);
  generation_ = generation;
}

void StreamWriter::set_cursor(const CaptureCursor& cursor) {
  CHECK(empty());
  cursor_ = cursor;
  batch_start_cursor_ = cursor;
}

void StreamWriter::set_loss_count(std::uint64_t loss_count) {
  CHECK_GE(loss_count, cursor_.loss_count);
  cursor_.loss_count = loss_count;
}

bool StreamWriter::fits(std::uint64_t payload_bytes) const {
  if (empty()) return true;
  return payload_bytes_ + payload_bytes <= options_.batch_payload_bytes_max &&
         record_count_ + kRecordsPerEventMax <= kBatchRecordsMax;
}

Seq StreamWriter::add_event(const CaptureEvent& event) {
  Record record;
  record.disk = event.disk;
  record.time_ns = time_of(event.boot_time_ns);
  Seq seq = 0;
  if (event.preflush || event.kind == CaptureKind::kBarrier) {
    record.kind = RecordKind::kBarrier;
    seq = add(record);
  }
  if (event.kind != CaptureKind::kBarrier) {
    Record data = record;
    data.offset_bytes = event.offset_bytes;
    data.length_bytes = event.length_bytes;
    if (event.kind == CaptureKind::kWrite) {
      CHECK_EQ(event.data.size(), event.length_bytes);
      data.kind = RecordKind::kWrite;
      data.flags = event.fua ? kRecordFua : 0;
      data.checksum = xxh3_64(event.data);
      data.payload = event.data;
    } else {
      data.kind = RecordKind::kZero;
      data.flags = event.discard ? kRecordDiscard : 0;
    }
    seq = add(data);
  }
  if (event.fua) {
    record.kind = RecordKind::kBarrier;
    record.flags = kRecordFua;
    seq = add(record);
  }
  if (oldest_event_ns_ == 0) oldest_event_ns_ = event.boot_time_ns;
  cursor_.position = event.position;
  return seq;
}

Seq StreamWriter::add_copy(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const std::byte> data,
                           bool initial, std::uint64_t boot_ns, const std::shared_ptr<void>& keepalive) {
  Record record = copy_record(disk, offset_bytes, data.size(), initial, boot_ns);
  record.checksum = xxh3_64(data);
  record.payload = data;
  const Seq seq = add(record);
  if (batch_->keepalive.empty() || batch_->keepalive.back() != keepalive) batch_->keepalive.push_back(keepalive);
  return seq;
}

Seq StreamWriter::add_zero_copy(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                bool initial, std::uint64_t boot_ns) {
  Record record = copy_record(disk, offset_bytes, length_bytes, initial, boot_ns);
  record.flags |= kRecordZeros;
  return add(record);
}

Record StreamWriter::copy_record(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                 bool initial, std::uint64_t boot_ns) {
  Record record;
  record.kind = RecordKind::kCopy;
  record.flags = initial ? kRecordInitial : 0;
  record.disk = disk;
  record.offset_bytes = offset_bytes;
  record.length_bytes = length_bytes;
  record.time_ns = time_of(boot_ns);
  return record;
}

Seq StreamWriter::add_gap(GapReason reason) {
  // When the first write was lost is not known, only that it was after what stands before: no later time is a point.
  return add_structure(RecordKind::kGap, 0, encode_gap({reason}));
}

Seq StreamWriter::add_heal() { return add_structure(RecordKind::kHeal, 0, {}); }

Seq StreamWriter::add_mark(const MarkInfo& mark, std::uint64_t boot_ns) {
  return add_structure(RecordKind::kMark, boot_ns, encode_mark(mark));
}

Seq StreamWriter::add_geometry(std::span<const DiskGeometry> disks) {
  return add_structure(RecordKind::kGeometry, 0, encode_geometry(disks));
}

bool StreamWriter::due(std::uint64_t now_boot_ns) const {
  return !empty() && (payload_bytes_ >= options_.batch_payload_bytes_max || now_boot_ns >= due_at_ns());
}

std::uint64_t StreamWriter::due_at_ns() const { return opened_boot_ns_ + options_.batch_age_ns_max; }

ClosedBatch StreamWriter::close() {
  CHECK(!empty());
  batch_->batch.set_cursor(cursor_);
  ClosedBatch closed{
      .batch = std::move(batch_), .last_seq = last_seq(), .cursor = cursor_, .oldest_event_ns = oldest_event_ns_};
  batch_start_cursor_ = cursor_;
  batch_start_time_ns_ = last_time_ns_;
  record_count_ = 0;
  payload_bytes_ = 0;
  oldest_event_ns_ = 0;
  return closed;
}

Seq StreamWriter::add(const Record& record) {
  if (empty()) {
    batch_ = std::make_unique<OutgoingBatch>();
    batch_->batch.start(options_.server, next_seq_, options_.epoch, generation_);
    opened_boot_ns_ = clock_.boot_ns();
  }
  batch_->batch.add(record);
  ++record_count_;
  payload_bytes_ += record.payload.size();
  return next_seq_++;
}

Seq StreamWriter::add_structure(RecordKind kind, std::uint64_t boot_ns, std::vector<std::byte> payload) {
  Record record;
  record.kind = kind;
  record.time_ns = time_of(boot_ns);
  if (payload.empty()) return add(record);
  auto kept = std::make_shared<std::vector<std::byte>>(std::move(payload));
  record.payload = *kept;
  record.checksum = xxh3_64(record.payload);
  const Seq seq = add(record);
  batch_->keepalive.push_back(std::move(kept));
  return seq;
}

std::uint64_t StreamWriter::time_of(std::uint64_t boot_ns) {
  const std::uint64_t now_boot_ns = clock_.boot_ns();
  sample_clock(now_boot_ns);
  if (boot_ns == 0 && last_time_ns_ != 0) return last_time_ns_;
  if (boot_ns == 0) boot_ns = now_boot_ns;  // the first record of a stream
  last_time_ns_ = std::max(last_time_ns_, std::min(boot_ns, now_boot_ns) + wall_offset_ns_);
  return last_time_ns_;
}

void StreamWriter::sample_clock(std::uint64_t now_boot_ns) {
  if (sampled_boot_ns_ != 0 && now_boot_ns - sampled_boot_ns_ < kClockSampleAgeNsMax) return;
  sampled_boot_ns_ = std::max<std::uint64_t>(now_boot_ns, 1);
  wall_offset_ns_ = clock_.wall_ns() - now_boot_ns;
}

}  // namespace understudy
