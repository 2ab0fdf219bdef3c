// SPDX-License-Identifier: Apache-2.0
// understudy-agent: captures the writes of this machine's disks and ships them to a receiver.
#include <optional>
#include <string>
#include <string_view>

#include "daemon/agent/agent.h"
#include "daemon/agent/agent_config.h"
#include "daemon/base/clock.h"
#include "daemon/base/exit_code.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/control/control_client.h"
#include "daemon/marks/freeze_guard.h"
#include "daemon/service/daemon_program.h"
#include "daemon/tracker/open_capture.h"
#include "daemon/tracker/probe.h"
#include "daemon/wire/tls_context.h"

namespace understudy {
namespace {

constexpr const char* kProgram = "understudy-agent";
constexpr const char* kDefaultConfig = "/etc/understudy/agent.yaml";

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
  if (Status status = remove_capture(config.bpffs, config.server); !status.ok()) {
    log_error(kMessageCaptureFailed, Error(status.error()).with_context("detach"));
    return status.error().kind() == ErrorKind::kNotFound ? kExitNotRunning : exit_code_of(status.error().kind());
  }
  log_message(LogLevel::kInfo, kMessageCaptureDetached,
              "capture for server '" + config.server + "' ended: writes from now on are not protected");
  return kExitOk;
}

class Program final : public DaemonProgram {
 public:
  CommandLineRules rules() const override {
    CommandLineRules rules;
    rules.program = kProgram;
    rules.default_config = kDefaultConfig;
    rules.actions = {{"probe", "say how writes to the disks named can be captured here; exit status 5: not", ""},
                     {"detach",
                      "end capture for good and remove what it keeps in the kernel; a running agent first sends what "
                      "is captured",
                      ""}};
    rules.switches = {{"json", "with --probe: for machines", "probe"}};
    rules.operands_belong_to = "probe";
    rules.operand = "DISK";
    return rules;
  }

  // Disks that are named need no configuration to be probed.
  std::optional<int> act_without_config(const CommandLine& line) override {
    if (line.action != "probe" || line.config_given) return std::nullopt;
    ProbeOptions options;
    options.disks = line.operands;
    return run_probe(options, line.switches.contains("json"));
  }

  Status load_config(const std::string& path, std::string& printed) override {
    ASSIGN_OR_RETURN(config_, load_agent_config(path, &printed));
    return ok_status();
  }

  Status check_config() override {
    return check_tls_files(config_.tls, TlsSide::kClient, {WireRole::kAgent, config_.server},
                           system_clock().wall_ns());
  }

  int act(const CommandLine& line) override {
    if (line.action == "probe") return run_probe({config_.disks, config_.bpffs}, line.switches.contains("json"));
    if (line.action == "detach") return detach(config_);
    log_set_level(config_.log_level);
    return Agent(line.config, std::move(config_), software_name(kProgram)).run();
  }

 private:
  AgentConfig config_;
};

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  // Not for people: the agent starts itself so to have file systems thawed whatever becomes of it.
  if (argc >= 2 && std::string_view(argv[1]) == "--freeze-guard") {
    return understudy::run_freeze_guard(argc - 2, argv + 2);
  }
  understudy::Program program;
  return understudy::run_daemon_program(program, argc, argv);
}
