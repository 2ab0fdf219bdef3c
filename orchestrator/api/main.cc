// SPDX-License-Identifier: Apache-2.0
// understudy-orchestrator: brings protection groups to the state that is declared for them.
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/event_loop.h"
#include "daemon/base/exit_code.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/notify.h"
#include "daemon/base/signals.h"
#include "daemon/base/text.h"
#include "daemon/control/control_server.h"
#include "daemon/service/daemon_program.h"
#include "orchestrator/api/directory_watch.h"
#include "orchestrator/api/orchestrator_config.h"
#include "orchestrator/api/requests.h"
#include "orchestrator/api/node_service.h"
#include "orchestrator/drivers/unconnected_driver.h"
#include "orchestrator/reconcile/reconciler.h"
#include "orchestrator/spec/group_schema.h"

namespace understudy {
namespace {

constexpr const char* kProgram = "understudy-orchestrator";
constexpr const char* kDefaultConfig = "/etc/understudy/orchestrator.yaml";
constexpr std::uint64_t kRoundNs = 1'000'000'000;
// A preview brings a group's file along.
constexpr std::size_t kRequestBytesMax = 3u << 20;
// Editors write a file in several steps: wait until it is quiet.
constexpr std::uint64_t kSettleNs = 200'000'000;

std::string software() { return software_name(kProgram); }

void log_event(const ReconcileEvent& event) {
  using Kind = ReconcileEvent::Kind;
  struct Entry {
    LogLevel level;
    MessageId id;
    const char* what;
  };
  const Entry entry = [&]() -> Entry {
    switch (event.kind) {
      case Kind::kTaskBegun: return {LogLevel::kInfo, kMessageTaskBegun, "task begun"};
      case Kind::kTaskDone: return {LogLevel::kInfo, kMessageTaskDone, "task done"};
      case Kind::kTaskFailed: return {LogLevel::kError, kMessageTaskFailed, "task failed"};
      case Kind::kTaskDelayed: return {LogLevel::kWarning, kMessageTaskDelayed, "task is delayed"};
      case Kind::kStateChanged: return {LogLevel::kNotice, kMessageServerState, "state"};
      case Kind::kReportRefused: break;
    }
    return {LogLevel::kWarning, kMessageReportRefused, "report ignored"};
  }();
  std::string text = "group " + quote(event.group) + ", server " + quote(event.server) + ": " + entry.what;
  if (event.task != 0) text += " " + std::to_string(event.task);
  if (!event.text.empty()) text += ": " + event.text;
  log_message(entry.level, entry.id, text,
              {{"UNDERSTUDY_GROUP", event.group},
               {"UNDERSTUDY_SERVER", event.server},
               {"UNDERSTUDY_TASK", std::to_string(event.task)}});
}

class Daemon {
 public:
  Daemon(std::string config_path, OrchestratorConfig config)
      : config_path_(std::move(config_path)), config_(std::move(config)) {}

  int run() {
    const Status status = start();
    if (!status.ok()) return fail(status.error());
    log_message(LogLevel::kInfo, kMessageDaemonReady, "orchestrator is ready, " + line());
    (void)notifier_.ready(line());
    const Status ended = loop_->run();
    control_->stop();
    nodes_.reset();
    if (!ended.ok()) return fail(ended.error());
    log_message(LogLevel::kInfo, kMessageDaemonStopped, "orchestrator stopped");
    return kExitOk;
  }

 private:
  Status start() {
    // Before the first thread, so that no other one is sent our signals.
    ASSIGN_OR_RETURN(signals_, SignalSet::open({SIGTERM, SIGINT, SIGHUP}));
    if (auto notifier = Notifier::from_environment(); notifier.ok()) {
      notifier_ = std::move(notifier).value();
    } else {
      log_error(kMessageServiceManagerUnreachable, notifier.error());
    }
    ASSIGN_OR_RETURN(loop_, EventLoop::create());
    // Bound before the database is opened: a second orchestrator with the same configuration stops here.
    ASSIGN_OR_RETURN(control_, ControlServer::create({config_.control_socket, [](const Error& error) {
                                                        log_error(kMessageControlFailed, error);
                                                      }, {}, kRequestBytesMax}));
    RETURN_IF_ERROR(open_state());
    ASSIGN_OR_RETURN(watch_, DirectoryWatch::open(config_.groups_directory));
    RETURN_IF_ERROR(declare_at_start());
    answer_requests();
    control_->start();
    loop_->watch(signals_->fd(), [this] { take_signals(); });
    loop_->watch(watch_->fd(), [this] {
      watch_->take();
      loop_->cancel(settle_);
      settle_ = loop_->after(kSettleNs, [this] { declare_again(); });
    });
    loop_->every(kRoundNs, [this] { round(); });
    if (notifier_.watchdog_interval_ns() != 0) {
      loop_->every(notifier_.watchdog_interval_ns() / 2, [this] { (void)notifier_.watchdog(); });
    }
    return ok_status();
  }

