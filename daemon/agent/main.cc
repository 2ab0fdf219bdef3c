// SPDX-License-Identifier: Apache-2.0
// understudy-agent: captures the writes of this machine's disks and ships them to a receiver.
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/agent/agent.h"
#include "daemon/agent/agent_config.h"
#include "daemon/base/clock.h"
#include "daemon/base/exit_code.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/version.h"
#include "daemon/control/control_client.h"
#include "daemon/marks/freeze_guard.h"
#include "daemon/tracker/bpf_tracker.h"
#include "daemon/tracker/probe.h"
#include "daemon/wire/tls_context.h"

namespace understudy {
namespace {

constexpr const char* kProgram = "understudy-agent";
constexpr const char* kDefaultConfig = "/etc/understudy/agent.yaml";

// What --version says and the receiver is told.
std::string software() { return std::string(kProgram) + " " + std::string(version()); }

enum class Action { kRun, kProbe, kDetach, kCheckConfig, kPrintConfig, kVersion, kHelp };

struct Arguments {
  Action action = Action::kRun;
  std::string config = kDefaultConfig;
  bool config_given = false;
  bool json = false;
  std::vector<std::string> disks;  // for --probe
};

void print_help(std::FILE* out) {
  std::fprintf(out,
               "usage: %s [--config FILE]\n"
               "       %s --probe [--json] [--config FILE | DISK...]\n"
               "       %s --detach | --check-config | --print-config [--config FILE]\n"
               "\n"
               "  --config FILE     configuration (default %s)\n"
               "  --probe           say how writes to the disks named can be captured here; exit status 5: not\n"
               "  --json            ... for machines\n"
               "  --detach          end capture for good and remove what it keeps in the kernel; a running agent\n"
               "                    first sends what is captured\n"
               "  --check-config    check the configuration and the certificates, and exit\n"
               "  --print-config    print the configuration with its drop-ins and defaults, and exit\n"
               "  --version         print the version, and exit\n",
               kProgram, kProgram, kProgram, kDefaultConfig);
}

std::optional<Arguments> parse_arguments(int argc, char** argv) {
  Arguments arguments;
  bool have_action = false;
  const auto set_action = [&](Action action) {
    if (have_action) {
      std::fprintf(stderr, "%s: only one of --probe, --detach, --check-config, --print-config can be done\n", kProgram);
      return false;
    }
    have_action = true;
    arguments.action = action;
    return true;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    bool good = true;
    if (argument == "--config") {
      if (++i == argc) {
        std::fprintf(stderr, "%s: --config needs a file name\n", kProgram);
        return std::nullopt;
      }
      arguments.config = argv[i];
      arguments.config_given = true;
    } else if (argument.starts_with("--config=")) {
      arguments.config = argument.substr(9);
      arguments.config_given = true;
    } else if (argument == "--json") {
      arguments.json = true;
    } else if (argument == "--probe") {
      good = set_action(Action::kProbe);
    } else if (argument == "--detach") {
      good = set_action(Action::kDetach);
    } else if (argument == "--check-config") {
      good = set_action(Action::kCheckConfig);
    } else if (argument == "--print-config") {
      good = set_action(Action::kPrintConfig);
    } else if (argument == "--version") {
      good = set_action(Action::kVersion);
    } else if (argument == "--help" || argument == "-h") {
      good = set_action(Action::kHelp);
    } else if (!argument.starts_with("-")) {
      arguments.disks.emplace_back(argument);
    } else {
      std::fprintf(stderr, "%s: unknown argument '%s'; --help lists them\n", kProgram, argv[i]);
      return std::nullopt;
    }
    if (!good) return std::nullopt;
  }
  if (!arguments.disks.empty() && arguments.action != Action::kProbe) {
    std::fprintf(stderr, "%s: '%s': disks can be named with --probe only; else they stand in the configuration\n",
                 kProgram, arguments.disks.front().c_str());
    return std::nullopt;
  }
  if (arguments.json && arguments.action != Action::kProbe) {
    std::fprintf(stderr, "%s: --json goes with --probe only\n", kProgram);
    return std::nullopt;
  }
  return arguments;
}

// Whether the certificates that the configuration names can be used.
Status check_certificates(const AgentConfig& config) {
  ASSIGN_OR_RETURN(const auto context, TlsContext::load(config.tls, TlsSide::kClient));
  const Result<WireIdentity>& own = context->own_identity();
  if (!own.ok()) return Error(ErrorKind::kInvalidConfig, own.error().message());
  if (!(*own == WireIdentity{WireRole::kAgent, config.server})) {
    return Error(ErrorKind::kInvalidConfig, "'" + config.tls.certificate + "' is the certificate of " + own->to_text() +
                                                ", not of agent '" + config.server + "'");
  }
  if (context->own_not_after_ns() <= system_clock().wall_ns()) {
    return Error(ErrorKind::kInvalidConfig, "'" + config.tls.certificate + "' has expired");
  }
  return ok_status();
}

// Through the running agent if there is one, so that what is captured is sent before; else directly.
int detach(const AgentConfig& config) {
  Json request = Json::object();
  request["command"] = "detach";
  const auto answer = control_call(config.control_socket, request);
  if (answer.ok()) return kExitOk;
  if (answer.error().kind() != ErrorKind::kNotFound) {
    log_error(kMessageCaptureFailed, Error(answer.error()).with_context("detach by the running agent"));
    return exit_code_of(answer.error().kind());
  }
  if (Status status = remove_bpf_capture(config.bpffs, config.server); !status.ok()) {
    log_error(kMessageCaptureFailed, Error(status.error()).with_context("detach"));
    return status.error().kind() == ErrorKind::kNotFound ? kExitNotRunning : exit_code_of(status.error().kind());
  }
  log_message(LogLevel::kInfo, kMessageCaptureDetached,
              "capture for server '" + config.server + "' ended: writes from now on are not protected");
  return kExitOk;
}

int with_config(const Arguments& arguments) {
  std::string printed;
  auto config = load_agent_config(arguments.config, &printed);
  if (!config.ok()) {
    if (arguments.action == Action::kRun) {
      log_error(kMessageConfigInvalid, config.error());
    } else {
      std::fprintf(stderr, "%s\n", config.error().message().c_str());
    }
    // A missing file is a matter of configuration, too.
    return config.error().kind() == ErrorKind::kPermission ? kExitNoPermission : kExitBadConfig;
  }
  switch (arguments.action) {
    case Action::kPrintConfig: std::fputs(printed.c_str(), stdout); return kExitOk;
    case Action::kCheckConfig:
      if (Status status = check_certificates(*config); !status.ok()) {
        std::fprintf(stderr, "%s: %s\n", arguments.config.c_str(), status.error().message().c_str());
        return kExitBadConfig;
      }
      return kExitOk;
    case Action::kProbe: return run_probe({config->disks, config->bpffs}, arguments.json);
    case Action::kDetach: return detach(*config);
    default: break;
  }
  log_set_level(config->log_level);
  return Agent(arguments.config, std::move(config).value(), software()).run();
}

int run_program(int argc, char** argv) {
  const std::optional<Arguments> arguments = parse_arguments(argc, argv);
  if (!arguments) return kExitBadArguments;
  if (arguments->action == Action::kHelp) {
    print_help(stdout);
    return kExitOk;
  }
  if (arguments->action == Action::kVersion) {
    std::printf("%s\n", software().c_str());
    return kExitOk;
  }
  log_init(kProgram, LogLevel::kInfo);
  if (arguments->action == Action::kProbe && !arguments->config_given) {
    ProbeOptions options;
    options.disks = arguments->disks;
    return run_probe(options, arguments->json);
  }
  return with_config(*arguments);
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  // Not for people: the agent starts itself so to have file systems thawed whatever becomes of it.
  if (argc >= 2 && std::string_view(argv[1]) == "--freeze-guard") {
    return understudy::run_freeze_guard(argc - 2, argv + 2);
  }
  return understudy::run_program(argc, argv);
}
