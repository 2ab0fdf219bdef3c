// SPDX-License-Identifier: Apache-2.0
// A world for the reconciler: servers with a model of their own of what is legal and what follows, clients that report,
// orders that take a while, and faults. It outlives the reconciler's crashes, and writes down every breach it sees.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "orchestrator/drivers/driver.h"

namespace understudy {

class RecordingDriver final : public Driver {
 public:
  explicit RecordingDriver(std::uint64_t seed) : random_(seed) {}

  // Orders fail, answers are lost, clients are silent or late, replication breaks.
  bool faults = false;
  // Objects that the operator allowed to be destroyed, and how often.
  std::map<std::string, int> allowed;
  std::vector<std::string> breaches;
  // Operations that were carried out, in order: "web-1 failover".
  std::vector<std::string> carried_out;
  // Fails the next order of this kind, once.
  std::set<Trigger> fail_once;

  Status give(const DriverOrder& order) override;
  DriverProgress progress(const DriverOrder& order) override;
  std::optional<ServerReport> report(const std::string& server) override;

  // The reconciler has taken in what it was told.
  void note_processed();
  // Lets time pass: orders end, copies go on.
  void tick();
  std::string state_of(const std::string& server) const;
  // Puts replication into error.
  void break_replication(const std::string& server);
  void lose_source(const std::string& server, bool lost) { servers_[server].source_lost = lost; }
  void set_unreachable(bool unreachable) { unreachable_ = unreachable; }
  std::size_t orders_taken() const { return orders_.size(); }
  const std::set<std::uint64_t> order_ids() const;

 private:
  struct Order {
    Trigger operation = Trigger::kAdd;
    std::string server;
    int ticks_left = 0;
    bool fails = false;
    DriverProgress progress;
  };
  struct Server {
    std::string state = "absent";
    std::string drill = "none";
    // What the reconciler may take the state to be: replication may have broken since, which it cannot know, and a
    // crash may have lost a report that it was given.
    std::set<std::string> believed;
    std::string reported = "absent";
    std::string before;      // where an upgrade or a failed de-registration goes back to
    bool realtime_reached = false;
    bool source_lost = false;
    bool confirm_begun = false;
    bool deregister_begun = false;
    std::uint64_t newest_order = 0;
    std::uint64_t newest_drill_order = 0;
    ServerReport last_report;  // may come late
  };

  bool chance(int in_hundred) { return faults && static_cast<int>(random_() % 100) < in_hundred; }
  void take(const DriverOrder& order, bool fails);
  void end(Order& order);
  void check_legal(const DriverOrder& order, const Server& server);
  void check_allowed(const DriverOrder& order, const Server& server);

  std::mt19937_64 random_;
  bool unreachable_ = false;
  std::map<std::string, Server> servers_;
  std::map<std::uint64_t, Order> orders_;
};

}  // namespace understudy