  Status open_state() {
    // The first node may dial in before all is open.
    const std::lock_guard lock(mutex_);
    ASSIGN_OR_RETURN(state_, OrchestratorState::open(config_.database()));
    Driver* driver = &unconnected_;
    if (config_.nodes.listens) {
      ASSIGN_OR_RETURN(nodes_, NodeService::start(config_.nodes, *state_, mutex_, software(),
                                                  [this] { have_round(); }));
      driver = &nodes_->driver();
    }
    ASSIGN_OR_RETURN(reconciler_,
                     Reconciler::open({*state_, *driver, system_clock(), config_.declared, log_event, {}}));
    return ok_status();
  }

  // From any thread: a round soon, one for many requests.
  void have_round() {
    if (!round_asked_.exchange(true)) loop_->post([this] { round(); });
  }

  Result<bool> declare() {
    ASSIGN_OR_RETURN(const std::vector<DeclaredSource> sources, read_declared_sources(config_.groups_directory));
    const std::lock_guard lock(mutex_);
    auto changed = reconciler_->declare(sources);
    // Also when nothing changed: after a start, nodes are to be told.
    if (nodes_ && changed.ok()) nodes_->driver().declare(reconciler_->declared());
    return changed;
  }

  // Files that have become wrong do not keep it from going on with what was in force; without that there is nothing to
  // go on with.
  Status declare_at_start() {
    auto declared = declare();
    if (declared.ok()) return ok_status();
    if (!reconciler_->is_usable() || reconciler_->declared().groups.empty()) return std::move(declared).error();
    if (nodes_) {
      const std::lock_guard lock(mutex_);
      nodes_->driver().declare(reconciler_->declared());
    }
    log_error(kMessageConfigInvalid,
              Error(declared.error()).with_context("read groups, keeping the declaration that was in force"));
    return ok_status();
  }

  void declare_again() {
    const auto declared = declare();
    if (!declared.ok()) {
      log_error(kMessageConfigInvalid,
                Error(declared.error()).with_context("read groups, keeping the old declaration"));
    } else if (*declared) {
      log_message(LogLevel::kInfo, kMessageDeclarationTaken, "a new declaration is in force, " + line());
      round();
    }
  }

  void round() {
    round_asked_ = false;
    const std::lock_guard lock(mutex_);
    const Status status = reconciler_->tick();
    if (!status.ok() && status.error().message() != last_problem_) {
      log_error(kMessageDatabaseFailed, Error(status.error()).with_context("retrying in 1 s"));
    }
    last_problem_ = status.ok() ? "" : status.error().message();
    (void)notifier_.status(status_line(*reconciler_));
  }

  void answer_requests() {
    const auto handle = [this](const char* command, auto answer) {
      control_->handle(command, [this, answer](const Json& request) -> Result<Json> {
        const std::lock_guard lock(mutex_);
        return answer(*reconciler_, request);
      });
    };
    handle("status", [this](Reconciler& reconciler, const Json&) {
      Json answer = status_answer(reconciler, software());
      answer["groups_directory"] = config_.groups_directory;
      return answer;
    });
    handle("plan", [](Reconciler& reconciler, const Json& request) { return plan_answer(reconciler, request); });
    handle("tasks", tasks_answer);
    const DescribeNode describe =
        nodes_ ? DescribeNode([this](const std::string& server) { return nodes_->driver().describe(server); })
               : DescribeNode();
    handle("groups", [describe](Reconciler& reconciler, const Json&) { return groups_answer(reconciler, describe); });
    handle("group", [describe](Reconciler& reconciler, const Json& request) {
      return group_answer(reconciler, request, describe);
    });
    handle("preview", [this](Reconciler& reconciler, const Json& request) {
      return preview_answer(reconciler, config_.groups_directory, request);
    });
    handle("declaration", [](Reconciler& reconciler, const Json& request) {
      return declaration_answer(reconciler, request);
    });
    handle("enroll-token", [this](Reconciler&, const Json& request) -> Result<Json> {
      RETURN_IF_ERROR(need_nodes());
      return nodes_->token_answer(request);
    });
    handle("nodes", [this](Reconciler&, const Json&) -> Result<Json> {
      RETURN_IF_ERROR(need_nodes());
      return nodes_->nodes_answer();
    });
    handle("node-forget", [this](Reconciler&, const Json& request) -> Result<Json> {
      RETURN_IF_ERROR(need_nodes());
      return nodes_->forget_answer(request);
    });
    handle("approve", [](Reconciler& reconciler, const Json& request) -> Result<Json> {
      ASSIGN_OR_RETURN(Json answer, approve_answer(reconciler, request));
      log_message(LogLevel::kNotice, kMessageApprovalGiven,
                  quote(request.at("by").as_string("")) + " approved " + quote(request.at("object").as_string("")));
      return answer;
    });
  }

