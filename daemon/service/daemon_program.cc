// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/daemon_program.h"

#include <cstdio>

#include "daemon/base/exit_code.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/version.h"

namespace understudy {

namespace {

int report(const Error& error, const CommandLine& line) {
  if (line.action.empty()) {
    log_error(kMessageConfigInvalid, error);
  } else {
    std::fprintf(stderr, "%s\n", error.message().c_str());
  }
  // A missing or unreadable file is a matter of configuration, too.
  return error.kind() == ErrorKind::kPermission ? kExitNoPermission : kExitBadConfig;
}

}  // namespace

std::string software_name(const std::string& program) { return program + " " + std::string(version()); }

int run_daemon_program(DaemonProgram& program, int argc, const char* const* argv) {
  const CommandLineRules rules = program.rules();
  const Result<CommandLine> line = parse_command_line(rules, argc, argv);
  if (!line.ok()) {
    std::fprintf(stderr, "%s: %s\n", rules.program.c_str(), line.error().message().c_str());
    return kExitBadArguments;
  }
  if (line->action == "help") {
    std::fputs(command_line_help(rules).c_str(), stdout);
    return kExitOk;
  }
  if (line->action == "version") {
    std::printf("%s\n", software_name(rules.program).c_str());
    return kExitOk;
  }
  log_init(rules.program.c_str(), LogLevel::kInfo);
  if (const auto status = program.act_without_config(*line)) return *status;
  std::string printed;
  if (const Status status = program.load_config(line->config, printed); !status.ok()) {
    return report(status.error(), *line);
  }
  if (line->action == "print-config") {
    std::fputs(printed.c_str(), stdout);
    return kExitOk;
  }
  if (line->action == "check-config") {
    const Status status = program.check_config();
    return status.ok() ? kExitOk : report(status.error(), *line);
  }
  return program.act(*line);
}

}  // namespace understudy
