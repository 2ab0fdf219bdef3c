// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent.h"

#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <system_error>
#include <thread>
#include <utility>

#include "daemon/agent/event_log.h"
#include "daemon/base/atomic_file.h"
#include "daemon/base/boot_id.h"
#include "daemon/base/clock.h"
#include "daemon/base/exit_code.h"
#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"
#include "daemon/disk_io/read_engine.h"
#include "daemon/tracker/disk_inspect.h"
#include "daemon/tracker/open_capture.h"

namespace understudy {
namespace {

// Encoding is what costs the agent most; more threads than this would take too much from the host.
constexpr unsigned kEncoderThreadsMax = 4;
// Reads of a digest scan under way, kDigestChunkBytes each.
constexpr std::uint32_t kDigestReadBuffers = 8;
// How often the scrub's proofs are written down, when there are new ones.
constexpr std::uint64_t kProofsIntervalNs = 600'000'000'000;
constexpr std::size_t kProofsBytesMax = 64u << 20;
constexpr std::uint64_t kDigestAnswerNsMax = 2'000'000'000;
// More changes of its state than one data path can see.
constexpr std::uint64_t kStateChangesMax = 1ull << 40;

// The agent must not wait for its own pages to be read back from a disk that it protects.
void lock_memory() {
  if (::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
    log_message(LogLevel::kNotice, kMessageDaemonReady,
                Error::from_errno(errno, "lock memory").message() + ", ignoring: allow it with LimitMEMLOCK=infinity");
  }
}

unsigned encoder_threads() { return std::clamp(std::thread::hardware_concurrency() / 2, 1u, kEncoderThreadsMax); }

}  // namespace

int Agent::run() {
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
  if (Status status = start(); !status.ok()) return fail(status.error());

  loop_->watch(signals_->fd(), [this] { take_signals(); });
  if (notifier_.watchdog_interval_ns() != 0) {
    loop_->every(notifier_.watchdog_interval_ns() / 2, [this] { watchdog(); });
  }
  std::uint64_t bytes = 0;
  for (const TrackedDisk& disk : facts_.disks) bytes += disk.size_bytes;
  log_message(LogLevel::kInfo, kMessageDaemonReady,
              replication_ ? "agent for server '" + config_.server + "' protects " +
                                 std::to_string(facts_.disks.size()) +
                                 (facts_.disks.size() == 1 ? " disk, " : " disks, together ") + format_bytes(bytes) +
                                 ", capture by " + facts_.rung + ", reading by " + facts_.read_engine
                           : "agent for server '" + config_.server + "' waits for its orchestrator's orders");
  (void)notifier_.ready(line());
  const Status status = loop_->run();
  if (!status.ok()) return fail(status.error());
  if (failure_) {
    control_->stop();
    return fail(*failure_);
  }
  return finish();
}

Status Agent::start() {
  lock_memory();
  // Bound first: a second agent with the same configuration stops here, by name.
  ASSIGN_OR_RETURN(control_, ControlServer::create({config_.control_socket,
                                                    [](const Error& error) { log_error(kMessageControlFailed, error); },
                                                    {}}));
  if (config_.orchestrator.address.empty()) {
    for (const std::string& disk : config_.disks) {
      if (const auto info = inspect_disk(disk); !info.ok()) return info.error();
    }
  }
  ASSIGN_OR_RETURN(identity_, load_or_create_identity(config_.state_directory, config_.server));
  if (identity_.created) {
    log_message(LogLevel::kInfo, kMessageIdentityCreated,
                "server '" + config_.server + "' has the new identity " + identity_.server.to_string() + ", kept in '" +
                    config_.state_directory + "'");
  }
  ASSIGN_OR_RETURN(ReplicationState state, load_replication_record(config_.state_directory));
  recorder_ = std::make_unique<ReplicationRecorder>(config_.state_directory);
  if (!config_.orchestrator.address.empty()) {
    ASSIGN_OR_RETURN(orders_, load_agent_orders(config_.state_directory));
  }
  state.auto_resume = auto_resume();
  // With an orchestrator, what was never begun waits for its order.
  const bool begins = orders_ ? orders_->replicates()
                              : config_.orchestrator.address.empty() ||
                                    state.state != ReplicationStateName::kInitialized;
  if (orders_ && orders_->replicates() && !orders_->disks.empty()) config_.disks = orders_->disks;
  facts_ = {config_.server, identity_.server, software_, "", "", {}};
  if (begins) RETURN_IF_ERROR(open_data_path(config_.disks, state));
  ::malloc_trim(0);  // what loading the programs took (the kernel's types, 10 MiB) is not needed again
  AgentMarksParts marks;
  marks.server = config_.server;
  marks.run_directory = std::filesystem::path(config_.control_socket).parent_path();
  marks.policy = mark_policy();
  marks.replication = [this] { return replication_now(); };
  marks.disks = [this] {
    std::vector<DeviceNumber> devices;
    std::lock_guard lock(mutex_);
    for (const TrackedDisk& disk : facts_.disks) devices.push_back(disk.device);
    return devices;
  };
  ASSIGN_OR_RETURN(marks_, start_agent_marks(std::move(marks)));
  loop_->every(kProofsIntervalNs, [this] { save_proofs(); });
  add_commands();
  control_->start();
  return start_node();
}

Status Agent::open_data_path(const std::vector<std::string>& paths, const ReplicationState& state) {
  // Everything that may be refused comes before the tracker: a capture that was attached stays, also without us.
  ASSIGN_OR_RETURN(auto engine, make_read_engine(config_.engine, config_.buffers, config_.buffer_bytes));
  ASSIGN_OR_RETURN(auto digest_engine,
                   make_read_engine(config_.engine, kDigestReadBuffers, static_cast<std::uint32_t>(kDigestChunkBytes)));
  ASSIGN_OR_RETURN(const Uuid boot_id, read_boot_id());
  ASSIGN_OR_RETURN(auto tracker, open_tracker(paths));
  AgentFacts facts{config_.server,           identity_.server,  software_, std::string(tracker->rung()),
                   std::string(engine->name()), tracker->disks()};
  ASSIGN_OR_RETURN(auto reader, EngineDiskReader::open(tracker->disks(), std::move(engine)));
  ASSIGN_OR_RETURN(auto digest_reader, EngineDiskReader::open(tracker->disks(), std::move(digest_engine)));
  const std::vector<DiskGeometry> disks = disk_geometry(identity_, tracker->disks());
  RETURN_IF_ERROR(start_link(disks));

  ReplicationThread::Parts parts;
  parts.options.server = identity_.server;
  parts.options.epoch = identity_.epoch;
  parts.options.boot_id = boot_id;
  parts.options.disks = disks;
  parts.options.copier.chunk_bytes_max = config_.buffer_bytes;
  parts.options.digest.scrub_enabled = config_.scrub;
  parts.options.digest.scrub_period_ns = config_.scrub_period_ns;
  parts.options.digest.scrub_bytes_per_second = config_.scrub_bytes_per_second;
  parts.options.collapse_after_ns = config_.collapse_after_ns;
  parts.options.state = state;
  const Uuid capture_id = tracker->capture_id();
  parts.tracker = std::move(tracker);
  parts.reader = std::move(reader);
  parts.digest_reader = std::move(digest_reader);
  running_link_ = link_.get();
  parts.link = std::move(link_);
  parts.on_event = [this, server = config_.server](const ReplicatorEvent& event) {
    log_replicator_event(event, server);
    if (event.kind == ReplicatorEvent::Kind::kDiskChanged) loop_->post([this] { look_for_grown_disks(); });
    // What the copy left out must be known when the agent is started again.
    if (event.kind == ReplicatorEvent::Kind::kCopyFinished) loop_->post([this] { save_proofs(); });
  };
  parts.on_status = [this](const ReplicationStatus& status) { on_status(status); };
  // Written on the main thread: an fsync would hold replication up.
  parts.on_state = [this, base = state_changes_.load()](std::uint64_t number, const ReplicationState& changed) {
    loop_->post([this, number = base + number, changed] { keep_state(number, changed); });
  };
  auto survey = std::make_shared<SourceSurvey>(facts.disks, config_.existing_data_only, config_.leave_out_swap);
  if (config_.existing_data_only) parts.options.survey_wait_ns = kSurveyWaitNsMax;
  parts.on_survey_wanted = [survey](std::uint64_t request) { survey->ask(request); };
  ASSIGN_OR_RETURN(std::shared_ptr<ReplicationThread> thread, ReplicationThread::start(std::move(parts)));
  config_.disks = paths;
  {
    std::lock_guard lock(mutex_);
    facts_ = std::move(facts);
    replication_ = thread;
    survey_ = survey;
  }
  proofs_version_ = 0;
  load_proofs(*thread, capture_id);
  return survey->start([this, weak = std::weak_ptr(thread)](std::uint64_t request, std::vector<GranuleRange> free) {
    const auto replication = weak.lock();
    if (!replication) return;
    forget_proofs();
    replication->post([request, free = std::move(free)](Replicator& replicator) mutable {
      replicator.leave_out(request, std::move(free));
    });
  });
}

std::shared_ptr<ReplicationThread> Agent::replication() const {
  std::lock_guard lock(mutex_);
  return replication_;
}

Result<std::shared_ptr<ReplicationThread>> Agent::replication_now() const {
  auto thread = replication();
  if (!thread) {
    return Error(ErrorKind::kBusy, config_.orchestrator.address.empty()
                                       ? "changed disks are being taken over; try again in a moment"
                                       : "replication does not run: it waits for the orchestrator's order");
  }
  return thread;
}

// A grown disk needs nothing but to be looked at again; one that shrank, or is gone, needs an operator.
void Agent::look_for_grown_disks() {
  if (!replication()) return;
  bool grown = false;
  for (const TrackedDisk& disk : facts_.disks) {
    const auto info = inspect_disk(disk.path);
    if (!info.ok() || info->size_bytes < disk.size_bytes) return;
    grown = grown || info->size_bytes > disk.size_bytes;
  }
  if (!grown) return;
  if (Status status = take_over_disks(config_.disks); !status.ok()) {
    log_error(kMessageDiskChanged, Error(status.error()).with_context("take over a grown disk"));
  }
}

Status Agent::take_over_disks(const std::vector<std::string>& disks) {
  for (const std::string& disk : disks) {
    if (const auto info = inspect_disk(disk); !info.ok()) return info.error();
  }
  const std::vector<std::string> before = config_.disks;
  save_proofs();
  std::shared_ptr<ReplicationThread> old;
  {
    std::lock_guard lock(mutex_);
    old = std::exchange(replication_, nullptr);
  }
  survey_->stop();
  (void)old->drain_and_stop(config_.stop_timeout_ns);  // what is not acknowledged stays in the ring
  // The control thread may still be in a call of it; each has a deadline.
  while (old.use_count() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const ReplicationState state = old->status(0).state;
  state_changes_ += kStateChangesMax;
  old.reset();
  Status status = open_data_path(disks, state);
  if (status.ok()) {
    log_message(LogLevel::kInfo, kMessageDiskChanged, "disks are now " + quoted_list(disks) + ", as large as they are");
    return status;
  }
  if (Status again = open_data_path(before, state); !again.ok()) {
    failure_ = again.error();
    loop_->stop();
  }
  return status;
}

Result<std::unique_ptr<Tracker>> Agent::open_tracker(const std::vector<std::string>& paths) {
  std::vector<std::string> remarks;
  CaptureOptions options;
  options.method = config_.capture_method;
  options.server = config_.server;
  options.disks = paths;
  options.ring_bytes = config_.ring_bytes;
  options.granule_bytes = config_.granule_bytes;
  options.bpffs = config_.bpffs;
  options.remarks = &remarks;
  auto tracker = open_capture(options);
  for (const std::string& remark : remarks) log_message(LogLevel::kNotice, kMessageCaptureStarted, remark);
  if (!tracker.ok()) {
    return std::move(tracker).error().with_context("capture for server '" + config_.server + "'");
  }
  const Uuid capture_id = (*tracker)->capture_id();
  ASSIGN_OR_RETURN(const bool continued, note_capture_id(config_.state_directory, capture_id));
  const std::string disks = quoted_list(paths);
  if (continued) {
    log_message(LogLevel::kInfo, kMessageCaptureContinued,
                "capture " + capture_id.to_string() + " of " + disks + " taken up again: nothing was missed");
  } else {
    log_message(LogLevel::kInfo, kMessageCaptureStarted,
                "capture " + capture_id.to_string() + " of " + disks + " began");
  }
  return tracker;
}

Status Agent::start_link(const std::vector<DiskGeometry>& disks) {
  TlsLinkOptions options;
  const bool ordered = orders_ && !orders_->receiver.name.empty();
  options.host = ordered ? orders_->receiver.address : config_.receiver_address;
  options.port = ordered ? orders_->receiver.port : config_.receiver_port;
  options.receiver_name = ordered ? orders_->receiver.name : config_.receiver_name;
  if (options.host.empty()) {
    return Error(ErrorKind::kInvalidConfig, "neither 'receiver' of the configuration nor 'recovery.receiver' of the "
                                            "group says where the writes go");
  }
  options.tls = config_.tls;
  options.compression = config_.compression;
  options.delta_cache_bytes = config_.delta_cache_bytes;
  options.bandwidth = bandwidth();
  options.encoder_threads = encoder_threads();
  options.hello.server = identity_.server;
  options.hello.server_name = config_.server;
  options.hello.epoch = identity_.epoch;
  options.hello.software = software_;
  options.hello.disks = disks;
  ASSIGN_OR_RETURN(link_, TlsLink::start(std::move(options)));
  return ok_status();
}

void Agent::add_commands() {
  control_->handle("status", [this](const Json&) -> Result<Json> {
    return this->status();
  });
  add_mark_commands(*control_, *marks_);
  control_->handle("digest-scan", [this](const Json& request) { return digest_scan(request); });
  control_->handle("stop", [this](const Json&) { return command(ReplicationCommand::kStop); });
  control_->handle("restart", [this](const Json&) { return command(ReplicationCommand::kRestart); });
  control_->handle("repair", [this](const Json&) { return command(ReplicationCommand::kRepair); });
  control_->handle("shutdown", [this](const Json&) -> Result<Json> {
    loop_->post([this] { begin_stop(false); });
    return Json::object();
  });
  control_->handle("detach", [this](const Json&) -> Result<Json> {
    loop_->post([this] { begin_stop(true); });
    return Json::object();
  });
}

Result<Json> Agent::status() {
  const auto thread = replication();
  if (!thread && config_.orchestrator.address.empty()) RETURN_IF_ERROR(replication_now());
  const ReplicationStatus status = thread ? thread->status() : ReplicationStatus();
  std::lock_guard lock(mutex_);
  Json json = agent_status_json(facts_, status, thread ? survey_->findings() : std::vector<Finding>());
  if (!thread) json["status_line"] = "waits for the orchestrator's orders";
  json["marks"] = marks_json(*marks_);
  json["orchestrator"] = node_ ? node_->status() : Json();
  return json;
}

// {"command":"digest-scan","purpose":"repair"} -> {} when it has begun; status tells how it goes.
Result<Json> Agent::digest_scan(const Json& request) {
  const std::string name = request.at("purpose").as_string("");
  if (name != "repair" && name != "scrub") {
    return Error(ErrorKind::kInvalidArgument,
                 "digest-scan: 'purpose' is '" + name + "'; allowed are 'repair' and 'scrub'");
  }
  ASSIGN_OR_RETURN(const auto thread, replication_now());
  // The scan may take hours: what comes at once is a refusal, else it has begun.
  auto promise = std::make_shared<std::promise<Status>>();
  auto future = promise->get_future();
  thread->post([promise, purpose = name == "repair" ? DigestPurpose::kRepair : DigestPurpose::kScrub](
                         Replicator& replicator) {
    auto refused = std::make_shared<Status>(ok_status());
    replicator.request_digest_scan(purpose, [refused](const Result<DigestProgress>& result) {
      if (!result.ok()) *refused = Status(result.error());
    });
    promise->set_value(*refused);
  });
  if (future.wait_for(std::chrono::nanoseconds(kDigestAnswerNsMax)) != std::future_status::ready) {
    return Error(ErrorKind::kTimeout, "digest-scan: replication does not answer");
  }
  RETURN_IF_ERROR(future.get());
  return Json::object();
}

// What is kept of the scrub is a report: without it, nothing counts as proved.
void Agent::load_proofs(ReplicationThread& thread, const Uuid& capture_id) {
  auto content = read_file(proofs_path(), kProofsBytesMax);
  if (!content.ok()) {
    if (content.error().kind() != ErrorKind::kNotFound) log_error(kMessageDigestScan, content.error());
    return;
  }
  thread.post([content = std::move(content).value(), capture_id](Replicator& replicator) {
    DigestProofs& proofs = replicator.digests().proofs();
    if (proofs.version() != 0) return;  // newer things are known already, or everything is copied again
    const Status status = proofs.restore(std::as_bytes(std::span(content)), capture_id);
    if (!status.ok()) log_message(LogLevel::kNotice, kMessageDigestScan, status.error().message() + ", ignoring");
  });
}

// Before the replicator leaves anything out of a copy; it has forgotten its own proofs when it asked what may be.
void Agent::forget_proofs() {
  std::lock_guard lock(proofs_mutex_);
  ++proofs_forgotten_;
  std::error_code ignored;  // most often there is none
  std::filesystem::remove(proofs_path(), ignored);
}

void Agent::save_proofs() {
  const std::shared_ptr<ReplicationThread> thread = replication();
  if (!thread) return;
  std::uint64_t forgotten = 0;
  {
    std::lock_guard lock(proofs_mutex_);
    forgotten = proofs_forgotten_;
  }
  auto promise = std::make_shared<std::promise<std::pair<std::uint64_t, std::vector<std::byte>>>>();
  auto future = promise->get_future();
  thread->post([promise, known = proofs_version_](Replicator& replicator) {
    const DigestProofs& proofs = replicator.digests().proofs();
    std::pair<std::uint64_t, std::vector<std::byte>> answer{proofs.version(), {}};
    if (answer.first != known) answer.second = proofs.encode(replicator.status().capture_id);
    promise->set_value(std::move(answer));
  });
  if (future.wait_for(std::chrono::nanoseconds(kDigestAnswerNsMax)) != std::future_status::ready) return;
  const auto [version, bytes] = future.get();
  if (bytes.empty()) return;
  std::lock_guard lock(proofs_mutex_);
  if (proofs_forgotten_ != forgotten) return;
  if (Status status = write_file_atomically(proofs_path(), std::span<const std::byte>(bytes)); !status.ok()) {
    log_message(LogLevel::kWarning, kMessageDigestScan, status.error().message() + ", ignoring");
    return;
  }
  proofs_version_ = version;
}

// {"command":"stop"} -> {"state":"realtime-stopping","state_code":10}. What it did is kept before it is answered.
Result<Json> Agent::command(ReplicationCommand command) {
  ASSIGN_OR_RETURN(const auto thread, replication_now());
  ASSIGN_OR_RETURN(const ReplicationThread::Commanded done, thread->command(command));
  RETURN_IF_ERROR(recorder_->save(state_changes_ + done.number, done.state));
  Json json = Json::object();
  json["state"] = state_text(done.state.state, done.state.direction);
  json["state_code"] = static_cast<std::uint64_t>(state_code(done.state.state, done.state.direction));
  return json;
}

void Agent::keep_state(std::uint64_t number, const ReplicationState& state) {
  if (Status status = recorder_->save(number, state); !status.ok()) {
    log_error(kMessageReplicationState, Error(status.error()).with_context("keep the state of replication, ignoring"));
  }
}

void Agent::on_status(const ReplicationStatus& status) {
  std::string line = status_line(status);
  if (line == told_status_) return;
  told_status_ = std::move(line);
  (void)notifier_.status(told_status_);
}

std::string Agent::line() const {
  return replication_ ? status_line(replication_->status()) : "waits for the orchestrator's orders";
}

void Agent::watchdog() {
  if (!replication_) {
    (void)notifier_.watchdog();
    return;
  }
  // Only while the thread that matters turns, too.
  const std::uint64_t age_ns = system_clock().boot_ns() - replication_->last_step_ns();
  if (age_ns < std::max<std::uint64_t>(notifier_.watchdog_interval_ns(), 3'000'000'000)) (void)notifier_.watchdog();
}

void Agent::take_signals() {
  while (const std::optional<int> signal = signals_->take()) {
    if (*signal == SIGHUP) {
      reload();
    } else {
      begin_stop(false);
    }
  }
}

// A bad file changes nothing.
void Agent::reload() {
  (void)notifier_.reloading();
  const auto config = load_agent_config(config_path_);
  if (!config.ok()) {
    log_error(kMessageConfigInvalid, Error(config.error()).with_context("reload, keeping the old configuration"));
  } else {
    log_set_level(config->log_level);
    config_.marks = config->marks;
    // What a data path that is opened again shall have, too.
    config_.compression = config->compression;
    config_.delta_cache_bytes = config->delta_cache_bytes;
    config_.bandwidth = config->bandwidth;
    config_.auto_resume = config->auto_resume;
    config_.scrub = config->scrub;
    config_.scrub_period_ns = config->scrub_period_ns;
    config_.scrub_bytes_per_second = config->scrub_bytes_per_second;
    const bool ordered = orders_ && !orders_->disks.empty();
    if (config->disks != config_.disks && replication_ && !ordered) {
      if (Status status = take_over_disks(config->disks); !status.ok()) {
        log_error(kMessageDiskRefused, Error(status.error()).with_context("reload, keeping the old disks"));
      }
    }
    if (failure_) return;
    apply_policy();
    if (replication_) replication_->post([this, wanted = *config](Replicator& replicator) {
      running_link_->set_compression(wanted.compression, true);
      running_link_->set_delta_cache_bytes(wanted.delta_cache_bytes);
      replicator.set_copy_limits(wanted.buffers);
      replicator.digests().set_scrub(wanted.scrub, wanted.scrub_period_ns, wanted.scrub_bytes_per_second);
    });
    const std::vector<std::string> late = settings_needing_restart(config_, *config);
    if (late.empty()) {
      log_message(LogLevel::kInfo, kMessageConfigReloaded, "configuration reloaded");
    } else {
      log_message(LogLevel::kWarning, kMessageConfigReloadIncomplete,
                  "configuration reloaded, but a changed " + quoted_list(late) + " needs a restart");
    }
  }
  (void)notifier_.ready(line());
}

void Agent::begin_stop(bool detach) {
  detach_ = detach_ || detach;
  loop_->stop();
}

int Agent::finish() {
  log_message(LogLevel::kInfo, kMessageDaemonStopping, "agent for server '" + config_.server + "' is stopping");
  (void)notifier_.stopping("sending what is captured");
  node_.reset();
  control_->stop();
  save_proofs();
  marks_->stop();
  const bool drained = !replication_ || replication_->drain_and_stop(config_.stop_timeout_ns);
  if (survey_) survey_->stop();
  if (detach_ && replication_) {
    if (Status status = replication_->detach(); !status.ok()) return fail(status.error());
    log_message(LogLevel::kInfo, kMessageCaptureDetached,
                "capture of " + quoted_list(config_.disks) + " ended: writes from now on are not protected");
  }
  replication_.reset();
  log_message(LogLevel::kInfo, kMessageDaemonStopped,
              "agent for server '" + config_.server + "' stopped; " +
                  (drained ? "everything captured is acknowledged"
                           : "not everything captured is acknowledged yet, which goes on with the next start") +
                  (detach_ ? "" : ", capture goes on in the kernel"));
  return kExitOk;
}

int Agent::fail(const Error& error) {
  log_error(kMessageDaemonFailed, error);
  (void)notifier_.failed(error.error_number(), error.message());
  return exit_code_of(error.kind());
}

}  // namespace understudy