  Status need_nodes() const {
    if (nodes_) return ok_status();
    return Error(ErrorKind::kUnsupported, "nodes cannot dial in here: set 'nodes' in " + quote(config_path_));
  }

  std::string line() {
    const std::lock_guard lock(mutex_);
    return status_line(*reconciler_);
  }

  int fail(const Error& error) {
    log_error(kMessageDaemonFailed, error);
    (void)notifier_.failed(error.error_number(), error.message());
    return exit_code_of(error.kind());
  }

  void take_signals() {
    while (const std::optional<int> signal = signals_->take()) {
      if (*signal == SIGHUP) {
        reload();
        continue;
      }
      log_message(LogLevel::kInfo, kMessageDaemonStopping, "orchestrator is stopping");
      (void)notifier_.stopping("stopping; replication goes on");
      loop_->stop();
    }
  }

  // A bad file changes nothing.
  void reload() {
    (void)notifier_.reloading();
    auto config = load_orchestrator_config(config_path_);
    if (!config.ok()) {
      log_error(kMessageConfigInvalid,
                Error(config.error()).with_context("reload, keeping the old configuration"));
    } else {
      log_set_level(config->log_level);
      if (nodes_ && config->nodes.listens) {
        if (const Status status = nodes_->reload(config->nodes); !status.ok()) {
          log_error(kMessageConfigInvalid, Error(status.error()).with_context("reload, keeping the old certificates"));
        }
      }
      const std::string restart = needs_restart(*config);
      if (restart.empty()) {
        log_message(LogLevel::kInfo, kMessageConfigReloaded, "configuration reloaded");
      } else {
        log_message(LogLevel::kWarning, kMessageConfigReloadIncomplete,
                    "configuration reloaded, but a changed " + restart + " needs a restart");
      }
    }
    declare_again();
    (void)notifier_.ready(line());
  }

  std::string needs_restart(const OrchestratorConfig& config) const {
    std::vector<std::string> names;
    if (config.groups_directory != config_.groups_directory) names.emplace_back("groups_directory");
    if (config.state_directory != config_.state_directory) names.emplace_back("state_directory");
    if (config.control_socket != config_.control_socket) names.emplace_back("control_socket");
    const OrchestratorConfig::Nodes& nodes = config.nodes;
    if (nodes.listens != config_.nodes.listens || nodes.address != config_.nodes.address ||
        nodes.port != config_.nodes.port || nodes.authority_directory != config_.nodes.authority_directory) {
      names.emplace_back("nodes");
    }
    if (config.declared.quotas != config_.declared.quotas) names.emplace_back("quotas");
    return names.empty() ? "" : quoted_list(names);
  }

  const std::string config_path_;
  const OrchestratorConfig config_;  // as started
  std::optional<SignalSet> signals_;
  Notifier notifier_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<OrchestratorState> state_;
  UnconnectedDriver unconnected_;
  std::atomic<bool> round_asked_{false};
  std::mutex mutex_;  // guards reconciler_, nodes_ and state_: control socket and nodes have threads of their own
  std::unique_ptr<NodeService> nodes_;  // null = nobody dials in
  std::optional<DirectoryWatch> watch_;
  EventLoop::TimerId settle_ = 0;
  std::string last_problem_;
  std::unique_ptr<Reconciler> reconciler_;
};

class Program final : public DaemonProgram {
 public:
  CommandLineRules rules() const override {
    CommandLineRules rules;
    rules.program = kProgram;
    rules.default_config = kDefaultConfig;
    rules.check_help = "check the configuration and all protection groups, and exit";
    rules.actions = {{"print-schema", "print the JSON schema of a protection group's file, and exit", ""}};
    return rules;
  }

  std::optional<int> act_without_config(const CommandLine& line) override {
    if (line.action != "print-schema") return std::nullopt;
    std::printf("%s\n", group_schema().dump_indented().c_str());
    return kExitOk;
  }

  Status load_config(const std::string& path, std::string& printed) override {
    ASSIGN_OR_RETURN(config_, load_orchestrator_config(path, &printed));
    return ok_status();
  }

  // The configuration is right; now the groups. Warnings do not make them wrong.
  Status check_config() override {
    ASSIGN_OR_RETURN(const std::vector<DeclaredSource> sources, read_declared_sources(config_.groups_directory));
    ASSIGN_OR_RETURN(const DeclaredState declared, parse_declared_state(sources, config_.declared));
    for (const std::string& warning : declared.warnings) std::fprintf(stderr, "%s (warning)\n", warning.c_str());
    return ok_status();
  }

  int act(const CommandLine& line) override {
    log_set_level(config_.log_level);
    return Daemon(line.config, std::move(config_)).run();
  }

 private:
  OrchestratorConfig config_;
};

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  understudy::Program program;
  return understudy::run_daemon_program(program, argc, argv);
}
