// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/receiver_host.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace understudy::sim {
namespace {

constexpr std::uint64_t kTickNs = 500 * kMillisecond;
constexpr std::uint64_t kProofNs = 3 * kSecond;
constexpr std::size_t kQueueBytesMax = 256 << 10;

}  // namespace

// As ReceiverSession, on the simulated network.
class SimSession final : public StoreClient,
                         public SessionPort,
                         public Endpoint,
                         public std::enable_shared_from_this<SimSession> {
 public:
  SimSession(ReceiverHost& host, std::shared_ptr<Connection> connection)
      : host_(host),
        world_(host.world_),
        connection_(std::move(connection)),
        pool_(host.pool_),
        core_("dr-1", kQueueBytesMax, *pool_, *this, host.clock_.boot_ns()) {}

  void start() {
    connection_->set_endpoint(kReceiverSide, this);
    step(PeerConnected{{{WireRole::kAgent, "web-1"}, "certificate"}});
    tick();
  }
  void refuse(RefuseCode code, const std::string& text) {
    post([this, code, text] {
      if (core_.state() == ServerSession::State::kAttaching) step(AttachRefused{code, text});
    });
  }
  void stop(ByeCode code, const std::string& text) {
    post([this, code, text] { step(StopSession{code, text}); });
  }
  // The process died: nothing is said any more.
  void vanish() { closed_ = true; }
  const std::shared_ptr<Connection>& connection() const { return connection_; }

  // --- StoreClient ---
  void store_attached(const StreamPosition& position, const std::vector<std::uint64_t>&) override {
    if (closed_) return;
    world_.note("store", "attached at seq {}, generation {}", position.seq, position.generation);
    host_.watch_.promised(position.seq, *host_.disk_);
    post([this, position] {
      if (core_.state() != ServerSession::State::kAttaching) return;
      Welcome welcome;
      welcome.position = position;
      step(Attached{std::move(welcome)});
    });
  }
  void store_refused(RefuseCode code, const std::string& text) override {
    world_.note("store", "refuses the agent, code {}", static_cast<std::uint64_t>(code));
    refuse(code, text);
  }
  void store_committed(Seq seq) override {
    if (closed_) return;
    world_.note("store", "committed up to seq {}", seq);
    host_.watch_.promised(seq, *host_.disk_);
    post([this, seq] {
      core_.committed(seq, !core_.output().empty(), host_.clock_.boot_ns());
      pump();
    });
  }
  void store_notice(const Notice& notice) override {
    post([this, notice] { step(NoticeChanged{notice}); });
  }
  void store_took(std::size_t bytes) override {
    post([this, bytes] {
      waiting_bytes_ -= bytes;
      if (core_.took(bytes)) bytes_arrived();
    });
  }
  void store_digest_answer(const DigestAnswer& answer) override {
    world_.note("store", "says {} of region {}", static_cast<std::uint64_t>(answer.verdict), answer.token);
    post([this, answer] {
      if (finished_) return;
      core_.answered(answer, host_.clock_.boot_ns());
      pump();
    });
  }
  void store_failed(ByeCode code, const std::string& text) override {
    world_.note("store", "the session fails, code {}", static_cast<std::uint64_t>(code));
    stop(code, text);
  }

  // --- SessionPort ---
  void session_greet(const Hello& hello) override { host_.hello(shared_from_this(), hello); }
  void session_batch(Buffer batch) override {
    REQUIRE(waiting_bytes_ < kQueueBytesMax, "I3",
            std::to_string(waiting_bytes_) + " bytes wait for the store and still more is read");
    waiting_bytes_ += batch.size();
    if (host_.worker_) host_.worker_->submit(shared_from_this(), std::move(batch));
  }
  void session_question(DigestQuestion question) override {
    if (host_.worker_) host_.worker_->ask_digest(shared_from_this(), std::move(question));
  }
  void session_finish(Error, bool) override { finished_ = true; }

  // --- Endpoint ---
  void bytes_arrived() override {
    if (closed_) return;
    while (!finished_ && !core_.paused()) {
      const std::size_t bytes = connection_->read(kReceiverSide, core_.space());
      if (bytes == 0) break;
      core_.received(bytes, host_.clock_.boot_ns());
      step(BytesReceived{});
    }
    if (finished_) {
      std::byte ignored[4096];
      while (connection_->read(kReceiverSide, ignored) > 0) {
      }
    }
    pump();
  }
  void may_write() override { pump(); }
  void ended() override { end(); }

 private:
  // What is on its way between threads in the real receiver.
  template <typename Function>
  void post(Function function) {
    world_.scheduler.after(1 + world_.below(300 * kMicrosecond), [self = shared_from_this(), function] {
      if (!self->closed_) function();
    });
  }
  void step(SessionEvent event) {
    if (closed_ || finished_) return;
    core_.step(std::move(event), host_.clock_.boot_ns());
    pump();
  }
  void pump() {
    if (closed_) return;
    while (!core_.output().empty()) {
      const std::size_t taken = connection_->write(kReceiverSide, core_.output());
      if (taken == 0) return;
      core_.sent(taken);
      sent_since_tick_ = true;
    }
    if (finished_) return end();
    core_.flush_ack(host_.clock_.boot_ns());
    if (!core_.output().empty()) pump();
  }
  void tick() {
    world_.scheduler.after(kTickNs, [self = shared_from_this()] {
      if (self->closed_) return;
      if (std::exchange(self->sent_since_tick_, false)) self->step(BytesSent{});
      self->step(ClockTick{!self->core_.paused(), !self->core_.output().empty()});
      self->tick();
    });
  }
  void end() {
    if (closed_) return;
    closed_ = true;
    connection_->close(kReceiverSide);
    if (host_.worker_) host_.worker_->detach(this);
    host_.ended(this);
  }

  ReceiverHost& host_;
  World& world_;
  const std::shared_ptr<Connection> connection_;
  const std::shared_ptr<BufferPool> pool_;  // events that nobody runs any more may keep us longer than the host
  SessionCore core_;
  std::size_t waiting_bytes_ = 0;  // for the store
  bool sent_since_tick_ = false;
  bool finished_ = false;
  bool closed_ = false;
};

