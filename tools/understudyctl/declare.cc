// SPDX-License-Identifier: Apache-2.0
// The verbs of protection groups. Each is an edit of the group's file, and nothing else: there is one truth.
#include <algorithm>
#include <cstdio>
#include <map>

#include "daemon/base/atomic_file.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "orchestrator/spec/group_edit.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/declared_file.h"

namespace understudy {

namespace {

using Path = std::vector<std::string>;

Error bad(const std::string& text) { return Error(ErrorKind::kInvalidArgument, text); }

// What a verb sets. `operation` is what the lifecycle calls it: it must be legal now.
struct Verb {
  const char* phase;  // empty = it is left as it is
  const char* operation;
  const char* raised;  // repair_order or restart_order; empty = none
};

const std::map<std::string, Verb>& verbs() {
  static const std::map<std::string, Verb> kVerbs{
      {"start", {"replicating", "start", ""}},
      {"stop", {"stopped", "stop", ""}},
      {"repair", {"replicating", "repair", "repair_order"}},
      {"failover", {"failed-over", "failover", ""}},
      {"confirm", {"confirmed", "confirm", ""}},
      {"reverse-register", {"reverse-initialized", "reverse-register", ""}},
      {"reverse start", {"reverse-replicating", "reverse-start", ""}},
      {"reverse stop", {"reverse-stopped", "reverse-stop", ""}},
      {"reverse restart", {"reverse-replicating", "reverse-restart", ""}},
      {"reverse repair", {"reverse-replicating", "reverse-repair", "repair_order"}},
      {"failback", {"failed-back", "failback", ""}},
      {"register", {"initialized", "register", ""}},
  };
  return kVerbs;
}

Status check_legal(const FoundServer& found, const std::string& operation) {
  std::vector<std::string> legal;
  for (const Json& item : found.server.at("legal").items()) legal.push_back(item.as_string(""));
  if (std::find(legal.begin(), legal.end(), operation) != legal.end()) return ok_status();
  return Error(ErrorKind::kRefused,
               quote(found.server.at("server").as_string("")) + " is " + found.server.at("state").as_string("") +
                   ", where '" + operation +
                   "' is not possible; possible: " + (legal.empty() ? std::string("nothing") : quoted_list(legal)));
}

// Sets keys of a server, one edit after the other.
DeclaredEdit server_edit(const FoundServer& found, std::string what, std::vector<std::pair<Path, YamlText>> values) {
  DeclaredEdit edit;
  edit.group = found.group;
  edit.server = found.server.at("server").as_string("");
  edit.what = edit.server + ": " + std::move(what);
  edit.key = "servers";
  edit.edit = [server = edit.server, values = std::move(values)](const std::string& text,
                                                                 const std::string& file) -> Result<std::string> {
    std::string edited = text;
    for (const auto& [path, value] : values) {
      ASSIGN_OR_RETURN(edited, set_server_key(edited, file, server, path, value));
    }
    return edited;
  };
  return edit;
}

// A number that is raised by one: what it is now stands in the file.
DeclaredEdit with_raised(DeclaredEdit edit, const std::string& key) {
  edit.what += ", " + key + " raised";
  edit.edit = [before = std::move(edit.edit), server = edit.server, key](
                  const std::string& text, const std::string& file) -> Result<std::string> {
    ASSIGN_OR_RETURN(const std::string edited, before(text, file));
    ASSIGN_OR_RETURN(const std::string now, read_group_key(edited, file, server, {key}));
    const std::uint64_t number = parse_unsigned(now.empty() ? "0" : now).value_or(0);
    return set_server_key(edited, file, server, {key}, std::to_string(number + 1));
  };
  return edit;
}

Status run_verb(const ControlOptions& options, const std::string& name, const std::string& server) {
  const Verb& verb = verbs().at(name);
  ASSIGN_OR_RETURN(const FoundServer found, find_declared_server(options, server));
  RETURN_IF_ERROR(check_legal(found, verb.operation));
  std::vector<std::pair<Path, YamlText>> values{{{"phase"}, verb.phase}};
  if (!options.point.empty()) {
    if (name != "failover") return bad("--point means nothing to '" + name + "'");
    values.push_back({{"failover", "point"}, yaml_text(options.point)});
  }
  DeclaredEdit edit = server_edit(found, "phase " + std::string(verb.phase), std::move(values));
  if (*verb.raised != '\0') edit = with_raised(std::move(edit), verb.raised);
  return edit_declared(options, edit);
}

// Goes on where it was stopped; in error, and in real time, it begins anew, which is an order of its own.
Status run_restart_of(const ControlOptions& options, const std::string& server) {
  ASSIGN_OR_RETURN(const FoundServer found, find_declared_server(options, server));
  const std::string state = found.server.at("state").as_string("");
  const bool runs = state == "realtime-replicating";
  RETURN_IF_ERROR(check_legal(found, runs ? "stop" : "restart"));
  DeclaredEdit edit = server_edit(found, "phase replicating", {{{"phase"}, "replicating"}});
  if (runs || state == "replication-error") edit = with_raised(std::move(edit), "restart_order");
  return edit_declared(options, edit);
}

// "2x4GiB" as a flavor.
Result<YamlText> flavor_of(const std::string& text) {
  const std::size_t x = text.find('x');
  const auto vcpus = parse_unsigned(text.substr(0, x));
  if (x == std::string::npos || !vcpus || !parse_bytes(text.substr(x + 1))) {
    return bad("--flavor: " + quote(text) + " is none; for example 2x4GiB, two processors and 4 GiB");
  }
  return "{vcpus: " + std::to_string(*vcpus) + ", memory: " + text.substr(x + 1) + "}";
}

Result<std::vector<std::pair<std::string, YamlText>>> new_server(const ControlOptions& options,
                                                                 const std::string& name) {
  if (options.address.empty() || options.os.empty() || options.flavor.empty() || options.disks.empty()) {
    return bad("server add needs --address, --os FAMILY[:VERSION], --flavor VCPUSxMEMORY and --disks DISK[,DISK]");
  }
  const std::size_t colon = options.os.find(':');
  std::string os = "{family: " + yaml_text(options.os.substr(0, colon));
  if (colon != std::string::npos) os += ", version: '" + options.os.substr(colon + 1) + "'";
  ASSIGN_OR_RETURN(const YamlText flavor, flavor_of(options.flavor));
  std::string disks;
  for (std::size_t begin = 0; begin <= options.disks.size();) {
    const std::size_t end = std::min(options.disks.find(',', begin), options.disks.size());
    disks += (disks.empty() ? "" : ", ") + yaml_text(options.disks.substr(begin, end - begin));
    begin = end + 1;
  }
  return std::vector<std::pair<std::string, YamlText>>{
      {"name", yaml_text(name)},
      {"address", yaml_text(options.address)},
      {"os", os + "}"},
      {"flavor", flavor},
      {"disks", "[" + disks + "]"},
      {"phase", options.phase.empty() ? "initialized" : yaml_text(options.phase)}};
}

}  // namespace

Status run_server_verb(const ControlOptions& options, const std::string& name) {
  if (name == "restart") return run_restart_of(options, options.words[0]);
  return run_verb(options, name, options.words[0]);
}

Status run_failover(const ControlOptions& options) { return run_server_verb(options, "failover"); }
Status run_confirm(const ControlOptions& options) { return run_server_verb(options, "confirm"); }
Status run_reverse_register(const ControlOptions& options) { return run_server_verb(options, "reverse-register"); }
Status run_failback(const ControlOptions& options) { return run_server_verb(options, "failback"); }
Status run_register(const ControlOptions& options) { return run_server_verb(options, "register"); }
Status run_start(const ControlOptions& options) { return run_server_verb(options, "start"); }

Status run_reverse(const ControlOptions& options) {
  const std::string name = "reverse " + options.words[0];
  if (verbs().count(name) == 0) return bad("reverse takes start, stop, restart or repair, and a server");
  return run_verb(options, name, options.words[1]);
}

Status run_drill(const ControlOptions& options) {
  const std::string& verb = options.words[0];
  if (verb != "start" && verb != "clean") return bad("drill takes start or clean, and a server");
  ASSIGN_OR_RETURN(const FoundServer found, find_declared_server(options, options.words[1]));
  RETURN_IF_ERROR(check_legal(found, verb == "start" ? "drill" : "clean-drill"));
  if (verb == "start") {
    const YamlText wanted = options.point.empty() ? "{}" : "{point: " + yaml_text(options.point) + "}";
    return edit_declared(options, server_edit(found, "drill " + wanted, {{{"drill"}, wanted}}));
  }
  DeclaredEdit edit = server_edit(found, "no drill any more", {});
  edit.edit = [server = edit.server](const std::string& text, const std::string& file) {
    return remove_server_key(text, file, server, "drill");
  };
  return edit_declared(options, edit);
}

Status run_change_point(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const FoundServer found, find_declared_server(options, options.words[0]));
  RETURN_IF_ERROR(check_legal(found, "change-point"));
  return edit_declared(
      options, server_edit(found, "point " + options.words[1], {{{"failover", "point"}, yaml_text(options.words[1])}}));
}

