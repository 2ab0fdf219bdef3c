// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/replication_record.h"

#include "daemon/base/atomic_file.h"
#include "daemon/control/json.h"

namespace understudy {
namespace {

constexpr std::size_t kRecordBytesMax = 64 << 10;
constexpr std::uint64_t kVersion = 1;

std::string record_path(const std::string& directory) { return directory + "/replication.json"; }

std::string_view resume_text(ResumePhase phase) {
  switch (phase) {
    case ResumePhase::kFull: return "full";
    case ResumePhase::kRealtime: return "realtime";
    case ResumePhase::kRepair: return "repair";
  }
  return "full";
}

Result<ResumePhase> parse_resume(const std::string& text) {
  for (const ResumePhase phase : {ResumePhase::kFull, ResumePhase::kRealtime, ResumePhase::kRepair}) {
    if (resume_text(phase) == text) return phase;
  }
  return Error(ErrorKind::kInvalidArgument, "'resume' is '" + text + "', not 'full', 'realtime' or 'repair'");
}

Result<Direction> parse_direction(const std::string& text) {
  if (text == "forward") return Direction::kForward;
  if (text == "reverse") return Direction::kReverse;
  return Error(ErrorKind::kInvalidArgument, "'direction' is '" + text + "', not 'forward' or 'reverse'");
}

Result<ReplicationState> parse_record(const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, Json::parse(text));
  const std::uint64_t version = json.at("version").as_unsigned(0);
  if (version > kVersion) {
    return Error(ErrorKind::kUnsupported, "it has version " + std::to_string(version) + ", this agent knows " +
                                              std::to_string(kVersion));
  }
  if (version == 0) return Error(ErrorKind::kCorrupt, "it has no 'version'");
  ReplicationState state;
  ASSIGN_OR_RETURN(state.direction, parse_direction(json.at("direction").as_string("")));
  ASSIGN_OR_RETURN(state.state, parse_state(json.at("state").as_string(""), state.direction));
  ASSIGN_OR_RETURN(state.resume, parse_resume(json.at("resume").as_string("")));
  ASSIGN_OR_RETURN(state.reason, parse_error_reason(json.at("reason").as_string("")));
  state.repair_begun = json.at("repair_begun").as_bool(false);
  return state;
}

}  // namespace

Result<ReplicationState> load_replication_record(const std::string& directory) {
  const std::string path = record_path(directory);
  const auto text = read_file(path, kRecordBytesMax);
  if (!text.ok()) {
    if (text.error().kind() == ErrorKind::kNotFound) return ReplicationState{};
    return text.error();
  }
  auto state = parse_record(*text);
  if (state.ok()) return state;
  const ErrorKind kind =
      state.error().kind() == ErrorKind::kUnsupported ? ErrorKind::kUnsupported : ErrorKind::kCorrupt;
  return Error(kind, "state of replication '" + path + "': " + state.error().message() +
                         "; remove it to replicate again from where the receiver stands");
}

Status save_replication_record(const std::string& directory, const ReplicationState& state) {
  Json json = Json::object();
  json["version"] = kVersion;
  json["state"] = state_text(state.state, state.direction);
  json["direction"] = state.direction == Direction::kForward ? "forward" : "reverse";
  json["resume"] = resume_text(state.resume);
  json["repair_begun"] = state.repair_begun;
  json["reason"] = error_reason_entry(state.reason).name;
  return write_file_atomically(record_path(directory), json.dump_indented() + "\n");
}

bool same_record(const ReplicationState& a, const ReplicationState& b) {
  return a.state == b.state && a.direction == b.direction && a.resume == b.resume &&
         a.repair_begun == b.repair_begun && a.reason == b.reason;
}

Status ReplicationRecorder::save(std::uint64_t number, const ReplicationState& state) {
  std::lock_guard lock(mutex_);
  if (number < saved_number_) return ok_status();
  if (saved_ && same_record(*saved_, state)) return ok_status();
  RETURN_IF_ERROR(save_replication_record(directory_, state));
  saved_number_ = number;
  saved_ = state;
  return ok_status();
}

}  // namespace understudy
