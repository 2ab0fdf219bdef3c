// SPDX-License-Identifier: Apache-2.0
// The agent as a daemon: puts the parts together, answers the control socket, follows signals and the service manager.
// The data path has a thread of its own (replication_thread.h); this one only waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "daemon/agent/agent_config.h"
#include "daemon/agent/agent_marks.h"
#include "daemon/agent/agent_orders.h"
#include "daemon/agent/agent_state.h"
#include "daemon/agent/replication_record.h"
#include "daemon/agent/replication_thread.h"
#include "daemon/agent/source_survey.h"
#include "daemon/agent/status_json.h"
#include "daemon/base/event_loop.h"
#include "daemon/base/notify.h"
#include "daemon/base/signals.h"
#include "daemon/control/control_server.h"
#include "daemon/node/node_client.h"
#include "daemon/wire/tls_link.h"

namespace understudy {

class Agent {
 public:
  Agent(std::string config_path, AgentConfig config, std::string software)
      : config_path_(std::move(config_path)), config_(std::move(config)), software_(std::move(software)) {}

  // The survey's thread answers to the replication thread, and is asked by it: it ends first, and goes last.
  ~Agent() {
    if (survey_) survey_->stop();
  }

  // Until it is told to stop; the exit status.
  int run();

 private:
  Status start();
  // Tracker, disk reads, link, and the thread of all of them.
  Status open_data_path(const std::vector<std::string>& disks, const ReplicationState& state);
  Result<std::unique_ptr<Tracker>> open_tracker(const std::vector<std::string>& disks);
  Status start_link(const std::vector<DiskGeometry>& disks);
  // Other disks, or other sizes of them: the data path is closed and opened again, capture goes on meanwhile.
  Status take_over_disks(const std::vector<std::string>& disks);
  void look_for_grown_disks();
  std::shared_ptr<ReplicationThread> replication() const;
  Result<std::shared_ptr<ReplicationThread>> replication_now() const;
  void add_commands();
  Result<Json> status();
  Result<Json> command(ReplicationCommand command);
  void keep_state(std::uint64_t number, const ReplicationState& state);
  Result<Json> digest_scan(const Json& request);
  std::string proofs_path() const { return config_.state_directory + "/digest-proofs"; }
  void load_proofs(ReplicationThread& thread, const Uuid& capture_id);
  void forget_proofs();
  void save_proofs();
  void take_signals();
  void reload();
  void watchdog();
  void begin_stop(bool detach);
  int finish();
  int fail(const Error& error);
  void on_status(const ReplicationStatus& status);
  std::string line() const;  // for the service manager

  // What an orchestrator orders (agent_node.cc). All but the report on the main thread.
  Status start_node();
  void take_orders(const AgentOrders& wanted);
  Status carry_out(const AgentOrders& wanted);
  Status carry_out_commands(const AgentOrders& wanted);
  Status begin_relation(const AgentOrders& wanted);
  Status end_relation();
  void apply_policy();
  void make_ordered_mark();
  void repeat_orders();
  Json node_report() const;
  BandwidthPlan bandwidth() const;
  MarkPolicy mark_policy() const;
  bool auto_resume() const;

  const std::string config_path_;
  AgentConfig config_;         // as started, but for what a reload has changed
  const std::string software_;
  std::optional<SignalSet> signals_;
  Notifier notifier_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<TlsLink> link_;            // until the replication thread takes it
  TlsLink* running_link_ = nullptr;          // used on the replication thread only
  std::unique_ptr<ReplicationRecorder> recorder_;
  mutable std::mutex mutex_;                 // guards the next five: other threads ask, too
  AgentIdentity identity_;
  std::optional<AgentOrders> orders_;        // carried out; changed by the main thread only
  std::shared_ptr<SourceSurvey> survey_;     // asked by the replication thread, so it outlives it
  std::shared_ptr<ReplicationThread> replication_;  // null while disks are taken over
  AgentFacts facts_;
  std::unique_ptr<MarkService> marks_;
  std::string marked_label_;                 // of the newest mark that an orchestrator had made
  std::optional<AgentOrders> refused_orders_;  // could not be carried out: tried again
  std::string orders_error_;                 // why; guarded by mutex_, as the next two
  bool fenced_ = false;
  std::uint64_t orders_taken_ns_ = 0;        // boot clock: a status from before says nothing of them
  std::atomic<std::uint64_t> state_changes_{0};  // numbers of earlier data paths lie below
  std::optional<Error> failure_;             // the data path could not be opened again
  bool detach_ = false;
  std::uint64_t proofs_version_ = 0;         // as written down last
  std::mutex proofs_mutex_;                  // guards the file of proofs, and the next
  std::uint64_t proofs_forgotten_ = 0;       // counts removals of the file: what was asked for before is not written
  std::string told_status_;                  // replication thread only
  std::unique_ptr<NodeClient> node_;         // goes first: its thread asks for reports
};

}  // namespace understudy