Status run_upgrade(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const FoundServer found, find_declared_server(options, options.words[0]));
  return edit_declared(options, server_edit(found, "client_version " + options.words[1],
                                            {{{"client_version"}, yaml_text(options.words[1])}}));
}

Status run_server(const ControlOptions& options) {
  const std::string& verb = options.words[0];
  DeclaredEdit edit;
  edit.key = "servers";
  if (verb == "add" && options.words.size() == 3) {
    ASSIGN_OR_RETURN(const Json group, find_group(options, options.words[1]));
    edit.group = group.at("group").as_string("");
    edit.server = options.words[2];
    edit.what = edit.server + " is added";
    ASSIGN_OR_RETURN(const auto entries, new_server(options, edit.server));
    edit.edit = [entries = entries](const std::string& text, const std::string& file) {
      return add_server(text, file, entries);
    };
    return edit_declared(options, edit);
  }
  if (verb != "remove" || options.words.size() != 2) {
    return bad("server takes 'add', a group and a name, or 'remove' and a name");
  }
  ASSIGN_OR_RETURN(const FoundServer found, find_declared_server(options, options.words[1]));
  edit.group = found.group;
  edit.server = options.words[1];
  edit.what = edit.server + " is taken out; the server itself stays";
  edit.edit = [server = edit.server](const std::string& text, const std::string& file) {
    return remove_server(text, file, server);
  };
  return edit_declared(options, edit);
}

