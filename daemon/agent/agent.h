// SPDX-License-Identifier: Apache-2.0
// The agent as a daemon: puts the parts together, answers the control socket, follows signals and the service manager.
// The data path has a thread of its own (replication_thread.h); this one only waits.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "daemon/agent/agent_config.h"
#include "daemon/agent/agent_state.h"
#include "daemon/agent/replication_thread.h"
#include "daemon/agent/status_json.h"
#include "daemon/base/event_loop.h"
#include "daemon/base/notify.h"
#include "daemon/base/signals.h"
#include "daemon/control/control_server.h"
#include "daemon/wire/tls_link.h"

namespace understudy {

class Agent {
 public:
  Agent(std::string config_path, AgentConfig config, std::string software)
      : config_path_(std::move(config_path)), config_(std::move(config)), software_(std::move(software)) {}

  // Until it is told to stop; the exit status.
  int run();

 private:
  Status start();
  Result<std::unique_ptr<Tracker>> open_tracker(const AgentIdentity& identity);
  Status start_link(const AgentIdentity& identity, const std::vector<DiskGeometry>& disks);
  void add_commands();
  Result<Json> mark(const Json& request);
  Result<Json> digest_scan(const Json& request);
  std::string proofs_path() const { return config_.state_directory + "/digest-proofs"; }
  void load_proofs();
  void save_proofs();
  void take_signals();
  void reload();
  void watchdog();
  void begin_stop(bool detach);
  int finish();
  int fail(const Error& error);
  void on_status(const ReplicationStatus& status);

  const std::string config_path_;
  const AgentConfig config_;   // as started
  const std::string software_;
  std::optional<SignalSet> signals_;
  Notifier notifier_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<TlsLink> link_;            // until the replication thread takes it
  TlsLink* running_link_ = nullptr;          // used on the replication thread only
  std::unique_ptr<ReplicationThread> replication_;
  AgentFacts facts_;
  bool detach_ = false;
  Uuid proofs_capture_;                      // the capture the agent began with
  std::uint64_t proofs_version_ = 0;         // as written down last
  std::string told_status_;                  // replication thread only
};

}  // namespace understudy
