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
// Stops, restarts or repairs the replication of this machine's agent; prints the state it is then in.
Status run_stop(const ControlOptions& options);
Status run_restart(const ControlOptions& options);
Status run_repair(const ControlOptions& options);
// pki init | issue | show
Status run_pki(const ControlOptions& options);
// The orchestrator's plan of all groups, a group or a server; its tasks; an approval of what a step destroys; groups.
Status run_plan(const ControlOptions& options);
Status run_tasks(const ControlOptions& options);
Status run_approve(const ControlOptions& options);
Status run_group(const ControlOptions& options);  // group list | show
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