Status run_group_change(const ControlOptions& options) {
  const std::string& verb = options.words[0];
  if (verb == "create") {
    ASSIGN_OR_RETURN(const std::string text, read_file(options.words[2], kConfigFileBytesMax));
    return create_group(options, options.words[1], text);
  }
  ASSIGN_OR_RETURN(const Json group, find_group(options, options.words[1]));
  const std::string id = group.at("group").as_string("");
  if (verb == "delete") {
    if (!group.at("servers").items().empty()) {
      return Error(ErrorKind::kRefused, "group " + quote(id) + " still has " +
                                            std::to_string(group.at("servers").items().size()) +
                                            " servers; take them out first: understudyctl server remove");
    }
    return delete_group(options, id);
  }
  DeclaredEdit edit;
  edit.group = id;
  if (verb == "rename") {
    edit.key = "name";
    edit.what = "name " + options.words[2];
    edit.edit = [name = options.words[2]](const std::string& text, const std::string& file) {
      return set_group_key(text, file, {"name"}, yaml_text(name));
    };
    return edit_declared(options, edit);
  }
  edit.key = "mark";
  edit.what = "mark " + options.words[2];
  const std::string consistency = options.application_consistent ? "application" : "crash";
  edit.edit = [label = options.words[2], consistency](const std::string& text,
                                                      const std::string& file) -> Result<std::string> {
    ASSIGN_OR_RETURN(const std::string labelled, set_group_key(text, file, {"mark", "label"}, yaml_text(label)));
    return set_group_key(labelled, file, {"mark", "consistency"}, consistency);
  };
  return edit_declared(options, edit);
}

}  // namespace understudy
