// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent_orders.h"

#include <array>

#include "daemon/base/atomic_file.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {

using Phase = AgentOrders::Phase;

constexpr std::size_t kOrdersBytesMax = 64u << 10;
constexpr std::size_t kPathBytesMax = 4096;
constexpr std::array<std::string_view, 4> kPhases{"registered", "replicating", "stopped", "released"};

Error bad(std::string_view member, const std::string& why) {
  return Error(ErrorKind::kInvalidArgument, "orders: '" + std::string(member) + "' " + why);
}

Result<Phase> parse_phase(const Json& desired) {
  const std::string name = desired.at("phase").as_string("");
  for (std::size_t i = 0; i < kPhases.size(); ++i) {
    if (kPhases[i] == name) return static_cast<Phase>(i);
  }
  return bad("phase", "is " + quote(name) + ", which this agent does not know");
}

Status read_disks(const Json& desired, AgentOrders& orders) {
  for (const Json& disk : desired.at("disks").items()) {
    const std::string path = disk.as_string("");
    if (path.empty() || path.front() != '/' || path.size() > kPathBytesMax) return bad("disks", "has no path in it");
    orders.disks.push_back(path);
  }
  if (orders.disks.size() > kDisksMax) return bad("disks", "has more than " + std::to_string(kDisksMax));
  return ok_status();
}

Status read_receiver(const Json& receiver, AgentOrders& orders) {
  if (receiver.is_null()) return ok_status();
  orders.receiver.name = receiver.at("name").as_string("");
  orders.receiver.address = receiver.at("address").as_string("");
  const std::uint64_t port = receiver.at("port").as_unsigned(0);
  if (orders.receiver.name.empty() || orders.receiver.address.empty() || port == 0 || port > 65535) {
    return bad("receiver", "needs a name, an address and a port of 1 to 65535");
  }
  orders.receiver.port = static_cast<std::uint16_t>(port);
  return ok_status();
}

}  // namespace

Result<AgentOrders> parse_agent_orders(const Json& desired) {
  AgentOrders orders;
  orders.order = desired.at("order").as_unsigned(0);
  ASSIGN_OR_RETURN(orders.phase, parse_phase(desired));
  orders.epoch = desired.at("epoch").as_unsigned(0);
  if (orders.epoch == 0) return bad("epoch", "must be at least 1");
  orders.restart = desired.at("restart").as_unsigned(0);
  orders.repair = desired.at("repair").as_unsigned(0);
  RETURN_IF_ERROR(read_disks(desired, orders));
  RETURN_IF_ERROR(read_receiver(desired.at("receiver"), orders));
  orders.auto_resume = desired.at("auto_resume").as_bool(true);
  orders.throttle_bytes_per_second = desired.at("throttle_bytes_per_second").as_unsigned(0);
  orders.point_interval_ns = desired.at("point_interval_ns").as_unsigned(0);
  orders.mark_label = desired.at("mark").at("label").as_string("");
  if (orders.mark_label.size() > kNameBytesMax) return bad("mark", "has a label that is too long");
  orders.mark_application_consistent =
      !orders.mark_label.empty() && desired.at("mark").at("consistency").as_string("") == "application";
  return orders;
}

Json agent_orders_json(const AgentOrders& orders) {
  Json json = Json::object();
  json["order"] = orders.order;
  json["phase"] = kPhases.at(static_cast<std::size_t>(orders.phase));
  json["epoch"] = orders.epoch;
  json["restart"] = orders.restart;
  json["repair"] = orders.repair;
  json["disks"] = Json::array();
  for (const std::string& disk : orders.disks) json["disks"].push_back(disk);
  json["receiver"] = Json();
  if (!orders.receiver.name.empty()) {
    json["receiver"]["name"] = orders.receiver.name;
    json["receiver"]["address"] = orders.receiver.address;
    json["receiver"]["port"] = std::uint64_t{orders.receiver.port};
  }
  json["auto_resume"] = orders.auto_resume;
  json["throttle_bytes_per_second"] = orders.throttle_bytes_per_second;
  json["point_interval_ns"] = orders.point_interval_ns;
  json["mark"] = Json();
  if (!orders.mark_label.empty()) {
    json["mark"]["label"] = orders.mark_label;
    json["mark"]["consistency"] = orders.mark_application_consistent ? "application" : "crash";
  }
  return json;
}

Result<std::optional<AgentOrders>> load_agent_orders(const std::string& directory) {
  const std::string path = directory + "/orders.json";
  const auto text = read_file(path, kOrdersBytesMax);
  if (!text.ok()) {
    if (text.error().kind() == ErrorKind::kNotFound) return std::optional<AgentOrders>();
    return text.error();
  }
  const auto json = Json::parse(*text);
  auto orders = json.ok() ? parse_agent_orders(*json) : Result<AgentOrders>(json.error());
  if (orders.ok()) return std::optional<AgentOrders>(std::move(orders).value());
  return Error(ErrorKind::kCorrupt,
               "'" + path + "': " + orders.error().message() + "; remove it to wait for the orchestrator's orders");
}

Status save_agent_orders(const std::string& directory, const AgentOrders& orders) {
  return write_file_atomically(directory + "/orders.json", agent_orders_json(orders).dump_indented() + "\n");
}

}  // namespace understudy
