// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/record/record.h"
#include "daemon/replicate/digest_runner.h"
#include "daemon/replicate/link.h"
#include "daemon/replicate/phase.h"
#include "daemon/replicate/replication_state.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

// What the replicator says of itself. A copy: may be kept and passed to other threads.
struct ReplicationStatus {
  ReplicationState state;             // of the operator's view: what is wanted and what has come of it
  Phase phase = Phase::kStarting;     // of the data path: what is done at this moment
  std::uint64_t disks = 0;
  std::uint64_t protected_bytes = 0;

  bool link_up = false;
  std::string receiver_name;          // empty before the first session
  std::string notice;                 // what the receiver says people should know; empty = nothing
  std::vector<std::string> errors;    // conditions that hold now; empty unless phase is error
  std::string last_error;             // the newest error, also one that is over

  // Full copy or resync: bytes that are durable at the receiver, of those that have to be, which is without free space
  // once that is known. Equal when there is none.
  std::uint64_t copy_done_bytes = 0;
  std::uint64_t copy_total_bytes = 0;
  std::uint64_t copy_left_out_bytes = 0;      // free space, not part of the total
  std::optional<std::uint64_t> copy_left_ns;  // how long the copy will still take; absent = not known, or none
  std::uint64_t unreadable_bytes = 0;

  // Age of the oldest write that is not part of a recoverable point yet; 0 = none. Absent before the first copy ended.
  std::optional<std::uint64_t> rpo_now_ns;
  // What rpo_now_ns is the age of.
  enum class RpoCounts : std::uint8_t { kNothing, kOldestWrite, kGap };
  RpoCounts rpo_counts = RpoCounts::kNothing;
  std::optional<std::uint64_t> rpo_p50_ns;  // over the last one to two minutes, or since the last copy ended
  std::optional<std::uint64_t> rpo_p99_ns;

  std::uint64_t backlog_bytes = 0;    // captured and not acknowledged, in the ring
  std::uint64_t ring_bytes = 0;
  std::uint64_t raw_bytes_per_second = 0;   // payload sent, over the last seconds
  std::uint64_t wire_bytes_per_second = 0;  // the same as bytes on the wire
  // Written by the host to the protected disks, over the last seconds. Absent where the disks do not count it.
  std::optional<std::uint64_t> host_bytes_per_second;
  // The ring overflowed in the last seconds although the receiver was there: the host writes faster than the link
  // takes. Only what is written over and over is collapsed by it; else a copy under way ends when the load falls.
  bool overloaded = false;
  std::uint64_t raw_bytes_sent = 0;   // since the agent's start
  std::uint64_t wire_bytes_sent = 0;
  LinkStatistics link;                // what the two above are taken from, and more

  // How old all of this is: more than 0 when the replication thread does not answer. rpo_now_ns has grown with it.
  std::uint64_t age_ns = 0;

  // Digest scans (digest_runner.h).
  bool digest_possible = false;       // the receiver can compare
  bool digest_active = false;
  DigestProgress digest;              // of the scan that runs, or ran last
  std::uint64_t digest_wire_bytes = 0;  // questions and answers since the agent's start
  bool scrub_enabled = false;
  std::uint64_t scrub_period_ns = 0;
  std::uint64_t scrub_bytes_per_second = 0;
  // Proved equal to the replica within proved_window_ns, of provable_bytes: the disks without free space that a full
  // copy left out.
  std::uint64_t proved_bytes = 0;
  std::uint64_t provable_bytes = 0;
  std::uint64_t proved_window_ns = 0;
  std::uint64_t scrub_round_wall_ns = 0;  // when the scrub was last through; 0 = not yet
  std::uint64_t findings_bytes = 0;   // that a scrub found different though nothing lost explains it, since the start
  std::string last_finding;           // in words; empty = none

  Losses losses;
  bool gap_open = false;
  GapReason gap_reason = GapReason::kInitialCopy;
  std::uint64_t gap_since_wall_ns = 0;

  Uuid capture_id;
  std::uint64_t epoch = 0;
  std::uint64_t generation = 0;
  Seq last_seq = 0;                   // given to the link
  Seq acknowledged_seq = 0;
};

// "write load 12 MiB/s exceeds link 4 MiB/s: ..."; empty when it does not.
std::string overload_text(const ReplicationStatus& status);
std::string_view rpo_counts_text(ReplicationStatus::RpoCounts counts);
// The status as it must be assumed to be `age_ns` after it was made.
ReplicationStatus aged(ReplicationStatus status, std::uint64_t age_ns);
// One plain line: "realtime: 2 disks, rpo 0.12 s, backlog 1.2 MiB".
std::string status_line(const ReplicationStatus& status);

}  // namespace understudy
