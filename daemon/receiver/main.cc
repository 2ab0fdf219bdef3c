// SPDX-License-Identifier: Apache-2.0
// understudy-receiver: owns the stores of protected servers and takes in what their agents send.
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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
#include "daemon/base/version.h"
#include "daemon/control/control_server.h"
#include "daemon/receiver/receiver_config.h"
#include "daemon/receiver/receiver_node.h"
#include "daemon/receiver/receiver_server.h"
#include "daemon/receiver/receiver_status.h"

namespace understudy {
namespace {

constexpr const char* kProgram = "understudy-receiver";
constexpr const char* kDefaultConfig = "/etc/understudy/receiver.yaml";
constexpr std::uint64_t kStatusIntervalNs = 1'000'000'000;
constexpr unsigned kNetworkThreadsMax = 8;

std::string software() { return std::string(kProgram) + " " + std::string(version()); }

enum class Action { kRun, kCheckConfig, kPrintConfig, kVersion, kHelp };

struct Arguments {
  Action action = Action::kRun;
  std::string config = kDefaultConfig;
};

void print_help(std::FILE* out) {
  std::fprintf(out,
               "usage: %s [--config FILE] [--check-config | --print-config | --version | --help]\n"
               "\n"
               "  --config FILE     configuration (default %s)\n"
               "  --check-config    check the configuration and the certificates, and exit\n"
               "  --print-config    print the configuration with its drop-ins and defaults, and exit\n"
               "  --version         print the version, and exit\n",
               kProgram, kDefaultConfig);
}

std::optional<Arguments> parse_arguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--config") {
      if (++i == argc) {
        std::fprintf(stderr, "%s: --config needs a file name\n", kProgram);
        return std::nullopt;
      }
      arguments.config = argv[i];
    } else if (argument.starts_with("--config=")) {
      arguments.config = argument.substr(9);
    } else if (argument == "--check-config") {
      arguments.action = Action::kCheckConfig;
    } else if (argument == "--print-config") {
      arguments.action = Action::kPrintConfig;
    } else if (argument == "--version") {
      arguments.action = Action::kVersion;
    } else if (argument == "--help" || argument == "-h") {
      arguments.action = Action::kHelp;
    } else {
      std::fprintf(stderr, "%s: unknown argument '%s'; --help lists them\n", kProgram, argv[i]);
      return std::nullopt;
    }
  }
  return arguments;
}

// Whether the certificates that the configuration names can be used.
Status check_certificates(const ReceiverConfig& config) {
  ASSIGN_OR_RETURN(const auto context, TlsContext::load(config.tls, TlsSide::kServer));
  const Result<WireIdentity>& own = context->own_identity();
  if (!own.ok()) return Error(ErrorKind::kInvalidConfig, own.error().message());
  if (!(*own == WireIdentity{WireRole::kReceiver, config.name})) {
    return Error(ErrorKind::kInvalidConfig, "'" + config.tls.certificate + "' is the certificate of " + own->to_text() +
                                                ", not of receiver '" + config.name + "'");
  }
  if (context->own_not_after_ns() <= system_clock().wall_ns()) {
    return Error(ErrorKind::kInvalidConfig, "'" + config.tls.certificate + "' has expired");
  }
  return ok_status();
}

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
  std::string printed;
  auto config = load_receiver_config(arguments->config, &printed);
  if (!config.ok()) {
    if (arguments->action == Action::kRun) {
      log_error(kMessageConfigInvalid, config.error());
    } else {
      std::fprintf(stderr, "%s\n", config.error().message().c_str());
    }
    // A missing or unreadable file is a matter of configuration, too.
    return config.error().kind() == ErrorKind::kPermission ? kExitNoPermission : kExitBadConfig;
  }
  if (arguments->action == Action::kPrintConfig) {
    std::fputs(printed.c_str(), stdout);
    return kExitOk;
  }
  if (arguments->action == Action::kCheckConfig) {
    if (Status status = check_certificates(*config); !status.ok()) {
      std::fprintf(stderr, "%s: %s\n", arguments->config.c_str(), status.error().message().c_str());
      return kExitBadConfig;
    }
    return kExitOk;
  }
  log_set_level(config->log_level);
  return Daemon(arguments->config, std::move(config).value()).run();
}

}  // namespace
}  // namespace understudy

int main(int argc, char** argv) { return understudy::run_program(argc, argv); }
