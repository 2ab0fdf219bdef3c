// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/simulation.h"

#include <cmath>
#include <vector>

#include "tests/sim/oracle.h"
#include "tests/sim/receiver_host.h"
#include "tests/sim/source_host.h"
#include "tests/sim/world.h"

namespace understudy::sim {
namespace {

// A run that does more than this, or takes longer to settle, hangs.
constexpr std::uint64_t kEventsMax = 3'000'000;
constexpr std::uint64_t kSettleNsMax = 120 * kSecond;

class Run {
 public:
  Run(std::uint64_t seed, bool print)
      : world_(seed, print),
        segment_bytes_(16384u << world_.below(5)),
        oracle_(world_, segment_bytes_),
        receiver_(world_, oracle_, segment_bytes_),
        source_(world_, oracle_, [this] { return receiver_.dial(); }) {
    source_.on_agent_start = [this] { receiver_.forget_copy(); };
    static constexpr std::uint32_t kMood[] = {0, 50, 100, 100, 200};  // percent of the table's shares
    const std::uint32_t mood = kMood[world_.below(5)];
    for (std::size_t row = 0; row < kFaultTable.size(); ++row) {
      if (world_.chance(kFaultTable[row].chosen * mood / 100)) plan(row);
    }
  }

  void run(Outcome& outcome) {
    outcome_ = &outcome;
    const Scheduler::Time end = world_.between(100, 2500) * kMillisecond;
    while (world_.scheduler.now() < end) step();
    settle();
    finish();
    outcome.ok = true;
  }
  World& world() { return world_; }
  const Oracle& oracle() const { return oracle_; }
  std::string status() { return source_.status(); }
  std::uint64_t merges() const { return receiver_.merges(); }

 private:
  void step() {
    REQUIRE(world_.scheduler.run_next(), "simulation", "nothing is left to happen");
    REQUIRE(world_.scheduler.events_run() < kEventsMax, "end", "the system runs in circles: " + source_.status());
  }

  // --- faults ---
  void plan(std::size_t row) {
    const double mean_ns = 1e9 / kFaultTable[row].per_second;
    const double share = static_cast<double>(1 + world_.below(1'000'000)) / 1'000'001.0;
    world_.scheduler.after(static_cast<std::uint64_t>(-std::log(share) * mean_ns), [this, row] {
      if (world_.calm) return;
      happen(row);
      plan(row);
    });
  }

  void happen(std::size_t row) {
    const FaultRow& fault = kFaultTable[row];
    ++outcome_->faults[row];
    const std::uint64_t lasting_ns = world_.between(fault.ms_min, fault.ms_max) * kMillisecond;
    world_.trace.note(world_.scheduler.now(), "fault", fault.name.data());
    switch (fault.fault) {
      case Fault::kCut: cut(lasting_ns, lasting_ns, true); break;
      case Fault::kLateTail: cut(0, lasting_ns, false); break;
      case Fault::kBlackHole:
        for (const auto& weak : receiver_.connections()) {
          if (const auto connection = weak.lock()) connection->black_hole();
        }
        break;
      case Fault::kDelay: receiver_.weather().stalled_until = world_.scheduler.now() + lasting_ns; break;
      case Fault::kSlowNetwork: slow_network(lasting_ns); break;
      case Fault::kFlippedBit: source_.flip_bit(); break;
      case Fault::kAgentKill: source_.kill_agent_soon(lasting_ns); break;
      case Fault::kAgentStop: source_.stop_agent(lasting_ns); break;
      case Fault::kSourceCrash: source_.crash(lasting_ns); break;
      case Fault::kReceiverKill: receiver_.kill_soon(false); break;
      case Fault::kPowerCut: receiver_.kill_soon(true); break;
      case Fault::kReceiverStop: receiver_.stop(); break;
      case Fault::kSlowReceiver: receiver_.slow_down(lasting_ns); break;
      case Fault::kFullDisk: receiver_.fill_disk(lasting_ns); break;
      case Fault::kFailedSync: receiver_.fail_next_sync(); break;
      case Fault::kOlderCopy: older_copy(); break;
      case Fault::kWallJump: jump(7200 * kSecond); break;
      case Fault::kWallStep: jump(20 * kMillisecond); break;
      case Fault::kRingOverflow: source_.shrink_ring(lasting_ns); break;
      case Fault::kSkippedWrite: source_.skip_write(); break;
      case Fault::kUnreadableWrite: source_.fail_page_read(); break;
      case Fault::kMissedProgram: source_.miss_program(); break;
      case Fault::kUnsettled: source_.unsettle(); break;
      case Fault::kDiskError: source_.fail_reads(lasting_ns); break;
    }
  }

