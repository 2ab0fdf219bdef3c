// SPDX-License-Identifier: Apache-2.0
// Turns captured events, copies and the stream's own marks into numbered records and batches.
//
// An event becomes up to three records: BARRIER (its flush acts before it), WRITE or ZERO, BARRIER with kRecordFua.
// They stay in one batch, so that a batch always ends at an event boundary of the ring and its cursor says so. Payloads
// are not copied: captured data stays in the ring until the batch is acknowledged, copies are kept alive by the batch.
//
// Times: a record's time is the capture's CLOCK_BOOTTIME moved to the wall clock, never falling within the stream. When
// the wall clock is set back, times stand still until it has caught up.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/replicate/link.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

struct StreamWriterOptions {
  Uuid server;
  std::uint64_t epoch = 1;
  std::uint32_t batch_payload_bytes_max = 1u << 20;  // a batch closes at this
  std::uint64_t batch_age_ns_max = 5'000'000;        // ... or this long after its first record
};

// A batch that is ready to be sent.
struct ClosedBatch {
  std::unique_ptr<OutgoingBatch> batch;
  Seq last_seq = 0;
  CaptureCursor cursor;
  std::uint64_t oldest_event_ns = 0;  // capture time of its first event; 0 = none
};

class StreamWriter {
 public:
  StreamWriter(const StreamWriterOptions& options, const Clock& clock);

  // Continues a stream behind its last durable record. An open batch is dropped.
  void resume(Seq last_seq, std::uint64_t generation, const CaptureCursor& cursor, std::uint64_t last_time_ns);
  // Drops the open batch, as if its records had never been added; returns the cursor before it.
  CaptureCursor drop_open_batch();
  // From the next batch on; no batch may be open.
  void set_generation(std::uint64_t generation);
  // From the next batch on, for a new capture; no batch may be open.
  void set_cursor(const CaptureCursor& cursor);
  // Changes how much the stream accounts for, at the record added last.
  void set_loss_count(std::uint64_t loss_count);

  // Whether the open batch has room for a record (or event) with so much payload. An empty batch always has.
  bool fits(std::uint64_t payload_bytes) const;

  // Each takes the next seq and returns it; for an event, that of its last record. The caller looked at fits().
  Seq add_event(const CaptureEvent& event);
  // Records without an event get a time, too, on the boot clock: one that no later event of the ring lies before, or it
  // would push the times of those events up. 0 = that of the newest record so far.
  Seq add_copy(std::uint16_t disk, std::uint64_t offset_bytes, std::span<const std::byte> data, bool initial,
               std::uint64_t boot_ns, const std::shared_ptr<void>& keepalive);
  Seq add_zero_copy(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, bool initial,
                    std::uint64_t boot_ns);
  Seq add_gap(GapReason reason);
  Seq add_heal();
  Seq add_mark(const MarkInfo& mark, std::uint64_t boot_ns);
  Seq add_geometry(std::span<const DiskGeometry> disks);

  bool empty() const { return record_count_ == 0; }
  // Full or old enough.
  bool due(std::uint64_t now_boot_ns) const;
  // When the open batch becomes due by age; only with records in it.
  std::uint64_t due_at_ns() const;
  // Closes the batch. Not when empty.
  ClosedBatch close();

  Seq last_seq() const { return next_seq_ - 1; }
  Seq batch_first_seq() const { return next_seq_ - record_count_; }
  std::uint64_t generation() const { return generation_; }
  const CaptureCursor& cursor() const { return cursor_; }
  // Capture time of the first event in the open batch; 0 = none.
  std::uint64_t oldest_event_ns() const { return oldest_event_ns_; }
  std::uint64_t last_time_ns() const { return last_time_ns_; }

 private:
  Seq add(const Record& record);
  Record copy_record(std::uint16_t disk, std::uint64_t offset_bytes, std::uint64_t length_bytes, bool initial,
                     std::uint64_t boot_ns);
  Seq add_structure(RecordKind kind, std::uint64_t boot_ns, std::vector<std::byte> payload);
  std::uint64_t time_of(std::uint64_t boot_ns);
  void sample_clock(std::uint64_t now_boot_ns);

  StreamWriterOptions options_;
  const Clock& clock_;
  Seq next_seq_ = 1;
  std::uint64_t generation_ = 0;
  CaptureCursor cursor_;
  CaptureCursor batch_start_cursor_;

  std::unique_ptr<OutgoingBatch> batch_;
  std::uint32_t record_count_ = 0;
  std::uint64_t payload_bytes_ = 0;
  std::uint64_t opened_boot_ns_ = 0;
  std::uint64_t oldest_event_ns_ = 0;

  std::uint64_t wall_offset_ns_ = 0;      // wall clock = boot clock + this, modulo 2^64
  std::uint64_t sampled_boot_ns_ = 0;     // when the offset was taken; 0 = never
  std::uint64_t last_time_ns_ = 0;
  std::uint64_t batch_start_time_ns_ = 0;  // last_time_ns_ before the open batch
};

}  // namespace understudy
