// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/orchestrator/recording_driver.h"

#include <algorithm>

#include "tests/unit/orchestrator/specification.h"

namespace understudy {
namespace {

// Operations that a driver ends: where the server is meanwhile, afterwards, and when it failed. "*" = where it was.
struct Course {
  const char* meanwhile;
  const char* done;
  const char* failed;
};
const std::map<std::string, Course>& courses() {
  static const std::map<std::string, Course> kCourses{
      {"add", {"client-installing", "initialized", "client-install-failed"}},
      {"retry-install", {"client-installing", "initialized", "client-install-failed"}},
      {"upgrade", {"client-upgrading", "*", "upgrade-failed"}},
      {"failover", {"failing-over", "failed-over", "failover-error"}},
      {"change-point", {"failing-over", "failed-over", "failover-error"}},
      {"confirm", {"confirming", "failover-confirmed", "failed-over"}},
      {"cancel-failover", {"cancelling-failover", "realtime-starting", "failover-error"}},
      {"reverse-register", {"reverse-registering", "reverse-initialized", "reverse-register-failed"}},
      {"failback", {"failing-back", "failed-back", "failback-error"}},
      {"register", {"registering", "initialized", "register-failed"}},
      {"deregister", {"deregistering", "absent", "*"}}};
  return kCourses;
}

// What replication goes through after an order, from the state it was in.
const std::map<std::string, std::string>& first_states() {
  static const std::map<std::string, std::string> kFirst{
      {"initialized start", "replication-starting"},
      {"full-replicating stop", "full-stopping"},
      {"realtime-replicating stop", "realtime-stopping"},
      {"repairing stop", "repair-stopping"},
      {"full-stopped restart", "replication-starting"},
      {"realtime-stopped restart", "realtime-starting"},
      {"replication-error restart", "replication-starting"},
      {"replication-error repair", "repair-starting"},
      {"repair-stopped repair", "repair-starting"},
      {"reverse-initialized reverse-start", "reverse-replication-starting"},
      {"reverse-full-replicating reverse-stop", "reverse-full-stopping"},
      {"reverse-realtime-replicating reverse-stop", "reverse-realtime-stopping"},
      {"reverse-repairing reverse-stop", "reverse-repair-stopping"},
      {"reverse-full-stopped reverse-restart", "reverse-full-starting"},
      {"reverse-realtime-stopped reverse-restart", "reverse-realtime-starting"},
      {"reverse-replication-error reverse-repair", "reverse-repair-starting"},
      {"reverse-repair-stopped reverse-repair", "reverse-repair-starting"}};
  return kFirst;
}
const std::map<std::string, std::string>& next_states() {
  static const std::map<std::string, std::string> kNext{
      {"replication-starting", "full-replicating"},
      {"full-replicating", "realtime-replicating"},
      {"realtime-starting", "realtime-replicating"},
      {"full-stopping", "full-stopped"},
      {"realtime-stopping", "realtime-stopped"},
      {"repair-starting", "repairing"},
      {"repairing", "realtime-replicating"},
      {"repair-stopping", "repair-stopped"},
      {"reverse-replication-starting", "reverse-full-replicating"},
      {"reverse-full-starting", "reverse-full-replicating"},
      {"reverse-full-replicating", "reverse-realtime-replicating"},
      {"reverse-realtime-starting", "reverse-realtime-replicating"},
      {"reverse-full-stopping", "reverse-full-stopped"},
      {"reverse-realtime-stopping", "reverse-realtime-stopped"},
      {"reverse-repair-starting", "reverse-repairing"},
      {"reverse-repairing", "reverse-realtime-replicating"},
      {"reverse-repair-stopping", "reverse-repair-stopped"}};
  return kNext;
}

bool replicates(const std::string& state) {
  return next_states().count(state) != 0 || state == "realtime-replicating" || state == "reverse-realtime-replicating";
}

bool is_drill(Trigger operation) { return operation == Trigger::kDrill || operation == Trigger::kCleanDrill; }

}  // namespace

void RecordingDriver::check_legal(const DriverOrder& order, const Server& server) {
  const std::string operation(trigger_name(order.operation));
  const auto breach = [&](const std::string& why) {
    breaches.push_back(order.server + ": " + operation + " in " + server.state + ", " + server.drill + ": " + why);
  };
  if (operation == "clean-drill") {
    if (server.drill != "drill-ready" && server.drill != "drill-failed") breach("no drill to clean");
    return;
  }
  bool legal = specified_operations(server.state, false, server.realtime_reached).count(operation) != 0;
  for (const std::string& state : server.believed) {
    legal |= specified_operations(state, false, server.realtime_reached).count(operation) != 0;
  }
  if (!legal) breach("not legal");
  if (operation == "drill" && server.drill != "none") breach("a second drill");
  if ((operation == "failover" || operation == "deregister") && server.drill != "none") breach("a drill is there");
  if (server.deregister_begun && operation != "deregister") breach("its de-registration has begun");
  if (server.confirm_begun && (operation == "change-point" || operation == "cancel-failover")) breach("points gone");
}

void RecordingDriver::check_allowed(const DriverOrder& order, const Server& server) {
  std::string object;
  if (order.operation == Trigger::kConfirm) object = "recovery-points";
  if (order.operation == Trigger::kCancelFailover || order.operation == Trigger::kChangePoint) object = "recovery-host";
  if (order.operation == Trigger::kReverseStart && order.server_spec != nullptr &&
      order.server_spec->reverse.original_machine) {
    object = "original-machine";
  }
  if (order.operation == Trigger::kDeregister && server.source_lost && server.realtime_reached &&
      (replicates(server.state) || server.state == "replication-error") && !server.state.starts_with("reverse")) {
    object = "only-copy";
  }
  if (object.empty()) return;
  object = order.server + ":" + object;
  if (--allowed[object] < 0) breaches.push_back("destroyed unasked: " + object);
}

void RecordingDriver::take(const DriverOrder& order, bool fails) {
  Server& server = servers_[order.server];
  check_legal(order, server);
  check_allowed(order, server);
  const std::string operation(trigger_name(order.operation));
  carried_out.push_back(order.server + " " + operation);
  Order& taken = orders_[order.id];
  taken.operation = order.operation;
  taken.server = order.server;
  taken.ticks_left = static_cast<int>(random_() % 3);
  taken.fails = fails || fail_once.erase(order.operation) != 0 || chance(20);
  taken.progress.state = DriverProgress::State::kRunning;
  std::uint64_t& newest = is_drill(order.operation) ? server.newest_drill_order : server.newest_order;
  if (order.id < newest) breaches.push_back(order.server + ": " + operation + " came after a newer order");
  newest = order.id;
  if (is_drill(order.operation)) {
    server.drill = operation == "drill" ? "drill-starting" : "drill-cleaning";
    return;
  }
  if (const auto first = first_states().find(server.state + " " + operation); first != first_states().end()) {
    server.state = first->second;
    return;
  }
  const auto course = courses().find(operation);
  if (course == courses().end()) return;
  if (operation == "upgrade" || operation == "deregister") server.before = server.state;
  if (operation == "confirm") server.confirm_begun = true;
  if (operation == "deregister") server.deregister_begun = true;
  server.state = course->second.meanwhile;
}

Status RecordingDriver::give(const DriverOrder& order) {
  if (const auto known = orders_.find(order.id); known != orders_.end()) {
    if (known->second.operation != order.operation) breaches.push_back("an id was used for two orders");
    return ok_status();
  }
  if (unreachable_ || chance(10)) return Error(ErrorKind::kClosed, "not connected");
  take(order, /* fails= */ false);
  if (chance(10)) return Error(ErrorKind::kTimeout, "no answer");  // but it arrived
  return ok_status();
}

DriverProgress RecordingDriver::progress(const DriverOrder& order) {
  const auto found = orders_.find(order.id);
  return found == orders_.end() ? DriverProgress{} : found->second.progress;
}

void RecordingDriver::end(Order& order) {
  Server& server = servers_[order.server];
  const std::string operation(trigger_name(order.operation));
  if (is_drill(order.operation)) {
    server.drill = order.fails ? "drill-failed" : (operation == "drill" ? "drill-ready" : "none");
  } else if (const auto course = courses().find(operation); course != courses().end()) {
    const std::string to = order.fails ? course->second.failed : course->second.done;
    server.state = to == "*" ? server.before : to;
    if (server.state == "failover-confirmed") server.confirm_begun = false;
    if (server.state == "initialized" || server.state == "reverse-initialized") server.realtime_reached = false;
    if (server.state == "absent") {
      const std::uint64_t newest = server.newest_order;
      server = Server{};
      server.newest_order = newest;
    }
  } else {
    return;  // replication: its state ends the task
  }
  order.progress.state = order.fails ? DriverProgress::State::kFailed : DriverProgress::State::kDone;
  order.progress.error = order.fails ? "it did not work" : "";
}

void RecordingDriver::note_processed() {
  for (auto& [name, server] : servers_) server.believed = {server.reported};
}

void RecordingDriver::tick() {
  for (auto& [id, order] : orders_) {
    if (order.progress.state == DriverProgress::State::kRunning && --order.ticks_left < 0) end(order);
  }
  for (auto& [name, server] : servers_) {
    if (replicates(server.state) && chance(4)) {
      break_replication(name);
      continue;
    }
    const auto next = next_states().find(server.state);
    if (next == next_states().end() || random_() % 2 == 0) continue;
    server.state = next->second;
    server.realtime_reached |= server.state.ends_with("realtime-replicating");
  }
}

void RecordingDriver::break_replication(const std::string& name) {
  std::string& state = servers_[name].state;
  state = state.starts_with("reverse") ? "reverse-replication-error" : "replication-error";
}

std::optional<ServerReport> RecordingDriver::report(const std::string& name) {
  if (unreachable_ || chance(15)) return std::nullopt;
  Server& server = servers_[name];
  if (chance(15)) return server.last_report;  // a late one
  ServerReport report;
  report.order = server.newest_order;
  if (const auto state = parse_lifecycle_state(server.state);
      state.ok() && (replicates(server.state) || server.state.ends_with("-stopped") ||
                     server.state.ends_with("initialized") || server.state.ends_with("replication-error"))) {
    report.replication = *state;
  }
  report.usable_point = server.realtime_reached;
  report.source_lost = server.source_lost;
  report.host_healthy = server.state == "failed-over" || server.state == "failed-back";
  report.drill_healthy = server.drill == "drill-ready";
  report.error = report.replication && server.state.ends_with("-error") ? "the copy broke" : "";
  server.last_report = report;
  server.reported = server.state;
  server.believed.insert(server.state);
  return report;
}

std::string RecordingDriver::state_of(const std::string& server) const {
  const auto found = servers_.find(server);
  return found == servers_.end() ? "absent" : found->second.state;
}

const std::set<std::uint64_t> RecordingDriver::order_ids() const {
  std::set<std::uint64_t> ids;
  for (const auto& [id, order] : orders_) ids.insert(id);
  return ids;
}

}  // namespace understudy