  void cut(std::uint64_t agent_delay_ns, std::uint64_t receiver_delay_ns, bool lose_tail) {
    for (const auto& weak : receiver_.connections()) {
      const auto connection = weak.lock();
      if (connection && connection->has_endpoint(kAgentSide)) {
        connection->cut(world_.below(agent_delay_ns + 1), receiver_delay_ns, lose_tail);
      }
    }
  }

  void slow_network(std::uint64_t lasting_ns) {
    NetworkWeather& weather = receiver_.weather();
    weather.piece_bytes_max = 1 + world_.below(2000);
    weather.capacity_bytes = 64 + world_.below(8 << 10);
    world_.scheduler.after(lasting_ns, [this] { receiver_.weather() = NetworkWeather{}; });
  }

  // First it is made, later it is used.
  void older_copy() {
    if (!receiver_.has_copy()) return receiver_.take_copy();
    receiver_.restore_copy();
    oracle_.store_went_back();
  }

  void jump(std::uint64_t most_ns) {
    const auto by_ns = static_cast<std::int64_t>(world_.below(2 * most_ns)) - static_cast<std::int64_t>(most_ns);
    if (world_.chance(30)) return receiver_.clock().step_wall(by_ns);
    oracle_.wall_jumped();
    source_.clock().step_wall(by_ns);
  }

  // --- the end ---
  void settle() {
    world_.calm = true;
    world_.note("world", "is calm from here on");
    receiver_.calm_down();
    source_.calm_down();
    const Scheduler::Time until = world_.scheduler.now() + kSettleNsMax;
    while (!(source_.settled() && receiver_.idle() && oracle_up_to_date())) {
      REQUIRE(world_.scheduler.now() < until, "end", "the replica does not become whole: " + source_.status());
      step();
      source_.calm_down();
    }
  }

  // Cheap first: the agent's figures, then the store.
  bool oracle_up_to_date() {
    const Seq acknowledged = source_.acknowledged();
    if (acknowledged == 0 || acknowledged == looked_at_) return false;
    looked_at_ = acknowledged;
    oracle_.inspect(receiver_.disk());
    return oracle_.complete() && oracle_.seq() == acknowledged;
  }

  // A clean end of the receiver, so that its disk can prove everything.
  void finish() {
    const std::vector<std::vector<std::byte>> disks = source_.disks();
    receiver_.stop();
    while (receiver_.process_alive()) step();
    oracle_.final_inspection(receiver_.disk(), disks);
  }

  World world_;
  const std::uint64_t segment_bytes_;
  Oracle oracle_;
  ReceiverHost receiver_;
  SourceHost source_;
  Outcome* outcome_ = nullptr;
  Seq looked_at_ = 0;
};

}  // namespace

Outcome simulate(std::uint64_t seed, bool print) {
  Outcome outcome;
  Run run(seed, print);
  try {
    run.run(outcome);
  } catch (const Broken& broken) {
    outcome.broken = broken.what();
    outcome.tail = run.world().trace.tail();
  }
  outcome.trace_hash = run.world().trace.hash();
  outcome.events = run.world().scheduler.events_run();
  outcome.records = run.oracle().records_checked();
  outcome.points = run.oracle().points_checked();
  outcome.heals = run.oracle().heals_checked();
  outcome.merges = run.merges();
  return outcome;
}

}  // namespace understudy::sim
