// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/status_json.h"

#include <algorithm>
#include <optional>

namespace understudy {
namespace {

Json or_null(const std::optional<std::uint64_t>& value) { return value ? Json(*value) : Json(); }

// Until everything that is captured or to be copied is at the receiver, at the speed of the last seconds; 0 = now.
std::optional<std::uint64_t> eta_ns(const ReplicationStatus& status) {
  const std::uint64_t copy_left = status.copy_total_bytes - std::min(status.copy_total_bytes, status.copy_done_bytes);
  const std::uint64_t left = status.backlog_bytes + copy_left;
  if (left == 0) return 0;
  if (status.raw_bytes_per_second == 0) return std::nullopt;
  return static_cast<std::uint64_t>(static_cast<double>(left) / static_cast<double>(status.raw_bytes_per_second) * 1e9);
}

Json losses_json(const Losses& losses) {
  Json json = Json::object();
  json["total"] = losses.total;
  json["ring_full"] = losses.ring_full;
  json["skipped"] = losses.skipped;
  json["unreadable"] = losses.unreadable;
  json["too_long"] = losses.too_long;
  json["untracked"] = losses.untracked;
  json["unprovable"] = losses.unprovable;
  return json;
}

Json wire_json(const ReplicationStatus& status) {
  const LinkStatistics& link = status.link;
  Json json = Json::object();
  json["changed_bytes_sent"] = link.changed_bytes_sent;
  json["delta_cache_bytes"] = link.delta_cache_bytes;
  json["delta_cache_bytes_max"] = link.delta_cache_bytes_max;
  json["effort"] = link.effort;
  json["send_buffer_bytes"] = link.send_buffer_bytes;
  json["bandwidth_limit"] = link.bandwidth_limit != 0 ? Json(link.bandwidth_limit) : Json();
  json["eta_ns"] = or_null(eta_ns(status));
  return json;
}

Json disks_json(const std::vector<TrackedDisk>& disks) {
  Json json = Json::array();
  for (const TrackedDisk& disk : disks) {
    Json item = Json::object();
    item["slot"] = std::uint64_t{disk.slot};
    item["path"] = disk.path;
    item["size_bytes"] = disk.size_bytes;
    json.push_back(std::move(item));
  }
  return json;
}

Json digest_json(const ReplicationStatus& status) {
  Json json = Json::object();
  json["possible"] = status.digest_possible;
  json["active"] = status.digest_active;
  json["purpose"] = digest_purpose_name(status.digest.purpose);
  json["total_bytes"] = status.digest.total_bytes;
  json["done_bytes"] = status.digest.done_bytes;
  json["equal_bytes"] = status.digest.equal_bytes;
  json["different_bytes"] = status.digest.different_bytes;
  json["left_out_bytes"] = status.digest.left_out_bytes;
  json["undecided_bytes"] = status.digest.undecided_bytes;
  json["duration_ns"] = status.digest.duration_ns;
  json["given_up"] = status.digest.given_up;
  json["wire_bytes"] = status.digest_wire_bytes;
  json["scrub_enabled"] = status.scrub_enabled;
  json["scrub_period_ns"] = status.scrub_period_ns;
  json["scrub_rate"] = status.scrub_bytes_per_second;
  json["proved_bytes"] = status.proved_bytes;
  json["provable_bytes"] = status.provable_bytes;
  json["proved_window_ns"] = status.proved_window_ns;
  json["scrub_round_time_ns"] = status.scrub_round_wall_ns != 0 ? Json(status.scrub_round_wall_ns) : Json();
  json["findings_bytes"] = status.findings_bytes;
  json["last_finding"] = status.last_finding;
  return json;
}

Json findings_json(const std::vector<Finding>& findings) {
  Json json = Json::array();
  for (const Finding& finding : findings) {
    Json item = Json::object();
    item["code"] = finding.code;
    item["text"] = finding.text;
    item["advice"] = finding.advice;
    json.push_back(std::move(item));
  }
  return json;
}

// Null unless replication is in error.
Json error_json(const ReplicationState& state) {
  if (state.state != ReplicationStateName::kError) return Json();
  const ErrorReasonEntry& entry = error_reason_entry(state.reason);
  Json json = Json::object();
  json["reason"] = entry.name;
  json["code"] = static_cast<std::uint64_t>(entry.reason);
  json["text"] = entry.text;
  json["advice"] = entry.advice;
  return json;
}

}  // namespace

Json agent_status_json(const AgentFacts& facts, const ReplicationStatus& status, const std::vector<Finding>& findings) {
  Json json = Json::object();
  json["program"] = "understudy-agent";
  json["software"] = facts.software;
  json["server"] = facts.server_name;
  json["server_id"] = facts.server.to_string();
  const ReplicationState& state = status.state;
  json["state"] = state_text(state.state, state.direction);
  json["state_code"] = static_cast<std::uint64_t>(state_code(state.state, state.direction));
  json["auto_resume"] = state.auto_resume;
  json["error"] = error_json(state);
  json["phase"] = phase_name(status.phase);
  json["status_line"] = status_line(status);
  json["rung"] = facts.rung;
  json["read_engine"] = facts.read_engine;
  json["disks"] = disks_json(facts.disks);
  json["protected_bytes"] = status.protected_bytes;
  json["connected"] = status.link_up;
  json["receiver"] = status.receiver_name;
  json["notice"] = status.notice;
  json["errors"] = Json::array();
  for (const std::string& error : status.errors) json["errors"].push_back(error);
  json["last_error"] = status.last_error;
  json["copy_done_bytes"] = status.copy_done_bytes;
  json["copy_total_bytes"] = status.copy_total_bytes;
  json["copy_left_out_bytes"] = status.copy_left_out_bytes;
  json["copy_left_ns"] = or_null(status.copy_left_ns);
  json["unreadable_bytes"] = status.unreadable_bytes;
  json["rpo_now_ns"] = or_null(status.rpo_now_ns);
  json["rpo_counts"] = rpo_counts_text(status.rpo_counts);
  json["status_age_ns"] = status.age_ns;
  json["rpo_p50_ns"] = or_null(status.rpo_p50_ns);
  json["rpo_p99_ns"] = or_null(status.rpo_p99_ns);
  json["backlog_bytes"] = status.backlog_bytes;
  json["ring_bytes"] = status.ring_bytes;
  json["raw_bytes_per_second"] = status.raw_bytes_per_second;
  json["wire_bytes_per_second"] = status.wire_bytes_per_second;
  json["host_bytes_per_second"] = or_null(status.host_bytes_per_second);
  json["overload"] = overload_text(status);
  json["raw_bytes_sent"] = status.raw_bytes_sent;
  json["wire_bytes_sent"] = status.wire_bytes_sent;
  json["digest"] = digest_json(status);
  json["wire"] = wire_json(status);
  json["losses"] = losses_json(status.losses);
  json["gap_open"] = status.gap_open;
  json["gap_reason"] = status.gap_open ? Json(gap_reason_name(status.gap_reason)) : Json();
  json["gap_since_time_ns"] = status.gap_open ? Json(status.gap_since_wall_ns) : Json();
  json["findings"] = findings_json(findings);
  json["capture_id"] = status.capture_id.to_string();
  json["epoch"] = status.epoch;
  json["generation"] = status.generation;
  json["last_seq"] = status.last_seq;
  json["acknowledged_seq"] = status.acknowledged_seq;
  return json;
}

}  // namespace understudy
