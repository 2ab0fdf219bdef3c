// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/nodes/node_driver.h"

#include <algorithm>
#include <set>

#include "daemon/base/text.h"
#include "orchestrator/lifecycle/lifecycle.h"

namespace understudy {

namespace {

using T = Trigger;

std::uint64_t number(const Json& json, std::string_view name) { return json.at(name).as_unsigned(0); }

Json agent_settings(const GroupSpec& group, const ServerSpec& server) {
  Json json = Json::object();
  json["group"] = group.id;
  json["disks"] = Json::array();
  for (const DiskSpec& disk : server.disks) json["disks"].push_back(disk.path);
  json["auto_resume"] = group.policy.auto_resume;
  json["throttle_bytes_per_second"] = group.policy.throttle_bytes_per_second;
  json["point_interval_ns"] = group.policy.point_interval_ns;
  json["mark"] = Json();
  if (!group.mark.label.empty()) {
    json["mark"]["label"] = group.mark.label;
    json["mark"]["consistency"] = group.mark.application_consistent ? "application" : "crash";
  }
  return json;
}

// What a receiver says of the store of one server; null = nothing.
const Json& store_of(const NodeView& receiver, const std::string& server) {
  static const Json kNone;
  if (!receiver.report) return kNone;
  for (const Json& store : receiver.report->at("stores").items()) {
    if (store.at("server").as_string("") == server) return store;
  }
  return kNone;
}

std::uint64_t removed_order(const NodeView& receiver, const std::string& server) {
  if (!receiver.report) return 0;
  for (const Json& removed : receiver.report->at("removed").items()) {
    if (removed.at("server").as_string("") == server) return number(removed, "order");
  }
  return 0;
}

// The server's agent, with its replication, as the order wants it. False: not an order for agents.
bool apply(const DriverOrder& order, ServerOrders& orders) {
  switch (order.operation) {
    case T::kStart: orders.phase = AgentPhase::kReplicating; break;
    case T::kStop: orders.phase = AgentPhase::kStopped; break;
    case T::kCancelFailover:  // no host was brought up; the source goes on
    case T::kRestart:
      orders.phase = AgentPhase::kReplicating;
      orders.restart = order.id;
      break;
    case T::kRepair:
      orders.phase = AgentPhase::kReplicating;
      orders.repair = order.id;
      break;
    case T::kDeregister: orders.phase = AgentPhase::kReleased; break;
    default: return false;
  }
  return true;
}

DriverProgress running(std::string step) {
  DriverProgress progress;
  progress.state = DriverProgress::State::kRunning;
  progress.step = std::move(step);
  return progress;
}

DriverProgress done(std::string step) {
  DriverProgress progress = running(std::move(step));
  progress.state = DriverProgress::State::kDone;
  progress.progress_permille = 1000;
  return progress;
}

}  // namespace

Result<std::unique_ptr<NodeDriver>> NodeDriver::open(OrchestratorState& state, NodeLinks& links, const Clock& clock) {
  std::unique_ptr<NodeDriver> driver(new NodeDriver(state, links, clock));
  ASSIGN_OR_RETURN(driver->orders_, state.orders());
  return driver;
}

std::optional<NodeView> NodeDriver::agent(const std::string& server) const {
  return links_.find({WireRole::kAgent, server});
}

std::optional<NodeView> NodeDriver::receiver(const std::string& name) const {
  if (name.empty()) return std::nullopt;
  return links_.find({WireRole::kReceiver, name});
}

Status NodeDriver::change(const std::string& server, const ServerOrders& orders) {
  RETURN_IF_ERROR(state_.write([&] { return state_.set_orders(server, orders); }));
  const auto before = orders_.find(server);
  const std::string receiver_before = before == orders_.end() ? "" : before->second.receiver;
  orders_[server] = orders;
  // The store is there before the agent asks for it.
  for (const std::string& name : std::set<std::string>{receiver_before, orders.receiver}) {
    if (!name.empty()) tell_receiver(name);
  }
  tell_agent(server);
  return ok_status();
}

Status NodeDriver::give(const DriverOrder& order) {
  const auto known = orders_.find(order.server);
  const std::optional<NodeView> node = agent(order.server);
  const bool connected = node && node->connected;
  const Error absent(ErrorKind::kClosed, quote(order.server) + " is not connected; the order waits for it");
  if (known != orders_.end() && known->second.task == order.id) return ok_status();  // taken over before
  if (order.operation == T::kAdd || order.operation == T::kRetryInstall) {
    if (!connected) return absent;
    ServerOrders orders;
    orders.task = order.id;
    orders.epoch = std::max<std::uint64_t>(number(*node->hello, "epoch"), 1);
    if (known != orders_.end()) orders.epoch = std::max(orders.epoch, known->second.epoch + 1);
    return change(order.server, orders);
  }
  ServerOrders orders = known == orders_.end() ? ServerOrders() : known->second;
  orders.task = order.id;
  if (!apply(order, orders)) {
    // The agent has nothing to do, but what it reports must count as said after the order.
    RETURN_IF_ERROR(change(order.server, orders));
    if (order.operation == T::kUpgrade) return ok_status();  // upgrading() looks for the wanted version
    return Error(ErrorKind::kUnsupported,
                 std::string(trigger_name(order.operation)) +
                     " needs a driver that brings up hosts, and this orchestrator has none; "
                     "any point can be opened or restored with understudyctl view and restore");
  }
  if (!connected && order.operation != T::kDeregister) return absent;
  if (order.operation == T::kStart && order.group_spec != nullptr) {
    orders.receiver = order.group_spec->receiver.name;
    orders.receiver_address = order.group_spec->receiver.address;
    orders.receiver_port = order.group_spec->receiver.port;
    const auto store = receiver(orders.receiver);
    if (!orders.receiver.empty() && !(store && store->connected)) {
      return Error(ErrorKind::kClosed,
                   "receiver " + quote(orders.receiver) + " is not connected; the order waits for it");
    }
  }
  return change(order.server, orders);
}

bool NodeDriver::has_taken(const std::string& server, std::uint64_t order) const {
  const auto node = agent(server);
  return node && node->connected && node->report && number(*node->report, "order") >= order;
}

bool NodeDriver::is_lost(const std::string& server, const std::string& receiver_name) const {
  const auto node = agent(server);
  if (node && node->connected) return false;
  const std::uint64_t since_ns = node && node->hello ? node->since_ns : links_.started_ns();
  if (clock_.boot_ns() - since_ns < kSourceLostNs) return false;
  const auto store = receiver(receiver_name);
  return !(store && store->connected && store_of(*store, server).at("connected").as_bool(false));
}

DriverProgress NodeDriver::progress(const DriverOrder& order) {
  if (order.operation == T::kUpgrade) return upgrading(order);
  const auto known = orders_.find(order.server);
  if (known == orders_.end() || known->second.task < order.id) return {};
  if (order.operation == T::kDeregister) return deregistering(order);
  if (has_taken(order.server, order.id)) return done("taken over by the agent");
  const auto node = agent(order.server);
  return running(node && node->connected ? "told to the agent" : "waits for the agent, which is out of contact");
}

DriverProgress NodeDriver::upgrading(const DriverOrder& order) const {
  const auto node = agent(order.server);
  const std::string wanted = order.server_spec == nullptr ? "" : order.server_spec->client_version;
  if (wanted.empty() || (node && node->connected && node->version == wanted)) return done("the client has the version");
  return running("waits until version " + quote(wanted) + " is installed on " + quote(order.server));
}

// Capture ends, then the store goes. A source that is lost is not waited for: it is told when it comes back.
DriverProgress NodeDriver::deregistering(const DriverOrder& order) {
  const ServerOrders& orders = orders_.at(order.server);
  if (!has_taken(order.server, order.id) && !is_lost(order.server, orders.receiver)) {
    return running("waits for the agent to end its capture");
  }
  if (orders.receiver.empty()) return done("capture has ended");
  const auto store = receiver(orders.receiver);
  if (!store || !store->connected) {
    return running("waits for receiver " + quote(orders.receiver) + " to remove the store; it is out of contact");
  }
  if (removed_order(*store, order.server) < order.id) {
    return running("waits for receiver " + quote(orders.receiver) + " to remove the store");
  }
  ServerOrders without_store = orders;
  without_store.receiver.clear();
  if (const Status status = change(order.server, without_store); !status.ok()) return running(status.error().message());
  return done("capture has ended, the store is removed");
}

std::optional<ServerReport> NodeDriver::report(const std::string& server) {
  const auto known = orders_.find(server);
  const std::string receiver_name = known == orders_.end() ? "" : known->second.receiver;
  const auto node = agent(server);
  const auto store = receiver(receiver_name);
  ServerReport report;
  bool knows = false;
  if (node && node->connected && node->report) {
    knows = true;
    const Json& said = *node->report;
    report.order = number(said, "order");
    report.progress_permille = std::min<std::uint64_t>(number(said, "progress_permille"), 1000);
    report.error = said.at("error").as_string("");
    report.client_version = node->version;
    report.source_lost = false;
    const auto state = parse_lifecycle_state(said.at("state").as_string(""));
    if (state.ok() && is_replication_state(*state)) report.replication = *state;
    // Without word of the receiver: real time is only reached with all of it there.
    if (receiver_name.empty() && said.at("state").as_string("") == "realtime-replicating") report.usable_point = true;
  } else if (is_lost(server, receiver_name)) {
    knows = true;
    report.source_lost = true;
  }
  if (store && store->connected && store->report) {
    knows = true;
    const Json& held = store_of(*store, server);
    report.usable_point = held.at("initial_copy_done").as_bool(false);
  }
  if (!knows) return std::nullopt;
  return report;
}

void NodeDriver::declare(const DeclaredState& declared) {
  declared_agents_.clear();
  declared_receivers_.clear();
  std::set<std::string> receivers;
  for (const auto& [server, orders] : orders_) receivers.insert(orders.receiver);
  for (const GroupSpec& group : declared.groups) {
    for (const ServerSpec& server : group.servers) {
      declared_agents_[server.name] = agent_settings(group, server);
      declared_receivers_[server.name] = {group.receiver.name, group.receiver.address, group.receiver.port};
    }
    receivers.insert(group.receiver.name);
  }
  for (const auto& [server, orders] : orders_) tell_agent(server);
  for (const std::string& name : receivers) {
    if (!name.empty()) tell_receiver(name);
  }
}

void NodeDriver::tell_agent(const std::string& server) {
  const ServerOrders& orders = orders_.at(server);
  const auto declared = declared_agents_.find(server);
  Json desired = declared == declared_agents_.end() ? Json::object() : declared->second;
  desired["order"] = orders.task;
  desired["phase"] = agent_phase_name(orders.phase);
  desired["epoch"] = orders.epoch;
  desired["restart"] = orders.restart;
  desired["repair"] = orders.repair;
  desired["receiver"] = Json();
  if (!orders.receiver.empty()) {
    ReceiverAddress at{orders.receiver, orders.receiver_address, static_cast<std::uint16_t>(orders.receiver_port)};
    // A receiver may get another address; another receiver does not have the store.
    const auto now = declared_receivers_.find(server);
    if (now != declared_receivers_.end() && now->second.name == at.name) at = now->second;
    desired["receiver"]["name"] = at.name;
    desired["receiver"]["address"] = at.address;
    desired["receiver"]["port"] = std::uint64_t{at.port};
  }
  links_.set_desired({WireRole::kAgent, server}, std::move(desired));
}

void NodeDriver::tell_receiver(const std::string& name) {
  Json desired = Json::object();
  desired["stores"] = Json::array();
  desired["remove"] = Json::array();
  for (const auto& [server, orders] : orders_) {
    if (orders.receiver != name) continue;
    Json item = Json::object();
    item["server"] = server;
    if (orders.phase == AgentPhase::kReleased) {
      item["order"] = orders.task;
      desired["remove"].push_back(std::move(item));
    } else {
      item["epoch"] = orders.epoch;
      desired["stores"].push_back(std::move(item));
    }
  }
  links_.set_desired({WireRole::kReceiver, name}, std::move(desired));
}

Json NodeDriver::describe(const std::string& server) const {
  Json json = Json::object();
  const auto known = orders_.find(server);
  const auto node = agent(server);
  json["agent_connected"] = node && node->connected;
  json["contact_time_ns"] = node && node->contact_wall_ns != 0 ? Json(node->contact_wall_ns) : Json();
  json["trouble"] = node ? node->trouble : "";
  json["client_version"] = node ? node->version : "";
  json["epoch"] = known == orders_.end() ? Json() : Json(known->second.epoch);
  const std::string receiver_name = known == orders_.end() ? "" : known->second.receiver;
  json["receiver"] = receiver_name;
  const auto store = receiver(receiver_name);
  json["receiver_connected"] = store && store->connected;
  if (node && node->report) {
    const Json& said = *node->report;
    for (const char* key :
         {"state", "fenced", "progress_permille", "rpo_ns", "backlog_bytes", "error", "findings", "mark"}) {
      json[key] = said.at(key);
    }
  }
  if (store) json["store"] = store_of(*store, server);
  return json;
}

}  // namespace understudy
