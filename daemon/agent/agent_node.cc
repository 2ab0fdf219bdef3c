// SPDX-License-Identifier: Apache-2.0
// The agent as a node of an orchestrator: carries out what it is told, reports how it stands. Everything here is about
// what should be, not about what to do: told twice, or after a restart, it finds nothing to do.
#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "daemon/agent/agent.h"
#include "daemon/base/atomic_file.h"
#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

// What could not be carried out is tried again so often.
constexpr std::uint64_t kRepeatNs = 5'000'000'000;
constexpr std::size_t kFindingsMax = 16;
constexpr std::uint64_t kStateChangesMax = 1ull << 40;

std::uint64_t progress_permille(const ReplicationStatus& status) {
  if (status.copy_total_bytes == 0) return 0;
  const double done = static_cast<double>(status.copy_done_bytes) / static_cast<double>(status.copy_total_bytes);
  return std::min<std::uint64_t>(static_cast<std::uint64_t>(done * 1000), 1000);
}

// What is wrong with replication in error, in words.
std::string error_of(const ReplicationStatus& status) {
  if (status.state.state != ReplicationStateName::kError) return "";
  std::string text(error_reason_entry(status.state.reason).text);
  if (!status.last_error.empty()) text += ": " + status.last_error;
  return text;
}

}  // namespace

Status Agent::start_node() {
  if (config_.orchestrator.address.empty()) return ok_status();
  NodeClientOptions options;
  options.orchestrator = config_.orchestrator;
  options.identity = {WireRole::kAgent, config_.server};
  options.tls = config_.tls;
  options.software = software_;
  options.hello = [this](Json& hello) {
    std::lock_guard lock(mutex_);
    hello["server_id"] = identity_.server.to_string();
    hello["epoch"] = identity_.epoch;
  };
  options.report = [this] { return node_report(); };
  options.desired = [this](const Json& desired) {
    auto orders = parse_agent_orders(desired);
    if (!orders.ok()) {
      log_error(kMessageOrderFailed, orders.error());
      return;
    }
    loop_->post([this, orders = std::move(orders).value()] { take_orders(orders); });
  };
  options.on_change = [](const Status& status, const std::string& text) {
    log_message(status.ok() ? LogLevel::kInfo : LogLevel::kNotice, kMessageOrchestratorLink, text);
  };
  loop_->every(kRepeatNs, [this] { repeat_orders(); });
  ASSIGN_OR_RETURN(node_, NodeClient::start(std::move(options)));
  return ok_status();
}

void Agent::repeat_orders() {
  if (!refused_orders_) return make_ordered_mark();
  const AgentOrders again = *refused_orders_;
  take_orders(again);
}

void Agent::take_orders(const AgentOrders& wanted) {
  if (failure_) return;
  if (orders_ && wanted == *orders_ && !refused_orders_) return;
  Status status = carry_out(wanted);
  const std::string error = status.ok() ? "" : status.error().message();
  bool told = false;
  {
    std::lock_guard lock(mutex_);
    told = orders_error_ == error;
    orders_error_ = error;
    // An order that fails is taken over, too: what is reported is then its failure.
    if (!orders_) orders_.emplace();
    if (status.ok()) orders_ = wanted;
    orders_->order = wanted.order;
    orders_taken_ns_ = system_clock().boot_ns();
  }
  refused_orders_ = status.ok() ? std::nullopt : std::optional<AgentOrders>(wanted);
  if (status.ok()) status = save_agent_orders(config_.state_directory, *orders_);
  if (!status.ok() && !told) {
    log_error(kMessageOrderFailed,
              Error(status.error()).with_context("carry out order " + std::to_string(wanted.order)));
  }
  make_ordered_mark();
  if (node_) node_->report_soon();
}

