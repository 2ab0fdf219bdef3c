// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <future>
#include <thread>
#include <utility>

#include "daemon/agent/event_log.h"
#include "daemon/base/atomic_file.h"
#include "daemon/base/boot_id.h"
#include "daemon/base/clock.h"
#include "daemon/base/exit_code.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"
#include "daemon/disk_io/read_engine.h"
#include "daemon/tracker/bpf_tracker.h"
#include "daemon/tracker/disk_inspect.h"

namespace understudy {
namespace {

constexpr std::uint64_t kMarkWaitNsDefault = 5'000'000'000;
constexpr std::uint64_t kMarkWaitNsMax = 30'000'000'000;
// Encoding is what costs the agent most; more threads than this would take too much from the host.
constexpr unsigned kEncoderThreadsMax = 4;
// Reads of a digest scan under way, kDigestChunkBytes each.
constexpr std::uint32_t kDigestReadBuffers = 8;
// How often the scrub's proofs are written down, when there are new ones.
constexpr std::uint64_t kProofsIntervalNs = 600'000'000'000;
constexpr std::size_t kProofsBytesMax = 64u << 20;
constexpr std::uint64_t kDigestAnswerNsMax = 2'000'000'000;

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
  const std::string line = status_line(replication_->status());
  std::uint64_t bytes = 0;
  for (const TrackedDisk& disk : facts_.disks) bytes += disk.size_bytes;
  log_message(LogLevel::kInfo, kMessageDaemonReady,
              "agent for server '" + config_.server + "' protects " + std::to_string(facts_.disks.size()) +
                  (facts_.disks.size() == 1 ? " disk, " : " disks, together ") + format_bytes(bytes) +
                  ", capture by " + facts_.rung + ", reading by " + facts_.read_engine);
  (void)notifier_.ready(line);
  const Status status = loop_->run();
  if (!status.ok()) return fail(status.error());
  return finish();
}

Status Agent::start() {
  lock_memory();
  // Bound first: a second agent with the same configuration stops here, by name.
  ASSIGN_OR_RETURN(control_, ControlServer::create({config_.control_socket,
                                                    [](const Error& error) { log_error(kMessageControlFailed, error); },
                                                    {}}));
  for (const std::string& disk : config_.disks) {
    if (const auto info = inspect_disk(disk); !info.ok()) return info.error();
  }
  ASSIGN_OR_RETURN(const AgentIdentity identity, load_or_create_identity(config_.state_directory, config_.server));
  if (identity.created) {
    log_message(LogLevel::kInfo, kMessageIdentityCreated,
                "server '" + config_.server + "' has the new identity " + identity.server.to_string() + ", kept in '" +
                    config_.state_directory + "'");
  }
  // Everything that may be refused comes before the tracker: a capture that was attached stays, also without us.
  ASSIGN_OR_RETURN(auto engine, make_read_engine(config_.engine, config_.buffers, config_.buffer_bytes));
  ASSIGN_OR_RETURN(const Uuid boot_id, read_boot_id());
  ASSIGN_OR_RETURN(auto tracker, open_tracker(identity));
  facts_ = {config_.server,           identity.server,  software_, std::string(tracker->rung()),
            std::string(engine->name()), tracker->disks()};
  ASSIGN_OR_RETURN(auto reader, EngineDiskReader::open(tracker->disks(), std::move(engine)));
  ASSIGN_OR_RETURN(auto digest_engine,
                   make_read_engine(config_.engine, kDigestReadBuffers, static_cast<std::uint32_t>(kDigestChunkBytes)));
  ASSIGN_OR_RETURN(auto digest_reader, EngineDiskReader::open(tracker->disks(), std::move(digest_engine)));
  const std::vector<DiskGeometry> disks = disk_geometry(identity, tracker->disks());
  RETURN_IF_ERROR(start_link(identity, disks));

  ReplicationThread::Parts parts;
  parts.options.server = identity.server;
  parts.options.epoch = identity.epoch;
  parts.options.boot_id = boot_id;
  parts.options.disks = disks;
  parts.options.copier.chunk_bytes_max = config_.buffer_bytes;
  parts.options.digest.scrub_enabled = config_.scrub;
  parts.options.digest.scrub_bytes_per_second = config_.scrub_bytes_per_second;
  proofs_capture_ = tracker->capture_id();
  parts.tracker = std::move(tracker);
  parts.reader = std::move(reader);
  parts.digest_reader = std::move(digest_reader);
  running_link_ = link_.get();
  parts.link = std::move(link_);
  parts.on_event = [server = config_.server](const ReplicatorEvent& event) { log_replicator_event(event, server); };
  parts.on_status = [this](const ReplicationStatus& status) { on_status(status); };
  ASSIGN_OR_RETURN(replication_, ReplicationThread::start(std::move(parts)));
  load_proofs();
  loop_->every(kProofsIntervalNs, [this] { save_proofs(); });
  add_commands();
  control_->start();
  return ok_status();
}

Result<std::unique_ptr<Tracker>> Agent::open_tracker(const AgentIdentity& identity) {
  std::vector<std::string> remarks;
  BpfTrackerOptions options;
  options.server = config_.server;
  options.disks = config_.disks;
  options.ring_bytes = config_.ring_bytes;
  options.granule_bytes = config_.granule_bytes;
  options.bpffs = config_.bpffs;
  options.remarks = &remarks;
  auto tracker = open_bpf_tracker(options);
  for (const std::string& remark : remarks) log_message(LogLevel::kNotice, kMessageCaptureStarted, remark);
  if (!tracker.ok()) {
    return std::move(tracker).error().with_context("capture for server '" + identity.server_name + "'");
  }
  const Uuid capture_id = (*tracker)->capture_id();
  ASSIGN_OR_RETURN(const bool continued, note_capture_id(config_.state_directory, capture_id));
  const std::string disks = quoted_list(config_.disks);
  if (continued) {
    log_message(LogLevel::kInfo, kMessageCaptureContinued,
                "capture " + capture_id.to_string() + " of " + disks + " taken up again: nothing was missed");
  } else {
    log_message(LogLevel::kInfo, kMessageCaptureStarted,
                "capture " + capture_id.to_string() + " of " + disks + " began");
  }
  return tracker;
}

Status Agent::start_link(const AgentIdentity& identity, const std::vector<DiskGeometry>& disks) {
  TlsLinkOptions options;
  options.host = config_.receiver_address;
  options.port = config_.receiver_port;
  options.receiver_name = config_.receiver_name;
  options.tls = config_.tls;
  options.compression = config_.compression;
  options.encoder_threads = encoder_threads();
  options.hello.server = identity.server;
  options.hello.server_name = config_.server;
  options.hello.epoch = identity.epoch;
  options.hello.software = software_;
  options.hello.disks = disks;
  ASSIGN_OR_RETURN(link_, TlsLink::start(std::move(options)));
  return ok_status();
}

void Agent::add_commands() {
  control_->handle("status", [this](const Json&) -> Result<Json> {
    return agent_status_json(facts_, replication_->status());
  });
  control_->handle("mark", [this](const Json& request) { return mark(request); });
  control_->handle("digest-scan", [this](const Json& request) { return digest_scan(request); });
  control_->handle("stop", [this](const Json&) -> Result<Json> {
    loop_->post([this] { begin_stop(false); });
    return Json::object();
  });
  control_->handle("detach", [this](const Json&) -> Result<Json> {
    loop_->post([this] { begin_stop(true); });
    return Json::object();
  });
}

// {"command":"mark","name":"before-upgrade","consistency":"application","timeout_ms":5000} -> {"seq":123}
Result<Json> Agent::mark(const Json& request) {
  MarkInfo info;
  info.name = request.at("name").as_string("");
  if (info.name.empty() || info.name.size() > 255) {
    return Error(ErrorKind::kInvalidArgument, "mark: 'name' must have 1 to 255 bytes");
  }
  const std::string consistency = request.at("consistency").as_string("crash");
  if (consistency != "crash" && consistency != "application") {
    return Error(ErrorKind::kInvalidArgument,
                 "mark: 'consistency' is '" + consistency + "'; allowed are 'crash' and 'application'");
  }
  info.consistency = consistency == "crash" ? Consistency::kCrash : Consistency::kApplication;
  const std::uint64_t wait_ns =
      std::min(request.at("timeout_ms").as_unsigned(kMarkWaitNsDefault / 1'000'000), kMarkWaitNsMax / 1'000'000) *
      1'000'000;
  auto promise = std::make_shared<std::promise<Result<Seq>>>();
  auto future = promise->get_future();
  replication_->post([promise, info, wait_ns](Replicator& replicator) {
    replicator.request_mark(info, system_clock().boot_ns() + wait_ns,
                            [promise](Result<Seq> result) { promise->set_value(std::move(result)); });
  });
  // The replicator keeps the deadline itself; the second more is for a thread that does not turn.
  if (future.wait_for(std::chrono::nanoseconds(wait_ns + 1'000'000'000)) != std::future_status::ready) {
    return Error(ErrorKind::kTimeout, "mark '" + info.name + "': replication does not answer");
  }
  ASSIGN_OR_RETURN(const Seq seq, future.get());
  Json json = Json::object();
  json["name"] = info.name;
  json["seq"] = seq;
  return json;
}

// {"command":"digest-scan","purpose":"repair"} -> {} when it has begun; status tells how it goes.
Result<Json> Agent::digest_scan(const Json& request) {
  const std::string name = request.at("purpose").as_string("");
  if (name != "repair" && name != "scrub") {
    return Error(ErrorKind::kInvalidArgument,
                 "digest-scan: 'purpose' is '" + name + "'; allowed are 'repair' and 'scrub'");
  }
  // The scan may take hours: what comes at once is a refusal, else it has begun.
  auto promise = std::make_shared<std::promise<Status>>();
  auto future = promise->get_future();
  replication_->post([promise, purpose = name == "repair" ? DigestPurpose::kRepair : DigestPurpose::kScrub](
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
void Agent::load_proofs() {
  auto content = read_file(proofs_path(), kProofsBytesMax);
  if (!content.ok()) {
    if (content.error().kind() != ErrorKind::kNotFound) log_error(kMessageDigestScan, content.error());
    return;
  }
  replication_->post([content = std::move(content).value(), capture = proofs_capture_](Replicator& replicator) {
    const Status status = replicator.digests().proofs().restore(std::as_bytes(std::span(content)), capture);
    if (!status.ok()) log_message(LogLevel::kNotice, kMessageDigestScan, status.error().message() + ", ignoring");
  });
}

void Agent::save_proofs() {
  auto promise = std::make_shared<std::promise<std::pair<std::uint64_t, std::vector<std::byte>>>>();
  auto future = promise->get_future();
  replication_->post([promise, known = proofs_version_](Replicator& replicator) {
    const DigestProofs& proofs = replicator.digests().proofs();
    std::pair<std::uint64_t, std::vector<std::byte>> answer{proofs.version(), {}};
    if (answer.first != known) answer.second = proofs.encode(replicator.status().capture_id);
    promise->set_value(std::move(answer));
  });
  if (future.wait_for(std::chrono::nanoseconds(kDigestAnswerNsMax)) != std::future_status::ready) return;
  const auto [version, bytes] = future.get();
  if (bytes.empty()) return;
  if (Status status = write_file_atomically(proofs_path(), std::span<const std::byte>(bytes)); !status.ok()) {
    log_message(LogLevel::kWarning, kMessageDigestScan, status.error().message() + ", ignoring");
    return;
  }
  proofs_version_ = version;
}

void Agent::on_status(const ReplicationStatus& status) {
  std::string line = status_line(status);
  if (line == told_status_) return;
  told_status_ = std::move(line);
  (void)notifier_.status(told_status_);
}

void Agent::watchdog() {
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
    replication_->post([this, compression = config->compression, buffers = config->buffers, scrub = config->scrub,
                        rate = config->scrub_bytes_per_second](Replicator& replicator) {
      running_link_->set_compression(compression, true);
      replicator.digests().set_scrub(scrub, rate);
      replicator.set_copy_limits(buffers);
    });
    const std::vector<std::string> late = settings_needing_restart(config_, *config);
    if (late.empty()) {
      log_message(LogLevel::kInfo, kMessageConfigReloaded, "configuration reloaded");
    } else {
      log_message(LogLevel::kWarning, kMessageConfigReloadIncomplete,
                  "configuration reloaded, but a changed " + quoted_list(late) + " needs a restart");
    }
  }
  (void)notifier_.ready(status_line(replication_->status()));
}

void Agent::begin_stop(bool detach) {
  detach_ = detach_ || detach;
  loop_->stop();
}

int Agent::finish() {
  log_message(LogLevel::kInfo, kMessageDaemonStopping, "agent for server '" + config_.server + "' is stopping");
  (void)notifier_.stopping("sending what is captured");
  control_->stop();
  save_proofs();
  const bool drained = replication_->drain_and_stop(config_.stop_timeout_ns);
  if (detach_) {
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
