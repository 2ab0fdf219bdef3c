// SPDX-License-Identifier: Apache-2.0
// understudy-receiver: owns the stores of protected servers and takes in what their agents send.
#include <signal.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/event_loop.h"
#include "daemon/base/exit_code.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/notify.h"
#include "daemon/base/signals.h"
#include "daemon/control/control_server.h"
#include "daemon/receiver/receiver_config.h"
#include "daemon/receiver/receiver_node.h"
#include "daemon/receiver/receiver_server.h"
#include "daemon/receiver/receiver_status.h"
#include "daemon/service/daemon_program.h"

namespace understudy {
namespace {

constexpr const char* kProgram = "understudy-receiver";
constexpr const char* kDefaultConfig = "/etc/understudy/receiver.yaml";
constexpr std::uint64_t kStatusIntervalNs = 1'000'000'000;
constexpr unsigned kNetworkThreadsMax = 8;

std::string software() { return software_name(kProgram); }

class Daemon {
 public:
  Daemon(std::string config_path, ReceiverConfig config)
      : config_path_(std::move(config_path)), config_(std::move(config)) {}

  int run() {
    // Before the first thread, so that no other one is sent our signals.
    auto signals = SignalSet::open({SIGTERM, SIGINT, SIGHUP});
    if (!signals.ok()) return fail(signals.error());
    signals_.emplace(std::move(signals).value());
    if (auto notifier = Notifier::from_environment(); notifier.ok()) {
      notifier_ = std::move(notifier).value();
    } else {
      log_error(kMessageServiceManagerUnreachable, notifier.error());
    }
    auto loop = EventLoop::create();
    if (!loop.ok()) return fail(loop.error());
    loop_ = std::move(loop).value();

    // Bound before the stores are opened: a second receiver with the same configuration stops here.
    auto control = ControlServer::create(
        {config_.control_socket, [](const Error& error) { log_error(kMessageControlFailed, error); }, {}});
    if (!control.ok()) return fail(control.error());
    auto node = ReceiverNode::open(config_);
    if (!node.ok()) return fail(node.error());
    node_ = std::move(node).value();
    auto server = ReceiverServer::start(node_->with_orders(config_), server_options());
    if (!server.ok()) return fail(server.error());
    server_ = std::move(server).value();
    if (Status status = node_->start(*server_, *loop_, software()); !status.ok()) return fail(status.error());
    (*control)->handle("status", [this](const Json&) -> Result<Json> {
      Json json = receiver_status_json(config_.name, software(), server_->port(), server_->report());
      json["orchestrator"] = node_->status();
      return json;
    });
    (*control)->start();

    loop_->watch(signals_->fd(), [this] { take_signals(); });
    loop_->every(kStatusIntervalNs, [this] { (void)notifier_.status(server_->status_line()); });
    if (notifier_.watchdog_interval_ns() != 0) {
      loop_->every(notifier_.watchdog_interval_ns() / 2, [this] { (void)notifier_.watchdog(); });
    }
    log_message(LogLevel::kInfo, kMessageDaemonReady,
                "receiver '" + config_.name + "' listens on " + config_.listen_address + " port " +
                    std::to_string(server_->port()) + ", " + server_->status_line());
    (void)notifier_.ready(server_->status_line());
    const Status status = loop_->run();
    (*control)->stop();
    node_.reset();
    server_->stop();
    if (!status.ok()) return fail(status.error());
    log_message(LogLevel::kInfo, kMessageDaemonStopped, "receiver '" + config_.name + "' stopped");
    return kExitOk;
  }

 private:
  static ReceiverServer::Options server_options() {
    ReceiverServer::Options options;
    options.software = software();
    options.network_threads = std::min(std::max(std::thread::hardware_concurrency(), 2u), kNetworkThreadsMax);
    return options;
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
      log_message(LogLevel::kInfo, kMessageDaemonStopping, "receiver '" + config_.name + "' is stopping");
      (void)notifier_.stopping("finishing what was received");
      loop_->stop();
    }
  }

  // A bad file changes nothing.
  void reload() {
    (void)notifier_.reloading();
    auto config = load_receiver_config(config_path_);
    Result<std::vector<std::string>> not_applied =
        config.ok() ? server_->reload(node_->with_orders(*config)) : Result<std::vector<std::string>>(config.error());
    if (not_applied.ok()) {
      if (config->orchestrator != config_.orchestrator) not_applied->push_back("orchestrator");
      if (config->stores_directory != config_.stores_directory) not_applied->push_back("stores_directory");
      config->orchestrator = config_.orchestrator;
      config->stores_directory = config_.stores_directory;
      node_->set_config(*config);
    }
    if (!not_applied.ok()) {
      log_error(kMessageConfigInvalid,
                Error(not_applied.error()).with_context("reload, keeping the old configuration"));
    } else if (!not_applied->empty()) {
      std::string names;
      for (const std::string& name : *not_applied) names += (names.empty() ? "'" : ", '") + name + "'";
      log_set_level(config->log_level);
      log_message(LogLevel::kWarning, kMessageConfigReloadIncomplete,
                  "configuration reloaded, but a changed " + names + " needs a restart");
    } else {
      log_set_level(config->log_level);
      log_message(LogLevel::kInfo, kMessageConfigReloaded, "configuration reloaded");
    }
    (void)notifier_.ready(server_->status_line());
  }

  const std::string config_path_;
  const ReceiverConfig config_;  // as started
  std::optional<SignalSet> signals_;
  Notifier notifier_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ReceiverServer> server_;
  std::unique_ptr<ReceiverNode> node_;
};

class Program final : public DaemonProgram {
 public:
  CommandLineRules rules() const override {
    CommandLineRules rules;
    rules.program = kProgram;
    rules.default_config = kDefaultConfig;
    return rules;
  }

  Status load_config(const std::string& path, std::string& printed) override {
    ASSIGN_OR_RETURN(config_, load_receiver_config(path, &printed));
    return ok_status();
  }

  Status check_config() override {
    return check_tls_files(config_.tls, TlsSide::kServer, {WireRole::kReceiver, config_.name},
                           system_clock().wall_ns());
  }

  int act(const CommandLine& line) override {
    log_set_level(config_.log_level);
    return Daemon(line.config, std::move(config_)).run();
  }

 private:
  ReceiverConfig config_;
};

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) {
  understudy::Program program;
  return understudy::run_daemon_program(program, argc, argv);
}