Status Agent::carry_out(const AgentOrders& wanted) {
  const bool begun = replication() != nullptr;
  // A relation that has begun keeps its epoch. Another one was begun elsewhere, or later: this is not the source.
  const bool fenced = begun && wanted.phase != AgentOrders::Phase::kReleased && wanted.epoch != identity_.epoch;
  {
    std::lock_guard lock(mutex_);
    if (fenced && !fenced_) {
      log_message(LogLevel::kWarning, kMessageSourceFenced,
                  "this agent is of epoch " + std::to_string(identity_.epoch) + ", the orchestrator granted epoch " +
                      std::to_string(wanted.epoch) + " to the source '" + config_.server + "': replication is stopped");
    }
    fenced_ = fenced;
  }
  if (fenced) {
    AgentOrders stopped = wanted;
    stopped.phase = AgentOrders::Phase::kStopped;
    return carry_out_commands(stopped);
  }
  if (wanted.phase == AgentOrders::Phase::kRegistered) return ok_status();
  if (wanted.phase == AgentOrders::Phase::kReleased) return end_relation();
  if (!begun) {
    RETURN_IF_ERROR(begin_relation(wanted));
  } else {
    const std::vector<std::string> disks = wanted.disks.empty() ? config_.disks : wanted.disks;
    const bool other_receiver = orders_ && orders_->receiver != wanted.receiver;
    if (disks != config_.disks || other_receiver) {
      {
        std::lock_guard lock(mutex_);
        if (!orders_) orders_.emplace();
        orders_->receiver = wanted.receiver;  // where the link is opened to
      }
      RETURN_IF_ERROR(take_over_disks(disks));
    }
    RETURN_IF_ERROR(carry_out_commands(wanted));
  }
  {
    std::lock_guard lock(mutex_);
    if (!orders_) orders_.emplace();
    orders_->auto_resume = wanted.auto_resume;
    orders_->throttle_bytes_per_second = wanted.throttle_bytes_per_second;
    orders_->point_interval_ns = wanted.point_interval_ns;
    orders_->phase = wanted.phase;
  }
  apply_policy();
  return ok_status();
}

Status Agent::carry_out_commands(const AgentOrders& wanted) {
  ASSIGN_OR_RETURN(const auto thread, replication_now());
  const ReplicationStateName now = thread->status().state.state;
  const auto command_it = [this](ReplicationCommand what) -> Status {
    ASSIGN_OR_RETURN(const Json done, command(what));
    log_message(LogLevel::kInfo, kMessageOrderTaken,
                "replication is now " + done.at("state").as_string("") + ", as the orchestrator ordered");
    return ok_status();
  };
  const bool is_new_restart = orders_ && wanted.restart > orders_->restart;
  const bool is_new_repair = orders_ && wanted.repair > orders_->repair;
  if (wanted.phase == AgentOrders::Phase::kStopped) {
    const bool stopping = now == ReplicationStateName::kFullStopping ||
                          now == ReplicationStateName::kRealtimeStopping ||
                          now == ReplicationStateName::kRepairStopping;
    // What is in error does not run; and a queued restart of a stop that is under way is taken back.
    if (state_runs(now) || stopping) return command_it(ReplicationCommand::kStop);
    return ok_status();
  }
  if (now == ReplicationStateName::kRepairStopped || (is_new_repair && now == ReplicationStateName::kError)) {
    return command_it(ReplicationCommand::kRepair);
  }
  if (state_is_stopped(now) || (!state_runs(now) && now != ReplicationStateName::kError) || is_new_restart) {
    return command_it(ReplicationCommand::kRestart);
  }
  return ok_status();
}

// Nothing runs here yet: from now on this host is the source, in the epoch that was granted.
Status Agent::begin_relation(const AgentOrders& wanted) {
  const std::vector<std::string> disks = wanted.disks.empty() ? config_.disks : wanted.disks;
  if (disks.empty()) {
    return Error(ErrorKind::kInvalidConfig, "neither the group nor the agent's configuration names a disk");
  }
  ASSIGN_OR_RETURN(ReplicationState state, load_replication_record(config_.state_directory));
  AgentIdentity identity = identity_;
  identity.epoch = wanted.epoch;
  if (identity.epoch != identity_.epoch) RETURN_IF_ERROR(save_identity(config_.state_directory, identity));
  {
    std::lock_guard lock(mutex_);
    identity_ = identity;
    if (!orders_) orders_.emplace();
    orders_->receiver = wanted.receiver;
    orders_->auto_resume = wanted.auto_resume;
    orders_->throttle_bytes_per_second = wanted.throttle_bytes_per_second;
  }
  state.auto_resume = wanted.auto_resume;
  state_changes_ += kStateChangesMax;
  RETURN_IF_ERROR(open_data_path(disks, state));
  log_message(LogLevel::kInfo, kMessageOrderTaken,
              "replication of " + quoted_list(disks) + " begins in epoch " + std::to_string(identity.epoch) +
                  ", as the orchestrator ordered");
  if (wanted.phase == AgentOrders::Phase::kStopped) return carry_out_commands(wanted);
  return ok_status();
}

