// SPDX-License-Identifier: Apache-2.0
// The machine in the other zone: its disk, its receiver process with the production session core, store worker and
// store, and the ways in which both die.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/receiver/buffer_pool.h"
#include "daemon/receiver/session_core.h"
#include "daemon/receiver/store_worker.h"
#include "tests/sim/network.h"
#include "tests/unit/store/memory_file_system.h"

namespace understudy::sim {

class SimSession;

// What the oracle wants to know of it.
class ReceiverWatch {
 public:
  virtual ~ReceiverWatch() = default;
  // The receiver says that everything up to `seq` is durable, to the agent that streams (ack) or comes (welcome).
  virtual void promised(Seq seq, MemoryFileSystem& disk) = 0;
  // The store was opened by a new process.
  virtual void restarted(MemoryFileSystem& disk) = 0;
};

// Turns of what compares digests: no faults there, for it changes nothing, but any time between two of them.
class DigestTurns final : public StoreExecutor {
 public:
  explicit DigestTurns(World& world) : world_(world) {}
  void wake(StoreTask& task) override;
  void forget(StoreTask& task) override;

 private:
  void schedule(std::uint64_t delay_ns);
  World& world_;
  StoreTask* task_ = nullptr;
  Scheduler::EventId event_ = 0;
  bool woken_ = false;
};

// The receiver's low-priority thread: turns of the store's jobs, between everything else.
class JobTurns final : public StoreExecutor {
 public:
  using Run = std::function<std::optional<std::uint64_t>(StoreTask&)>;
  JobTurns(World& world, Run run) : world_(world), run_(std::move(run)) {}
  void wake(StoreTask& task) override;
  void forget(StoreTask& task) override;

 private:
  void schedule(std::uint64_t delay_ns);

  World& world_;
  const Run run_;
  StoreTask* task_ = nullptr;
  Scheduler::EventId event_ = 0;
};

class ReceiverHost final : public StoreExecutor {
 public:
  ReceiverHost(World& world, ReceiverWatch& watch, std::uint64_t segment_bytes);
  ~ReceiverHost() override;

  // For agents: a connection, or null while no receiver runs.
  std::shared_ptr<Connection> dial();
  bool running() const { return worker_ != nullptr && !stopping_; }
  bool process_alive() const { return worker_ != nullptr; }

  // --- faults ---
  // The process dies at one of the next calls to the file system, or at the latest soon; with `power` the machine.
  void kill_soon(bool power);
  void stop();                                       // SIGTERM
  void fail_next_sync() { fail_sync_ = true; }       // EIO; the receiver is started again later
  void fill_disk(std::uint64_t for_ns);
  void slow_down(std::uint64_t for_ns) { slow_until_ = world_.scheduler.now() + for_ns; }
  void take_copy() { copy_ = disk_->clone(); }
  void forget_copy() { copy_.reset(); }
  bool has_copy() const { return copy_ != nullptr; }
  void restore_copy();                               // the store is replaced by the copy
  // Everything well again, for the end of the run.
  void calm_down();

  std::uint64_t merges() const { return merges_; }
  MemoryFileSystem& disk() { return *disk_; }
  StoreOptions options();
  MachineClock& clock() { return clock_; }
  const NetworkWeather& weather() const { return weather_; }
  NetworkWeather& weather() { return weather_; }
  const std::vector<std::weak_ptr<Connection>>& connections() const { return connections_; }
  // Nothing of the store waits.
  bool idle() const;

  // --- StoreExecutor ---
  void wake(StoreTask& task) override;
  void forget(StoreTask& task) override;

 private:
  friend class SimSession;
  void start();
  void crash(bool power);
  void run_turn();
  std::optional<std::uint64_t> run_job(StoreTask& task);
  void schedule_turn(std::uint64_t delay_ns);
  void arm_disk();
  void hello(const std::shared_ptr<SimSession>& session, const Hello& hello);
  void take(const std::shared_ptr<SimSession>& session, const Hello& hello);
  void ended(const SimSession* session);

  World& world_;
  ReceiverWatch& watch_;
  const std::uint64_t segment_bytes_;
  MachineClock clock_;
  NetworkWeather weather_;
  std::unique_ptr<MemoryFileSystem> disk_;
  std::unique_ptr<MemoryFileSystem> copy_;
  std::shared_ptr<BufferPool> pool_ = std::make_shared<BufferPool>(1 << 20);
  DigestTurns digest_turns_{world_};
  JobTurns job_turns_{world_, [this](StoreTask& task) { return run_job(task); }};
  std::unique_ptr<StoreWorker> worker_;
  std::vector<std::shared_ptr<SimSession>> sessions_;
  std::shared_ptr<SimSession> current_;  // the one that has the store
  Uuid instance_;
  std::vector<std::weak_ptr<Connection>> connections_;

  StoreTask* task_ = nullptr;            // to have a turn
  Scheduler::EventId turn_event_ = 0;
  bool in_turn_ = false;
  bool woken_ = false;                   // during its turn
  bool stopping_ = false;
  bool fail_sync_ = false;
  std::uint64_t calls_to_live_ = 0;      // 0 = no death is near
  bool power_dies_ = false;
  bool died_ = false;                    // in this turn
  Scheduler::Time slow_until_ = 0;
  std::uint64_t incarnation_ = 0;        // of the process
  std::uint64_t merges_ = 0;
};

}  // namespace understudy::sim
