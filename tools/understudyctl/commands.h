// SPDX-License-Identifier: Apache-2.0
// The commands of understudyctl. Each prints its result on stdout and returns an Error for the caller to print.
#pragma once

#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

inline constexpr char kAgentSocket[] = "/run/understudy/agent.sock";
inline constexpr char kReceiverSocket[] = "/run/understudy/receiver.sock";
inline constexpr char kOrchestratorSocket[] = "/run/understudy/orchestrator.sock";
inline constexpr char kReceiverConfig[] = "/etc/understudy/receiver.yaml";
inline constexpr char kViewsDirectory[] = "/run/understudy/views";

struct ControlOptions {
  std::string socket;              // empty = the daemons' usual ones
  std::vector<std::string> words;  // what follows the command
  std::string directory;           // of an authority
  std::string role;
  std::string lifetime;      // of an enrolment token
  std::string orchestrator;  // where to enrol
  bool dry_run = false;
  std::string point;         // of a drill or a failover
  std::string address;       // of a new server, as the next four
  std::string os;
  std::string flavor;
  std::string disks;
  std::string phase;
  std::string name;
  std::string out;
  int days = 0;  // 0 = the usual
  bool json = false;
  std::string label;
  bool application_consistent = false;
  bool wait = false;
  // which tasks
  std::string group;
  std::string server;
  std::string operation;
  std::string state;
  unsigned count = 0;  // 0 = the usual
  std::string store;   // directory of a store; empty = as the receiver's configuration says
  std::string config;  // of the receiver; empty = kReceiverConfig
  std::string views;   // where open views are noted; empty = kViewsDirectory
  std::string disk;    // slot or name; empty = all
  bool force = false;
  std::string to;        // target of a restore
  std::string format;    // "raw" or "qcow2"; empty = by the target's name
  bool overwrite = false;
  std::string plot;      // points: "text" or "svg"; empty = the list
  bool files = false;  // diff by files, not by blocks
};

// Asks the daemon at options.socket, or both daemons of this machine. kNotFound = none of them runs.
Status run_status(const ControlOptions& options);
// Asks the agent to put a named point into the stream; with `wait` prints what became of it, kRefused = it is less
// than what was asked for.
Status run_mark(const ControlOptions& options);
// Stops, restarts or repairs the replication of this machine's agent, and prints the state it is then in; with a
// server, as run_server_verb().
Status run_stop(const ControlOptions& options);
Status run_restart(const ControlOptions& options);
Status run_repair(const ControlOptions& options);
// pki init | issue | show
Status run_pki(const ControlOptions& options);
// The orchestrator's plan of all groups, a group or a server; its tasks; an approval of what a step destroys; groups.
Status run_plan(const ControlOptions& options);
Status run_tasks(const ControlOptions& options);
Status run_approve(const ControlOptions& options);
Status run_group(const ControlOptions& options);  // group list | show | create | rename | delete | mark
// Those of them that change something, by an edit of the group's file.
Status run_group_change(const ControlOptions& options);
// Verbs of servers, each an edit of their group's file (declared_file.h).
Status run_server_verb(const ControlOptions& options, const std::string& verb);
Status run_server(const ControlOptions& options);  // server add | remove
Status run_start(const ControlOptions& options);
Status run_drill(const ControlOptions& options);  // drill start | clean
Status run_failover(const ControlOptions& options);
Status run_change_point(const ControlOptions& options);
Status run_confirm(const ControlOptions& options);
Status run_reverse_register(const ControlOptions& options);
Status run_reverse(const ControlOptions& options);  // reverse start | stop | restart | repair
Status run_failback(const ControlOptions& options);
Status run_register(const ControlOptions& options);
Status run_upgrade(const ControlOptions& options);
// A token for a node; its use on the node; nodes as the orchestrator knows them.
Status run_enroll_token(const ControlOptions& options);
Status run_enroll(const ControlOptions& options);
Status run_node(const ControlOptions& options);  // node list | forget
// The points of a server or of a store directory.
Status run_points(const ControlOptions& options);
// view open | list | close: a point as NBD exports on a Unix socket.
Status run_view(const ControlOptions& options);
// mount SERVER@POINT DIRECTORY, umount DIRECTORY: its file systems, read-only.
Status run_mount(const ControlOptions& options);
Status run_umount(const ControlOptions& options);
// restore SERVER@POINT --to FILE|DEVICE
Status run_point_restore(const ControlOptions& options);
// diff SERVER@POINT SERVER@POINT
Status run_diff(const ControlOptions& options);

}  // namespace understudy
