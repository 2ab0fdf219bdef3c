// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "daemon/control/control_client.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/status_text.h"

namespace understudy {

namespace {

Json command(std::string_view name) {
  Json request;
  request["command"] = name;
  return request;
}

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

Status status_of_one(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const Json status, control_call(options.socket, command("status")));
  print(options.json ? status.dump_indented() + "\n" : status_text(status));
  return ok_status();
}

Status change_replication(const ControlOptions& options, const char* verb) {
  ASSIGN_OR_RETURN(const Json result,
                   control_call(options.socket.empty() ? kAgentSocket : options.socket, command(verb)));
  print(options.json ? result.dump_indented() + "\n"
                     : std::string(verb) + ": replication is " + result.at("state").as_string("") + "\n");
  return ok_status();
}

}  // namespace

Status run_stop(const ControlOptions& options) { return change_replication(options, "stop"); }
Status run_restart(const ControlOptions& options) { return change_replication(options, "restart"); }
Status run_repair(const ControlOptions& options) { return change_replication(options, "repair"); }

Status run_status(const ControlOptions& options) {
  if (!options.socket.empty()) return status_of_one(options);
  Json all = Json::object();
  std::string text;
  for (const auto& [name, socket] : {std::pair("agent", kAgentSocket), std::pair("receiver", kReceiverSocket)}) {
    auto status = control_call(socket, command("status"));
    if (!status.ok()) {
      if (status.error().kind() == ErrorKind::kNotFound) continue;  // this machine has no such daemon
      return std::move(status).error().with_context(std::string("ask ") + name);
    }
    text += (text.empty() ? "" : "\n") + status_text(*status);
    all[name] = std::move(*status);
  }
  if (all.members().empty()) {
    return Error(ErrorKind::kNotFound,
                 std::string("neither agent nor receiver is running on this machine: nothing listens "
                             "at '") +
                     kAgentSocket + "' or '" + kReceiverSocket + "'");
  }
  print(options.json ? all.dump_indented() + "\n" : text);
  return ok_status();
}

Status run_mark(const ControlOptions& options) {
  Json request = command("mark");
  request["name"] = options.words[0];
  ASSIGN_OR_RETURN(const Json result, control_call(options.socket.empty() ? kAgentSocket : options.socket, request));
  print(options.json
            ? result.dump_indented() + "\n"
            : "marked '" + options.words[0] + "' at seq " + std::to_string(result.at("seq").as_unsigned(0)) + "\n");
  return ok_status();
}

}  // namespace understudy
