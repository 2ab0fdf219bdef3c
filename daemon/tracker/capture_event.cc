// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/capture_event.h"

#include <cstring>

#include "daemon/base/check.h"
#include "daemon/tracker/kernel_side.h"

namespace understudy {

std::optional<CaptureEvent> event_of(const RingReader::Record& record, const KnownDisks& known) {
  constexpr std::uint64_t kSectorBytes = 1 << UNDERSTUDY_SECTOR_SHIFT;
  understudy_capture_record head;
  CHECK_GE(record.bytes.size(), sizeof(head));
  std::memcpy(&head, record.bytes.data(), sizeof(head));
  if (head.kind == UNDERSTUDY_CAPTURE_PROBE || head.disk >= known.size() || !known[head.disk]) return std::nullopt;
  CHECK(head.kind >= UNDERSTUDY_CAPTURE_WRITE && head.kind <= UNDERSTUDY_CAPTURE_BARRIER);
  CaptureEvent event;
  event.kind = static_cast<CaptureKind>(head.kind);
  event.preflush = (head.flags & UNDERSTUDY_CAPTURE_PREFLUSH) != 0 && event.kind != CaptureKind::kBarrier;
  event.fua = (head.flags & UNDERSTUDY_CAPTURE_FUA) != 0;
  event.discard = (head.flags & UNDERSTUDY_CAPTURE_DISCARD) != 0;
  event.disk = head.disk;
  event.offset_bytes = head.sector * kSectorBytes;
  event.length_bytes = head.sectors * kSectorBytes;
  event.boot_time_ns = head.time_ns;
  event.loss_count = head.loss_count;
  event.position = record.end;
  if (event.kind == CaptureKind::kWrite) {
    CHECK_LE(head.data_bytes, record.bytes.size() - sizeof(head));
    CHECK_EQ(head.data_bytes, event.length_bytes);
    event.data = record.bytes.subspan(sizeof(head), head.data_bytes);
  }
  return event;
}

void store_capture_id(understudy_control& control, const Uuid& id) {
  std::uint64_t halves[2];
  std::memcpy(halves, id.bytes.data(), sizeof(halves));
  shared_store(control.capture_id_low, static_cast<__u64>(halves[0]));
  shared_store(control.capture_id_high, static_cast<__u64>(halves[1]));
}

Uuid load_capture_id(const understudy_control& control) {
  const std::uint64_t halves[2] = {shared_load(control.capture_id_low), shared_load(control.capture_id_high)};
  Uuid id;
  std::memcpy(id.bytes.data(), halves, sizeof(halves));
  return id;
}

Losses losses_of(const understudy_control& control) {
  Losses losses;
  losses.total = shared_load(control.loss_count);
  losses.ring_full = shared_load(control.lost_ring_full);
  losses.skipped = shared_load(control.lost_skipped);
  losses.unreadable = shared_load(control.lost_unreadable);
  losses.too_long = shared_load(control.lost_too_long);
  losses.untracked = shared_load(control.lost_untracked);
  return losses;
}

}  // namespace understudy
