// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent_marks.h"

#include <condition_variable>
#include <mutex>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

// How long an acknowledgement may take: a receiver that was away comes back.
constexpr std::uint64_t kAcknowledgementNs = 3'600'000'000'000;
constexpr std::size_t kMarksShown = 10;

void log_mark_event(const MarkEvent& event, const std::string& server) {
  LogLevel level = LogLevel::kWarning;
  MessageId id = kMessageMarkFailed;
  switch (event.kind) {
    case MarkEvent::Kind::kMade: level = LogLevel::kInfo, id = kMessageMarkMade; break;
    case MarkEvent::Kind::kNotQuiesced: id = kMessageMarkNotQuiesced; break;
    case MarkEvent::Kind::kFailed: break;
    case MarkEvent::Kind::kHookFailed: id = kMessageMarkHookFailed; break;
  }
  log_message(level, id, event.text, {{"UNDERSTUDY_SERVER", server}});
}

// Between who wants a place and the replication thread: whoever comes second learns that the other has given up.
struct Handover {
  std::mutex mutex;
  std::condition_variable changed;
  bool placed = false;
  bool given_up = false;
};

Status place_mark(std::shared_ptr<ReplicationThread> replication, MarkPlacement placement, std::uint64_t until_ns) {
  auto handover = std::make_shared<Handover>();
  const std::string name = placement.name;
  replication->post([handover, placement = std::move(placement)](Replicator& replicator) {
    std::lock_guard lock(handover->mutex);
    if (handover->given_up) return;
    replicator.request_mark_described_later(placement.name, placement.description,
                                            system_clock().boot_ns() + kAcknowledgementNs, placement.done);
    handover->placed = true;
    handover->changed.notify_all();
  });
  replication.reset();  // its end must not wait for us, who may be told by it
  std::unique_lock lock(handover->mutex);
  const std::uint64_t now_ns = system_clock().boot_ns();
  const auto left = std::chrono::nanoseconds(until_ns > now_ns ? until_ns - now_ns : 0);
  if (handover->changed.wait_for(lock, left, [&] { return handover->placed; })) return ok_status();
  handover->given_up = true;
  return Error(ErrorKind::kTimeout, "mark '" + name + "': replication gave it no place in time");
}

Status ready_for_mark(ReplicationThread& replication) {
  const ReplicationStatus status = replication.status();
  if (!status.gap_open) return ok_status();
  return Error(ErrorKind::kBusy, "the stream lacks writes (" + std::string(gap_reason_name(status.gap_reason)) +
                                     ") until the copy has finished, so that the point could not be recovered; try "
                                     "again then");
}

std::string_view consistency_word(Consistency consistency) {
  return consistency == Consistency::kApplication ? "application" : "crash";
}

Json outcome_json(const MarkOutcome& outcome) {
  Json json = Json::object();
  const bool made = outcome.state == MarkOutcome::State::kPlaced || outcome.state == MarkOutcome::State::kDurable;
  json["id"] = outcome.id;
  json["label"] = outcome.mark.name.empty() ? outcome.request.label : outcome.mark.name;
  json["wanted"] = consistency_word(outcome.request.consistency);
  json["scheduled"] = outcome.scheduled;
  json["state"] = mark_state_name(outcome.state);
  json["time_ns"] = made ? Json(outcome.time_ns) : Json();
  if (outcome.state == MarkOutcome::State::kDurable) {
    json["consistency"] = consistency_word(outcome.mark.consistency);
    json["reason"] = outcome.mark.reason.empty() ? Json() : Json(outcome.mark.reason);
    json["seq"] = outcome.seq;
  }
  json["frozen_ns"] = outcome.frozen_ns;
  json["error"] = outcome.error.empty() ? Json() : Json(outcome.error);
  return json;
}

Result<Json> begin_mark(MarkService& marks, const Json& request) {
  MarkRequest wanted;
  wanted.label = request.at("label").as_string("");
  const std::string consistency = request.at("consistency").as_string("crash");
  if (consistency != "crash" && consistency != "application") {
    return Error(ErrorKind::kInvalidArgument,
                 "mark: 'consistency' is " + quote(consistency) + "; allowed are 'crash' and 'application'");
  }
  wanted.consistency = consistency == "crash" ? Consistency::kCrash : Consistency::kApplication;
  ASSIGN_OR_RETURN(const std::uint64_t id, marks.request(std::move(wanted)));
  Json json = Json::object();
  json["id"] = id;
  return json;
}

// A mark that failed is an error with its own kind, so that commands end with the right status.
Result<Json> mark_outcome(const MarkService& marks, const Json& request) {
  ASSIGN_OR_RETURN(const MarkOutcome outcome, marks.outcome(request.at("id").as_unsigned(0)));
  if (outcome.state == MarkOutcome::State::kFailed) return Error(outcome.error_kind, outcome.error);
  return outcome_json(outcome);
}

}  // namespace

Result<std::unique_ptr<MarkService>> start_agent_marks(AgentMarksParts parts) {
  MarkServiceParts service;
  service.policy = std::move(parts.policy);
  service.server = parts.server;
  service.run_directory = std::move(parts.run_directory);
  service.disks = std::move(parts.disks);
  service.ready = [replication = parts.replication]() -> Status {
    ASSIGN_OR_RETURN(const auto thread, replication());
    return ready_for_mark(*thread);
  };
  service.place = [replication = parts.replication](MarkPlacement placement, std::uint64_t until_ns) -> Status {
    ASSIGN_OR_RETURN(auto thread, replication());
    return place_mark(std::move(thread), std::move(placement), until_ns);
  };
  service.on_event = [server = parts.server](const MarkEvent& event) { log_mark_event(event, server); };
  return MarkService::start(std::move(service));
}

void add_mark_commands(ControlServer& control, MarkService& marks) {
  control.handle("mark", [&marks](const Json& request) { return begin_mark(marks, request); });
  control.handle("mark-outcome", [&marks](const Json& request) { return mark_outcome(marks, request); });
}

Json marks_json(const MarkService& marks) {
  Json json = Json::object();
  for (const auto& [name, consistency] :
       {std::pair("next_crash_consistent_time_ns", Consistency::kCrash),
        std::pair("next_application_consistent_time_ns", Consistency::kApplication)}) {
    const std::uint64_t next_ns = marks.next_ns(consistency);
    json[name] = next_ns == 0 ? Json() : Json(next_ns);
  }
  json["recent"] = Json::array();
  const std::vector<MarkOutcome> recent = marks.recent();
  const std::size_t first = recent.size() > kMarksShown ? recent.size() - kMarksShown : 0;
  for (std::size_t i = first; i < recent.size(); ++i) json["recent"].push_back(outcome_json(recent[i]));
  return json;
}

}  // namespace understudy
