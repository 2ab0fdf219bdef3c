// SPDX-License-Identifier: Apache-2.0
// Commands for the orchestrator: plan, tasks, approve, group.
#include <algorithm>
#include <cstdio>
#include <iterator>

#include "daemon/base/text.h"
#include "daemon/control/control_client.h"
#include "tools/understudyctl/caller.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/declared_file.h"

namespace understudy {

namespace {

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

Result<Json> ask(const ControlOptions& options, Json request) {
  return control_call(options.socket.empty() ? kOrchestratorSocket : options.socket, request);
}

Json command(const char* name) {
  Json request;
  request["command"] = name;
  return request;
}

std::string padded(std::string text, std::size_t width) {
  if (text.size() < width) text.resize(width, ' ');
  return text + " ";
}

std::string task_line(const Json& task) {
  const std::uint64_t begun_ns = task.at("begun_ns").as_unsigned(0);
  const std::uint64_t ended_ns = task.at("ended_ns").as_unsigned(0);
  const std::string state = task.at("state").as_string("");
  std::string text = padded(std::to_string(task.at("id").as_unsigned(0)), 6) +
                     padded(format_time_local(begun_ns), 23) + padded(printable(task.at("group").as_string("")), 16) +
                     padded(printable(task.at("server").as_string("")), 16) +
                     padded(task.at("operation").as_string(""), 16) + padded(state, 6);
  if (state == "open") {
    text += std::to_string(task.at("progress_permille").as_unsigned(0) / 10) + " % ";
  } else if (ended_ns >= begun_ns) {
    text += format_duration_ns(ended_ns - begun_ns) + " ";
  }
  for (const char* key : {"step", "error"}) {
    if (const std::string more = task.at(key).as_string(""); !more.empty()) text += " " + printable(more);
  }
  return text + "\n";
}

// What is worth knowing of a server's nodes beside its state.
std::string node_text(const Json& node) {
  if (!node.is_object()) return "";
  std::string text;
  if (node.at("agent_connected").as_bool(false)) {
    if (!node.at("rpo_ns").is_null()) text += ", RPO " + format_duration_ns(node.at("rpo_ns").as_unsigned(0));
    if (const std::uint64_t backlog = node.at("backlog_bytes").as_unsigned(0); backlog > 0) {
      text += ", " + format_bytes(backlog) + " to send";
    }
  } else {
    const std::uint64_t contact_ns = node.at("contact_time_ns").as_unsigned(0);
    text += contact_ns == 0 ? ", its agent was not heard of" : ", last contact " + format_time_local(contact_ns);
  }
  if (node.at("fenced").as_bool(false)) text += ", fenced";
  for (const char* key : {"error", "trouble"}) {
    if (const std::string more = node.at(key).as_string(""); !more.empty()) text += ", " + printable(more);
  }
  return text;
}

std::string group_text(const Json& group) {
  std::string text = "group " + printable(group.at("group").as_string("")) + " (" +
                     printable(group.at("name").as_string("")) + "), region " +
                     printable(group.at("region").as_string("")) + ", " +
                     printable(group.at("production_zone").as_string("")) + " -> " +
                     printable(group.at("recovery_zone").as_string("")) + "\n";
  for (const Json& server : group.at("servers").items()) {
    text += "  " + padded(printable(server.at("server").as_string("")), 20) +
            padded(server.at("state").as_string(""), 28) + "declared " + server.at("declared").as_string("");
    if (const std::string drill = server.at("drill").as_string(""); !drill.empty()) text += ", " + drill;
    text += node_text(server.at("node")) + "\n";
  }
  if (group.at("servers").items().empty()) text += "  no servers\n";
  return text;
}

}  // namespace

Status run_plan(const ControlOptions& options) {
  Json request = command("plan");
  if (!options.words.empty()) request["group"] = options.words[0];
  auto plans = ask(options, request);
  if (!plans.ok() && plans.error().kind() == ErrorKind::kNotFound && !options.words.empty()) {
    // No group of that name: a server, perhaps.
    request = command("plan");
    request["server"] = options.words[0];
    plans = ask(options, request);
  }
  if (!plans.ok()) return std::move(plans).error();
  if (options.json) {
    print(plans->dump_indented() + "\n");
    return ok_status();
  }
  for (const Json& plan : plans->items()) print(plan.at("text").as_string(""));
  if (plans->items().empty()) print("no groups are declared\n");
  return ok_status();
}

Status run_tasks(const ControlOptions& options) {
  Json request = command("tasks");
  if (!options.group.empty()) request["group"] = options.group;
  if (!options.server.empty()) request["server"] = options.server;
  if (!options.operation.empty()) request["operation"] = options.operation;
  if (!options.state.empty()) request["state"] = options.state;
  if (options.count > 0) request["count"] = std::uint64_t{options.count};
  ASSIGN_OR_RETURN(const Json tasks, ask(options, request));
  if (options.json) {
    print(tasks.dump_indented() + "\n");
    return ok_status();
  }
  for (const Json& task : tasks.items()) print(task_line(task));
  return ok_status();
}

Status run_approve(const ControlOptions& options) {
  Json request = command("approve");
  request["object"] = options.words[0];
  request["by"] = calling_user();
  ASSIGN_OR_RETURN(const Json answer, ask(options, request));
  print(options.json ? answer.dump_indented() + "\n" : "approved " + printable(options.words[0]) + "\n");
  return ok_status();
}

Status run_group(const ControlOptions& options) {
  struct Form {
    const char* verb;
    std::size_t words_min;
    std::size_t words_max;
    const char* behind;
  };
  constexpr Form kForms[] = {{"list", 1, 2, "letters of names at most"}, {"show", 2, 2, "the name of a group"},
                             {"create", 3, 3, "a short name and a file"}, {"rename", 3, 3, "a group and a name"},
                             {"delete", 2, 2, "a group"}, {"mark", 3, 3, "a group and a label"}};
  const std::string& verb = options.words[0];
  const auto form =
      std::find_if(std::begin(kForms), std::end(kForms), [&](const Form& one) { return one.verb == verb; });
  if (form == std::end(kForms)) {
    return Error(ErrorKind::kInvalidArgument, "unknown command 'group " + printable(verb) +
                                                  "'; wanted list, show, create, rename, delete or mark");
  }
  if (options.words.size() < form->words_min || options.words.size() > form->words_max) {
    return Error(ErrorKind::kInvalidArgument, "'group " + verb + "' takes " + form->behind);
  }
  if (verb != "list" && verb != "show") return run_group_change(options);
  Json request = command(verb == "show" ? "group" : "groups");
  if (verb == "show") request["group"] = options.words[1];
  ASSIGN_OR_RETURN(Json answer, ask(options, request));
  if (verb == "list" && options.words.size() == 2) {
    Json alike = Json::array();
    for (const Json& group : answer.items()) {
      const bool fits = is_like(group.at("group").as_string(""), options.words[1]) ||
                        is_like(group.at("name").as_string(""), options.words[1]);
      if (fits) alike.push_back(group);
    }
    answer = std::move(alike);
  }
  if (options.json) {
    print(answer.dump_indented() + "\n");
  } else if (verb == "show") {
    print(group_text(answer));
  } else {
    for (const Json& group : answer.items()) print(group_text(group));
    if (answer.items().empty()) print("no such groups are declared\n");
  }
  return ok_status();
}

}  // namespace understudy
