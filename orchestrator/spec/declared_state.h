// SPDX-License-Identifier: Apache-2.0
// All of /etc/understudy/groups.d: the groups, and the rules between them.
//
// Reading files and judging them are two steps, so that the texts of the state in force can be kept (and judged again
// after a restart, when the files on disk have become wrong). Not thread-safe, but each call stands for itself.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/result.h"
#include "orchestrator/spec/group_spec.h"

namespace understudy {

// One group's file and its drop-ins (<file>.d/*.yaml, by name), as text.
struct DeclaredSource {
  std::string id;                                          // the file's name without .yaml
  std::vector<std::pair<std::string, std::string>> files;  // path and text, in order of merging
  std::string problem;                                     // a file that cannot be read: "path: why"
  bool operator==(const DeclaredSource&) const = default;
};

struct DeclaredState {
  std::vector<GroupSpec> groups;      // by id
  std::vector<std::string> warnings;  // "file:line:column: ..."

  const GroupSpec* find_group(std::string_view id) const;
  // The group that has the server, or nullptr.
  const GroupSpec* group_of(std::string_view server) const;
};

struct DeclaredOptions {
  std::map<std::string, std::uint32_t> quotas;  // clients of a region; others have kQuotaDefault
};

// Reads a directory. An error only when the directory itself cannot be read; files that cannot be are in `problem`.
Result<std::vector<DeclaredSource>> read_declared_sources(const std::string& directory);

// kInvalidConfig: every mistake of every file, one line each, "file:line:column: message".
Result<DeclaredState> parse_declared_state(const std::vector<DeclaredSource>& sources, const DeclaredOptions& options);

// What is known of the servers already, whatever the files say.
struct KnownServers {
  std::map<std::string, std::string> group_of;  // server -> id of its group, until its de-registration has ended
};

// Rules for the step from one state to the next: at most ten servers added to a group, no server in two groups at a
// time, no group taken away that still has servers, sites fixed while there are servers. `before` may be empty.
Status check_declared_change(const DeclaredState& before, const KnownServers& known, const DeclaredState& next);

}  // namespace understudy
