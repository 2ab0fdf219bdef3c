// SPDX-License-Identifier: Apache-2.0
#include "daemon/replicate/status.h"

#include "daemon/base/text.h"

namespace understudy {

std::string overload_text(const ReplicationStatus& status) {
  if (!status.overloaded) return "";
  std::string text = "write load ";
  if (status.host_bytes_per_second) text += format_bytes(*status.host_bytes_per_second) + "/s ";
  text += "exceeds link " + format_bytes(status.raw_bytes_per_second) + "/s";
  if (status.gap_open) text += ": the copy ends when the load falls";
  return text;
}

std::string_view rpo_counts_text(ReplicationStatus::RpoCounts counts) {
  switch (counts) {
    case ReplicationStatus::RpoCounts::kNothing: return "nothing is outstanding";
    case ReplicationStatus::RpoCounts::kOldestWrite: return "age of the oldest write that is not acknowledged";
    case ReplicationStatus::RpoCounts::kGap: return "time since the gap began: no later point can be recovered yet";
  }
  return "";
}

ReplicationStatus aged(ReplicationStatus status, std::uint64_t age_ns) {
  status.age_ns += age_ns;
  // Whatever was written since has not been acknowledged, as far as anybody knows.
  if (!status.rpo_now_ns) return status;
  *status.rpo_now_ns += age_ns;
  if (status.rpo_counts == ReplicationStatus::RpoCounts::kNothing && age_ns > 0) {
    status.rpo_counts = ReplicationStatus::RpoCounts::kOldestWrite;
  }
  return status;
}

std::string status_line(const ReplicationStatus& status) {
  std::string line(phase_name(status.phase));
  if (status.phase == Phase::kError && !status.errors.empty()) return line + ": " + status.errors.front();
  line += ": " + std::to_string(status.disks) + (status.disks == 1 ? " disk" : " disks");
  if (status.phase == Phase::kFullCopy || status.phase == Phase::kResync) {
    line += ", " + format_bytes(status.copy_done_bytes) + " of " + format_bytes(status.copy_total_bytes) + " copied";
  }
  if (status.rpo_now_ns) {
    const std::uint64_t hundredths = (*status.rpo_now_ns + 5'000'000) / 10'000'000;
    const std::string fraction = std::to_string(hundredths % 100);
    line += ", rpo " + std::to_string(hundredths / 100) + "." + (fraction.size() == 1 ? "0" : "") + fraction + " s";
  }
  line += ", backlog " + format_bytes(status.backlog_bytes);
  if (status.overloaded) line += ", " + overload_text(status);
  if (!status.notice.empty()) line += ", " + status.notice;
  return line;
}

}  // namespace understudy