// The server left its group: capture ends for good, and nothing is left of the relation.
Status Agent::end_relation() {
  std::shared_ptr<ReplicationThread> old;
  {
    std::lock_guard lock(mutex_);
    old = std::exchange(replication_, nullptr);
    facts_.disks.clear();
  }
  state_changes_ += kStateChangesMax;
  if (old) {
    survey_->stop();
    (void)old->drain_and_stop(0);
    // The control thread may still be in a call of it; each has a deadline.
    while (old.use_count() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const Status detached = old->detach();
    old.reset();
    RETURN_IF_ERROR(detached);
    log_message(LogLevel::kInfo, kMessageCaptureDetached,
                "capture of " + quoted_list(config_.disks) +
                    " ended, as the orchestrator ordered: writes from now on are not protected");
    told_status_.clear();
  }
  forget_proofs();
  {
    std::lock_guard lock(mutex_);
    if (!orders_) orders_.emplace();
    orders_->phase = AgentOrders::Phase::kReleased;
  }
  apply_policy();
  return recorder_->save(state_changes_, ReplicationState{});
}

BandwidthPlan Agent::bandwidth() const {
  BandwidthPlan plan = config_.bandwidth;
  if (orders_ && orders_->throttle_bytes_per_second != 0) plan.limit = orders_->throttle_bytes_per_second;
  return plan;
}

bool Agent::auto_resume() const { return orders_ ? orders_->auto_resume : config_.auto_resume; }

// The points of the group's policy, unless this host has times of its own.
MarkPolicy Agent::mark_policy() const {
  MarkPolicy policy = config_.marks;
  const bool ordered = orders_ && orders_->phase == AgentOrders::Phase::kReplicating;
  if (ordered && !policy.crash_consistent.any()) policy.crash_consistent.every_ns = orders_->point_interval_ns;
  return policy;
}

void Agent::apply_policy() {
  if (marks_) marks_->set_policy(mark_policy());
  if (!replication_) return;
  replication_->post([this, plan = bandwidth(), resume = auto_resume()](Replicator& replicator) {
    running_link_->set_bandwidth(plan);
    replicator.set_auto_resume(resume);
  });
}

// Once for each label, as soon as it can become a point. Of a mark that fails the log and the report tell.
void Agent::make_ordered_mark() {
  if (!orders_ || orders_->mark_label.empty() || orders_->mark_label == marked_label_ || !replication_ || fenced_)
    return;
  const std::string path = config_.state_directory + "/ordered-mark";
  if (const auto made = read_file(path, kNameBytesMax + 1); made.ok()) marked_label_ = *made;
  if (orders_->mark_label == marked_label_) return;
  const ReplicationStatus status = replication_->status();
  if (status.gap_open || status.state.state != ReplicationStateName::kRealtime) return;
  const Consistency consistency =
      orders_->mark_application_consistent ? Consistency::kApplication : Consistency::kCrash;
  if (const auto asked = marks_->request({orders_->mark_label, consistency}); !asked.ok()) {
    log_error(kMessageMarkFailed, asked.error());
    return;
  }
  marked_label_ = orders_->mark_label;
  if (Status written = write_file_atomically(path, marked_label_); !written.ok()) {
    log_error(kMessageMarkFailed, written.error());
  }
}

// On the node's thread.
Json Agent::node_report() const {
  Json json = Json::object();
  std::shared_ptr<ReplicationThread> thread;
  std::shared_ptr<SourceSurvey> survey;
  std::uint64_t taken_ns = 0;
  std::string label;
  {
    std::lock_guard lock(mutex_);
    thread = replication_;
    survey = survey_;
    taken_ns = orders_taken_ns_;
    json["order"] = orders_ ? orders_->order : 0;
    json["fenced"] = fenced_;
    json["epoch"] = identity_.epoch;
    json["error"] = orders_error_;
    if (orders_) label = orders_->mark_label;
  }
  json["state"] = thread                                   ? Json()
                  : json.at("error").as_string("").empty() ? Json("initialized")
                                                           : Json("replication-error");
  if (!thread) return json;
  const ReplicationStatus status = thread->status();
  // An old answer of a busy thread is none about newer orders.
  const bool counts = system_clock().boot_ns() - status.age_ns >= taken_ns && !json.at("fenced").as_bool(false);
  if (counts) json["state"] = state_text(status.state.state, status.state.direction);
  if (const std::string error = error_of(status); !error.empty()) json["error"] = error;
  json["progress_permille"] = progress_permille(status);
  json["rpo_ns"] = status.rpo_now_ns ? Json(*status.rpo_now_ns) : Json();
  json["backlog_bytes"] = status.backlog_bytes;
  json["gap_open"] = status.gap_open;
  json["connected"] = status.link_up;
  json["mark"] = Json();
  for (const MarkOutcome& mark : marks_->recent()) {
    if (label.empty() || mark.request.label != label) continue;
    json["mark"]["label"] = label;
    json["mark"]["state"] = mark_state_name(mark.state);
    json["mark"]["error"] = mark.error;
  }
  json["findings"] = Json::array();
  for (const Finding& finding : survey->findings()) {
    if (json.at("findings").items().size() == kFindingsMax) break;
    json["findings"].push_back(finding.code + std::string(": ") + finding.text);
  }
  return json;
}

}  // namespace understudy
