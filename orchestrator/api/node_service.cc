// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/api/node_service.h"

#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {

void log_node_event(const NodeEvent& event) {
  using Kind = NodeEvent::Kind;
  switch (event.kind) {
    case Kind::kConnected:
      return log_message(LogLevel::kInfo, kMessageNodeConnected, event.who + " connected from " + event.text);
    case Kind::kLost:
      return log_message(LogLevel::kNotice, kMessageNodeLost, "contact with " + event.who + " is lost: " + event.text);
    case Kind::kRefused:
      return log_message(LogLevel::kNotice, kMessageNodeRefused, event.who + " is refused: " + event.text);
    case Kind::kEnrolled:
      return log_message(LogLevel::kNotice, kMessageNodeEnrolled, event.who + " has enrolled from " + event.text);
  }
}

Result<WireIdentity> asked_node(const Json& request) {
  ASSIGN_OR_RETURN(const WireRole role, parse_wire_role(request.at("role").as_string("")));
  return WireIdentity{role, request.at("name").as_string("")};
}

}  // namespace

Result<std::unique_ptr<NodeService>> NodeService::start(const OrchestratorConfig::Nodes& config,
                                                        OrchestratorState& state, std::mutex& mutex,
                                                        std::string software, std::function<void()> on_news) {
  auto service = std::make_unique<NodeService>();
  ASSIGN_OR_RETURN(service->directory_, NodeDirectory::open(state, system_clock(), config.authority_directory));
  NodeServerOptions options;
  options.address = config.address;
  options.port = config.port;
  options.tls = config.tls;
  options.software = std::move(software);
  options.admit = [directory = service->directory_.get(), &mutex](const WireIdentity& identity, const Json& hello) {
    std::lock_guard lock(mutex);
    return directory->admit(identity, hello);
  };
  if (!config.authority_directory.empty()) {
    options.enroll = [directory = service->directory_.get(), &mutex](const Json& request) {
      std::lock_guard lock(mutex);
      return directory->enroll(request);
    };
  }
  options.on_event = log_node_event;
  options.on_news = std::move(on_news);
  ASSIGN_OR_RETURN(service->server_, NodeServer::start(std::move(options)));
  ASSIGN_OR_RETURN(service->driver_, NodeDriver::open(state, *service->server_, system_clock()));
  return service;
}

Result<Json> NodeService::token_answer(const Json& request) {
  ASSIGN_OR_RETURN(const WireIdentity node, asked_node(request));
  const std::string by = request.at("by").as_string("");
  const std::uint64_t lifetime_ns = request.at("lifetime_ns").as_unsigned(kTokenLifetimeDefaultNs);
  const std::uint64_t expires_ns = system_clock().wall_ns() + lifetime_ns;
  ASSIGN_OR_RETURN(const std::string token, directory_->make_token(node.role, node.name, lifetime_ns, by));
  log_message(LogLevel::kNotice, kMessageTokenMade,
              quote(by) + " made a token for " + node.to_text() + ", good once until " + format_time_utc(expires_ns));
  Json answer = Json::object();
  answer["token"] = token;
  answer["expires_time_ns"] = expires_ns;
  return answer;
}

Json NodeService::nodes_answer() const {
  const std::uint64_t now_ns = system_clock().boot_ns();
  Json answer = Json::array();
  for (const NodeView& view : server_->all()) {
    Json node = Json::object();
    node["role"] = wire_role_name(view.identity.role);
    node["name"] = view.identity.name;
    node["connected"] = view.connected;
    node["address"] = view.address;
    node["software"] = view.software;
    node["machine"] = view.machine;
    node["contact_time_ns"] = view.contact_wall_ns == 0 ? Json() : Json(view.contact_wall_ns);
    node["lost_for_ns"] = view.connected || !view.hello ? Json() : Json(now_ns - view.since_ns);
    node["trouble"] = view.trouble;
    answer.push_back(std::move(node));
  }
  return answer;
}

Result<Json> NodeService::forget_answer(const Json& request) {
  ASSIGN_OR_RETURN(const WireIdentity node, asked_node(request));
  RETURN_IF_ERROR(directory_->forget_machine(node));
  return Json::object();
}

}  // namespace understudy
