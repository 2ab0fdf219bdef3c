// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/declared_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <vector>

#include "daemon/base/atomic_file.h"
#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/control/control_client.h"
#include "orchestrator/spec/group_edit.h"

namespace understudy {

namespace {

constexpr unsigned kPollMicroseconds = 200'000;
// Files that changed are read again within a second; nobody sees to it when it takes longer than this.
constexpr std::uint64_t kTakenNsMax = 30'000'000'000;

Json command(const char* name) {
  Json request = Json::object();
  request["command"] = name;
  return request;
}

Result<Json> preview(const ControlOptions& options, const std::string& group, const std::string& server, Json text) {
  Json request = command("preview");
  request["group"] = group;
  request["server"] = server;
  request["text"] = std::move(text);
  return ask_orchestrator(options, request);
}

// The declaration that is in force for a group; kNotFound when there is none.
Result<Json> files_in_force(const ControlOptions& options, const std::string& group) {
  Json request = command("declaration");
  request["group"] = group;
  return ask_orchestrator(options, request);
}

void show(const ControlOptions& options, const std::string& what, const std::string& file, const Json& plan) {
  if (options.json) {
    Json json = Json::object();
    json["file"] = file;
    json["change"] = what;
    json["written"] = !options.dry_run;
    json["plan"] = plan;
    std::printf("%s\n", json.dump_indented().c_str());
    return;
  }
  std::printf("%s: %s\n%s", file.c_str(), what.c_str(), plan.at("text").as_string("").c_str());
  if (options.dry_run) std::printf("nothing was written\n");
}

// With the owner and mode of the file that is replaced; a link keeps pointing to it.
Status write_in_place(const std::string& path, const std::string& text) {
  std::error_code error;
  const std::string real = std::filesystem::weakly_canonical(path, error).string();
  if (error) return Error::from_errno(error.value(), "find " + quote(path));
  struct stat old {};
  const bool is_new = ::stat(real.c_str(), &old) != 0;
  if (is_new && errno != ENOENT) return Error::from_errno(errno, "look at " + quote(real));
  RETURN_IF_ERROR(write_file_atomically(real, text, is_new ? 0644 : old.st_mode & 07777));
  if (!is_new && (old.st_uid != ::geteuid() || old.st_gid != ::getegid()) &&
      ::chown(real.c_str(), old.st_uid, old.st_gid) != 0) {
    return Error::from_errno(errno, "give " + quote(real) + " back to its owner");
  }
  return ok_status();
}

// Until the orchestrator has taken the text over (empty = the group is gone).
Status wait_until_taken(const ControlOptions& options, const std::string& group, const std::string& text) {
  const std::uint64_t end_ns = system_clock().boot_ns() + kTakenNsMax;
  while (true) {
    const auto files = files_in_force(options, group);
    if (!files.ok() && files.error().kind() != ErrorKind::kNotFound) return files.error();
    const std::string now = files.ok() && !files->items().empty() ? files->items()[0].at("text").as_string("") : "";
    if (now == text) return ok_status();
    if (system_clock().boot_ns() > end_ns) {
      return Error(ErrorKind::kTimeout,
                   "the file is written, but the orchestrator does not take it over; its log says "
                   "why");
    }
    ::usleep(kPollMicroseconds);
  }
}

// Why nothing more will happen by itself; "" = something may.
std::string standstill_of(const Json& server) {
  if (const std::string blocked = server.at("blocked").as_string(""); !blocked.empty()) return blocked;
  for (const Json& step : server.at("steps").items()) {
    if (!step.at("destroys").as_string("").empty() && !step.at("approved").as_bool(true)) {
      return "it waits for 'understudyctl approve " + step.at("destroys").as_string("") + "'";
    }
    break;  // later ones are no matter yet
  }
  return "";
}

Result<bool> is_settled(const ControlOptions& options, const DeclaredEdit& edit, std::uint64_t since_ns) {
  Json request = command("plan");
  request["group"] = edit.group;
  ASSIGN_OR_RETURN(const Json plans, ask_orchestrator(options, request));
  bool settled = true;
  for (const Json& plan : plans.items()) {
    for (const Json& server : plan.at("servers").items()) {
      if (!edit.server.empty() && server.at("server").as_string("") != edit.server) continue;
      if (const std::string why = standstill_of(server); !why.empty()) {
        return Error(ErrorKind::kRefused, printable(server.at("server").as_string("")) + ": " + why);
      }
      settled = settled && server.at("steps").items().empty() && server.at("waits_for").is_null();
    }
  }
  Json tasks = command("tasks");
  tasks["group"] = edit.group;
  tasks["since_ns"] = since_ns;
  if (!edit.server.empty()) tasks["server"] = edit.server;
  ASSIGN_OR_RETURN(const Json found, ask_orchestrator(options, tasks));
  for (const Json& task : found.items()) {
    const std::string state = task.at("state").as_string("");
    if (state == "failed") {
      return Error(ErrorKind::kRefused, task.at("operation").as_string("") + " of " +
                                            printable(task.at("server").as_string("")) +
                                            " failed: " + printable(task.at("error").as_string("")));
    }
    settled = settled && state != "open";
  }
  return settled;
}

Status wait_until_settled(const ControlOptions& options, const DeclaredEdit& edit, std::uint64_t since_ns) {
  while (true) {
    ASSIGN_OR_RETURN(const bool settled, is_settled(options, edit, since_ns));
    if (settled) return ok_status();
    ::usleep(kPollMicroseconds);
  }
}

Status refuse_drop_ins(const Json& files, const std::string& key) {
  for (std::size_t i = 1; i < files.items().size(); ++i) {
    const Json& file = files.items()[i];
    const std::string path = file.at("path").as_string("");
    ASSIGN_OR_RETURN(const std::vector<std::string> keys, group_keys(file.at("text").as_string(""), path));
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) continue;
    return Error(ErrorKind::kInvalidArgument, quote(path) + " sets '" + key + "', which counts; edit it there by hand");
  }
  return ok_status();
}

}  // namespace

