// SPDX-License-Identifier: Apache-2.0
// A group's file under the hands of a command: found through the orchestrator, edited in place, judged before it is
// written, and followed until what it asks for is there.
#pragma once

#include <functional>
#include <string>

#include "daemon/base/result.h"
#include "daemon/control/json.h"
#include "tools/understudyctl/commands.h"

namespace understudy {

Result<Json> ask_orchestrator(const ControlOptions& options, const Json& request);

// A group as the orchestrator knows it, by id, by name, or by the only name that `word` is like.
Result<Json> find_group(const ControlOptions& options, const std::string& word);
// {"group": id, "server": {...}} of a server.
struct FoundServer {
  std::string group;
  Json server;
};
Result<FoundServer> find_declared_server(const ControlOptions& options, const std::string& name);

// Whether the letters of `word` come in `text` in their order, whatever their case.
bool is_like(const std::string& text, const std::string& word);

struct DeclaredEdit {
  std::string group;   // its id
  std::string server;  // that it is about; empty = the whole group
  std::string what;    // "web-1: phase replicating -> stopped"
  // The top-level key of the file that is edited; one that a drop-in sets, too, is refused.
  std::string key;
  // The file's new text. `file` is its path, for messages.
  std::function<Result<std::string>(const std::string& text, const std::string& file)> edit;
};

// Edits, has the orchestrator judge the result, prints what will happen; writes unless --dry-run, and with --wait
// returns when nothing is left to be done: kRefused when that needs an approval or cannot be reached.
Status edit_declared(const ControlOptions& options, const DeclaredEdit& edit);

// A new group's file; kAlreadyExists when there is one.
Status create_group(const ControlOptions& options, const std::string& group, const std::string& text);
// Takes the file of a group without servers away.
Status delete_group(const ControlOptions& options, const std::string& group);

}  // namespace understudy