void DigestTurns::wake(StoreTask& task) {
  task_ = &task;
  woken_ = true;
  if (event_ == 0) schedule(0);
}

void DigestTurns::forget(StoreTask&) {
  world_.scheduler.cancel(std::exchange(event_, 0));
  task_ = nullptr;
}

void DigestTurns::schedule(std::uint64_t delay_ns) {
  event_ = world_.scheduler.after(delay_ns + 1 + world_.below(kMillisecond), [this] {
    event_ = 0;
    if (task_ == nullptr) return;
    woken_ = false;
    const std::optional<std::uint64_t> next = task_->turn();
    if (woken_ || (next && *next == 0)) schedule(0);
  });
}

ReceiverHost::ReceiverHost(World& world, ReceiverWatch& watch, std::uint64_t segment_bytes)
    : world_(world),
      watch_(watch),
      segment_bytes_(segment_bytes),
      clock_(world.scheduler, 1'700'000'000 * kSecond),
      disk_(std::make_unique<MemoryFileSystem>()) {
  start();
}

ReceiverHost::~ReceiverHost() {
  disk_->cut_power();
  for (const auto& session : sessions_) session->vanish();
  if (worker_) worker_->abandon();
}

StoreOptions ReceiverHost::options() {
  StoreOptions options;
  options.directory = "/stores/web-1";
  options.segment_bytes_max = segment_bytes_;
  options.file_system = disk_.get();
  return options;
}

void ReceiverHost::start() {
  world_.note("receiver", "starts");
  ++incarnation_;
  stopping_ = false;
  arm_disk();
  watch_.restarted(*disk_);
  // Small enough that a run of the simulation has several merges, each with several turns.
  MergeSettings merge;
  merge.bytes_per_second = 1ull << (20 + world_.below(10));
  merge.memory_bytes = 4096u << world_.below(7);
  merge.files = 2 + world_.below(3);
  merge.block_bytes = 1024u << world_.below(6);
  worker_ = std::make_unique<StoreWorker>("web-1", options(), *this, digest_turns_, clock_, &job_turns_, merge);
}

// Faults of the disk, and death at any call to it.
void ReceiverHost::arm_disk() {
  disk_->set_fault([this](const FileOperation& operation) -> std::optional<Error> {
    if (!in_turn_) return std::nullopt;
    if (calls_to_live_ > 0 && --calls_to_live_ == 0) {
      // From here on the process can change nothing, and nobody hears of it any more: as good as dead.
      disk_->cut_power();
      for (const auto& session : sessions_) session->vanish();
      died_ = true;
      return std::nullopt;
    }
    if (fail_sync_ && operation.kind == FileOperation::Kind::kSync) {
      fail_sync_ = false;
      world_.note("fault", "a sync fails");
      // Read-only until somebody starts the receiver again.
      world_.scheduler.after(world_.between(10, 500) * kMillisecond, [this, incarnation = incarnation_] {
        if (incarnation == incarnation_) crash(false);
      });
      return Error(ErrorKind::kIo, "sync: Input/output error", EIO);
    }
    return std::nullopt;
  });
}

std::shared_ptr<Connection> ReceiverHost::dial() {
  if (!running()) return nullptr;
  auto connection = std::make_shared<Connection>(world_, weather_);
  std::erase_if(connections_, [](const std::weak_ptr<Connection>& old) { return old.expired(); });
  connections_.push_back(connection);
  auto session = std::make_shared<SimSession>(*this, connection);
  sessions_.push_back(session);
  session->start();
  return connection;
}

// As ReceiverServer::session_hello(): goodbyes are said on other threads, so they come at any time.
void ReceiverHost::hello(const std::shared_ptr<SimSession>& session, const Hello& hello) {
  if (!running()) return session->refuse(RefuseCode::kShuttingDown, "the receiver is stopping");
  if (!current_ || instance_ == hello.instance) {
    if (current_) current_->stop(ByeCode::kReplaced, "the same agent connected again");
    return take(session, hello);
  }
  const std::shared_ptr<SimSession> challenged = current_;
  world_.scheduler.after(kProofNs, [this, session, hello, challenged, incarnation = incarnation_] {
    if (incarnation != incarnation_ || !running()) return;
    const bool alive = current_ == challenged && challenged->connection()->has_endpoint(kAgentSide);
    if (current_ && (current_ != challenged || alive)) {
      return session->refuse(RefuseCode::kAlreadyConnected, "connected already");
    }
    if (current_) current_->stop(ByeCode::kReplaced, "this connection seemed dead");
    take(session, hello);
  });
}

void ReceiverHost::take(const std::shared_ptr<SimSession>& session, const Hello& hello) {
  current_ = session;
  instance_ = hello.instance;
  worker_->attach(session, hello);
}

void ReceiverHost::ended(const SimSession* session) {
  if (current_.get() == session) current_.reset();
  std::erase_if(sessions_, [session](const auto& other) { return other.get() == session; });
}

void JobTurns::wake(StoreTask& task) {
  task_ = &task;
  if (event_ == 0) schedule(kMillisecond);
}

void JobTurns::forget(StoreTask&) {
  world_.scheduler.cancel(std::exchange(event_, 0));
  task_ = nullptr;
}

void JobTurns::schedule(std::uint64_t delay_ns) {
  event_ = world_.scheduler.after(delay_ns, [this] {
    event_ = 0;
    const std::optional<std::uint64_t> next = run_(*task_);
    if (next && event_ == 0 && task_ != nullptr) schedule(*next + kMillisecond);
  });
}

// Jobs change files as well: the process may die, and a sync may fail, in the middle of them.
std::optional<std::uint64_t> ReceiverHost::run_job(StoreTask& task) {
  in_turn_ = true;
  const std::uint64_t merges = worker_->status().jobs.merges;
  const std::optional<std::uint64_t> next = task.turn();
  in_turn_ = false;
  if (const StoreJobs::Figures jobs = worker_->status().jobs; jobs.merges > merges) {
    world_.note("jobs", "merged, {} files are left", jobs.files);
    ++merges_;
  }
  if (!died_) return next;
  crash(power_dies_);
  return std::nullopt;
}

void ReceiverHost::wake(StoreTask& task) {
  task_ = &task;
  if (in_turn_) {
    woken_ = true;
    return;
  }
  schedule_turn(0);
}

void ReceiverHost::forget(StoreTask&) {
  world_.scheduler.cancel(std::exchange(turn_event_, 0));
  task_ = nullptr;
}

void ReceiverHost::schedule_turn(std::uint64_t delay_ns) {
  world_.scheduler.cancel(turn_event_);
  delay_ns += 1 + world_.below(200 * kMicrosecond);
  if (world_.scheduler.now() < slow_until_ && !world_.calm) delay_ns += world_.below(200 * kMillisecond);
  turn_event_ = world_.scheduler.after(delay_ns, [this] { run_turn(); });
}

void ReceiverHost::run_turn() {
  turn_event_ = 0;
  if (task_ == nullptr) return;
  in_turn_ = true;
  woken_ = false;
  const std::optional<std::uint64_t> next = task_->turn();
  in_turn_ = false;
  if (died_) return crash(power_dies_);
  if (stopping_ && worker_->ended()) {
    // Its goodbyes are on their way; then the process ends.
    world_.scheduler.after(2 * kMillisecond, [this, incarnation = incarnation_] {
      if (incarnation == incarnation_) crash(false);
    });
    return;
  }
  if (woken_ || (next && *next == 0)) {
    schedule_turn(0);
  } else if (next) {
    schedule_turn(*next);
  }
}

void ReceiverHost::kill_soon(bool power) {
  if (!running()) return;
  power_dies_ = power;
  calls_to_live_ = 1 + world_.below(25);
  world_.scheduler.after(world_.below(200 * kMillisecond), [this, incarnation = incarnation_] {
    if (incarnation == incarnation_) crash(power_dies_);
  });
}

// Ends the process, and with `power` the machine; something starts it again after a while.
void ReceiverHost::crash(bool power) {
  world_.note("receiver", power ? "loses its power" : "process ends");
  ++incarnation_;
  calls_to_live_ = 0;
  died_ = false;
  disk_->cut_power();
  const auto sessions = std::exchange(sessions_, {});
  current_.reset();
  for (const auto& session : sessions) {
    session->vanish();
    session->connection()->set_endpoint(kReceiverSide, nullptr);
    // A dead machine says nothing until it is back and knows of no such connection.
    if (power) {
      session->connection()->cut(world_.between(1, 20'000) * kMillisecond, 0, true);
    } else {
      session->connection()->cut(world_.below(5 * kMillisecond), 0, true);
    }
  }
  if (worker_) worker_->abandon();
  worker_.reset();
  if (power) {
    disk_->restart(world_.random);
  } else {
    disk_->restart_process();
  }
  world_.scheduler.after(world_.between(1, 800) * kMillisecond, [this, incarnation = incarnation_] {
    if (incarnation == incarnation_) start();
  });
}

void ReceiverHost::stop() {
  if (!running()) return;
  stopping_ = true;
  for (const auto& session : std::vector(sessions_)) session->stop(ByeCode::kShutdown, "the receiver is stopping");
  worker_->request_stop();
}

void ReceiverHost::fill_disk(std::uint64_t for_ns) {
  disk_->set_space(disk_->used_bytes() + world_.below(24 << 10));
  world_.scheduler.after(for_ns, [this] { disk_->set_space(~std::uint64_t{0}); });
}

void ReceiverHost::restore_copy() {
  if (!copy_) return;
  world_.note("fault", "the store is restored from an older copy");
  crash(false);
  disk_ = std::move(copy_);
  disk_->restart(world_.random);  // a copy of what the disk held then, made while the receiver ran
}

void ReceiverHost::calm_down() {
  disk_->set_space(~std::uint64_t{0});
  fail_sync_ = false;
  weather_ = NetworkWeather{};
}

bool ReceiverHost::idle() const {
  return worker_ != nullptr && turn_event_ == 0 && worker_->status().queued_bytes == 0;
}

}  // namespace understudy::sim
