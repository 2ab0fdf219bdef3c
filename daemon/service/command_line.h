// SPDX-License-Identifier: Apache-2.0
// The command line of a daemon: --config, at most one action (none: run), and what belongs to single actions. Parsed by
// Boost.Program_options.
//
// Threads: none of its own; a plain function of its arguments.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// "--name" and what --help says of it.
struct CommandLineWord {
  std::string name;
  std::string help;
  // A switch that is not an action: the action it belongs to.
  std::string belongs_to;
};

// What one daemon's command line may have, beside --config, --check-config, --print-config, --version and --help.
struct CommandLineRules {
  std::string program;         // its name, for messages
  std::string default_config;  // absolute path
  std::string check_help = "check the configuration and the certificates, and exit";
  std::vector<CommandLineWord> actions;
  std::vector<CommandLineWord> switches;
  // Names without dashes: the action they belong to and what they are ("DISK"); empty = there are none.
  std::string operands_belong_to;
  std::string operand;
};

struct CommandLine {
  std::string action;  // "check-config", "probe", ...; empty = run as a daemon
  std::string config;
  bool config_given = false;
  std::set<std::string> switches;
  std::vector<std::string> operands;
};

// kInvalidArgument, naming the argument, what is allowed and the fix.
Result<CommandLine> parse_command_line(const CommandLineRules& rules, int argc, const char* const* argv);

// What --help prints.
std::string command_line_help(const CommandLineRules& rules);

}  // namespace understudy
