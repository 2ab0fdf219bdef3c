// SPDX-License-Identifier: Apache-2.0
// The way of a daemon's program from its command line to its work: --help and --version, then the configuration, then
// an action or the daemon itself. Mistakes of the configuration go to the journal when the daemon was to run and to
// stderr when a person asked.
//
// Threads: main only, before any other is started.
#pragma once

#include <optional>
#include <string>

#include "daemon/base/result.h"
#include "daemon/service/command_line.h"

namespace understudy {

class DaemonProgram {
 public:
  virtual ~DaemonProgram() = default;

  virtual CommandLineRules rules() const = 0;
  // Reads the configuration and keeps it; `printed` = what --print-config prints.
  virtual Status load_config(const std::string& path, std::string& printed) = 0;
  // Whether what the configuration names can be used, for --check-config.
  virtual Status check_config() = 0;
  // An action that needs no configuration: its exit status; nullopt = all others.
  virtual std::optional<int> act_without_config(const CommandLine&) { return std::nullopt; }
  // An action of the program's own, or, without one, the daemon until it ends; the exit status.
  virtual int act(const CommandLine& line) = 0;
};

// The exit status of the program.
int run_daemon_program(DaemonProgram& program, int argc, const char* const* argv);

// "understudy-agent 1.2": what --version says and a peer is told.
std::string software_name(const std::string& program);

}  // namespace understudy
