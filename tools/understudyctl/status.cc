// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>

#include "daemon/base/text.h"
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

constexpr unsigned kMarkAskUs = 50'000;

std::string mark_text(const Json& mark) {
  if (mark.at("state").is_null()) {
    return "mark ordered; 'understudyctl status' shows what becomes of it\n";
  }
  const std::string consistency = mark.at("consistency").as_string("");
  return "marked '" + printable(mark.at("label").as_string("")) + "' at seq " +
         std::to_string(mark.at("seq").as_unsigned(0)) + ", " + consistency + "-consistent\n";
}

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

// With a server it is a matter of its group, else of this machine's agent.
Status run_stop(const ControlOptions& options) {
  return options.words.empty() ? change_replication(options, "stop") : run_server_verb(options, "stop");
}
Status run_restart(const ControlOptions& options) {
  return options.words.empty() ? change_replication(options, "restart") : run_server_verb(options, "restart");
}
Status run_repair(const ControlOptions& options) {
  return options.words.empty() ? change_replication(options, "repair") : run_server_verb(options, "repair");
}

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
  const std::string socket = options.socket.empty() ? kAgentSocket : options.socket;
  Json request = command("mark");
  if (const std::string label = options.words.empty() ? options.label : options.words[0]; !label.empty()) {
    request["label"] = label;
  }
  request["consistency"] = options.application_consistent ? "application" : "crash";
  ASSIGN_OR_RETURN(Json answer, control_call(socket, request));
  Json ask = command("mark-outcome");
  ask["id"] = answer.at("id");
  // An order is answered at once; then the daemon is asked until the receiver has the mark, or there is none.
  while (options.wait && answer.at("state").as_string("") != "durable") {
    ASSIGN_OR_RETURN(answer, control_call(socket, ask));
    ::usleep(kMarkAskUs);
  }
  print(options.json ? answer.dump_indented() + "\n" : mark_text(answer));
  if (options.wait && options.application_consistent && answer.at("consistency").as_string("") != "application") {
    return Error(ErrorKind::kRefused, "the mark is crash-consistent only: " + answer.at("reason").as_string(""));
  }
  return ok_status();
}

}  // namespace understudy