Result<Json> ask_orchestrator(const ControlOptions& options, const Json& request) {
  return control_call(options.socket.empty() ? kOrchestratorSocket : options.socket, request);
}

bool is_like(const std::string& text, const std::string& word) {
  std::size_t at = 0;
  for (const char wanted : word) {
    const auto low = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
    while (at < text.size() && low(text[at]) != low(wanted)) ++at;
    if (at++ >= text.size()) return false;
  }
  return true;
}

Result<Json> find_group(const ControlOptions& options, const std::string& word) {
  ASSIGN_OR_RETURN(const Json groups, ask_orchestrator(options, command("groups")));
  std::vector<Json> alike;
  std::vector<std::string> names;
  for (const Json& group : groups.items()) {
    const std::string id = group.at("group").as_string("");
    const std::string name = group.at("name").as_string("");
    if (id == word || name == word) return group;
    if (!is_like(id, word) && !is_like(name, word)) continue;
    alike.push_back(group);
    names.push_back(id);
  }
  if (alike.size() == 1) return alike[0];
  return Error(ErrorKind::kInvalidArgument,
               alike.empty() ? "no group " + quote(word) : quote(word) + " may be " + quoted_list(names));
}

Result<FoundServer> find_declared_server(const ControlOptions& options, const std::string& name) {
  ASSIGN_OR_RETURN(const Json groups, ask_orchestrator(options, command("groups")));
  std::vector<std::string> known;
  for (const Json& group : groups.items()) {
    for (const Json& server : group.at("servers").items()) {
      if (server.at("server").as_string("") == name) return FoundServer{group.at("group").as_string(""), server};
      known.push_back(server.at("server").as_string(""));
    }
  }
  const auto near = nearest_word(name, known);
  return Error(ErrorKind::kInvalidArgument,
               "no server " + quote(name) + " in any group" + (near ? "; did you mean '" + *near + "'?" : ""));
}

Status edit_declared(const ControlOptions& options, const DeclaredEdit& edit) {
  ASSIGN_OR_RETURN(const Json files, files_in_force(options, edit.group));
  if (files.items().empty()) return Error(ErrorKind::kInternal, "the group has no file");
  RETURN_IF_ERROR(refuse_drop_ins(files, edit.key));
  const std::string path = files.items()[0].at("path").as_string("");
  // As it stands there now: what somebody else has just written is not written over.
  ASSIGN_OR_RETURN(const std::string before, read_file(path, kConfigFileBytesMax));
  ASSIGN_OR_RETURN(const std::string after, edit.edit(before, path));
  ASSIGN_OR_RETURN(const Json plan, preview(options, edit.group, edit.server, after));
  show(options, before == after ? edit.what + " (as it is already)" : edit.what, path, plan);
  if (options.dry_run) return ok_status();
  const std::uint64_t since_ns = system_clock().wall_ns();
  if (before != after) RETURN_IF_ERROR(write_in_place(path, after));
  if (!options.wait) return ok_status();
  RETURN_IF_ERROR(wait_until_taken(options, edit.group, after));
  return wait_until_settled(options, edit, since_ns);
}

Status create_group(const ControlOptions& options, const std::string& group, const std::string& text) {
  ASSIGN_OR_RETURN(const Json status, ask_orchestrator(options, command("status")));
  const std::string path = status.at("groups_directory").as_string("") + "/" + group + ".yaml";
  if (::access(path.c_str(), F_OK) == 0) {
    return Error(ErrorKind::kAlreadyExists, quote(path) + " exists already and is not overwritten");
  }
  ASSIGN_OR_RETURN(const Json plan, preview(options, group, "", text));
  show(options, "group " + quote(group) + " is made", path, plan);
  if (options.dry_run) return ok_status();
  const std::uint64_t since_ns = system_clock().wall_ns();
  RETURN_IF_ERROR(write_in_place(path, text));
  if (!options.wait) return ok_status();
  RETURN_IF_ERROR(wait_until_taken(options, group, text));
  DeclaredEdit all;
  all.group = group;
  return wait_until_settled(options, all, since_ns);
}

Status delete_group(const ControlOptions& options, const std::string& group) {
  ASSIGN_OR_RETURN(const Json files, files_in_force(options, group));
  if (files.items().size() > 1) {
    return Error(ErrorKind::kInvalidArgument, "group " + quote(group) + " has drop-ins, as " +
                                                  quote(files.items()[1].at("path").as_string("")) +
                                                  "; take them away first");
  }
  const std::string path = files.items().empty() ? "" : files.items()[0].at("path").as_string("");
  ASSIGN_OR_RETURN(const Json plan, preview(options, group, "", Json()));
  show(options, "group " + quote(group) + " is taken away", path, plan);
  if (options.dry_run) return ok_status();
  if (::unlink(path.c_str()) != 0) return Error::from_errno(errno, "remove " + quote(path));
  if (!options.wait) return ok_status();
  return wait_until_taken(options, group, "");
}

}  // namespace understudy
