// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/nodes/node_driver.h"

#include <map>

#include "orchestrator/state/database.h"
#include "tests/unit/orchestrator/group_text.h"
#include "tests/unit/orchestrator/reconciler_harness.h"
#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>

namespace understudy {
namespace {

constexpr const char* kReceiverText =
    "  receiver: {name: dr-1, address: 10.2.0.9, port: 7611}\n"
    "policy: {auto_resume: false, throttle: 20MiB/s}\nmark: {label: noon, consistency: application}\n";

// Nodes that say what the test has them say.
class FakeLinks final : public NodeLinks {
 public:
  std::map<WireIdentity, NodeView> views;
  std::map<WireIdentity, Json> desired;

  std::optional<NodeView> find(const WireIdentity& identity) const override {
    const auto found = views.find(identity);
    if (found == views.end()) return std::nullopt;
    return found->second;
  }
  void set_desired(const WireIdentity& identity, Json wanted) override { desired[identity] = std::move(wanted); }
  std::uint64_t started_ns() const override { return 0; }

  void connect(const WireIdentity& identity, std::uint64_t epoch = 1) {
    NodeView& view = views[identity];
    view.identity = identity;
    view.connected = true;
    view.version = "1.0";
    Json hello = Json::object();
    hello["epoch"] = epoch;
    view.hello = std::make_shared<const Json>(hello);
  }
  void say(const WireIdentity& identity, const std::string& json) {
    auto parsed = Json::parse(json);
    REQUIRE(parsed.ok());
    views[identity].report = std::make_shared<const Json>(std::move(parsed).value());
  }
};

const WireIdentity kAgent{WireRole::kAgent, "web-1"};
const WireIdentity kReceiver{WireRole::kReceiver, "dr-1"};

struct Fixture {
  TemporaryDirectory directory;
  HandClock clock;
  FakeLinks links;
  std::unique_ptr<OrchestratorState> state;
  std::unique_ptr<NodeDriver> driver;
  DeclaredState declared;

  Fixture() {
    clock.now_ns = kSourceLostNs;
    auto opened = OrchestratorState::open(directory.file("state.db"), Durability::kProcess);
    REQUIRE(opened.ok());
    state = std::move(opened).value();
    restart();
    REQUIRE(mistakes_in({source_of("g", group_text(server_text("web-1", 5), kReceiverText))}, &declared) == "");
    driver->declare(declared);
  }
  void restart() {
    auto made = NodeDriver::open(*state, links, clock);
    REQUIRE(made.ok());
    driver = std::move(made).value();
    driver->declare(declared);
  }
  DriverOrder order(std::uint64_t id, Trigger operation) const {
    DriverOrder order;
    order.id = id;
    order.operation = operation;
    order.group = "g";
    order.server = "web-1";
    order.group_spec = declared.find_group("g");
    order.server_spec = order.group_spec->find_server("web-1");
    return order;
  }
  DriverProgress::State progress(std::uint64_t id, Trigger operation) {
    return driver->progress(order(id, operation)).state;
  }
  // Added and started, with both nodes there.
  void begin() {
    links.connect(kAgent);
    links.connect(kReceiver);
    REQUIRE(driver->give(order(1, Trigger::kAdd)).ok());
    REQUIRE(driver->give(order(2, Trigger::kStart)).ok());
  }
  const Json& told_agent() { return links.desired[kAgent]; }
};

using State = DriverProgress::State;

}  // namespace

TEST_CASE("a server is added when its agent is there, and began nothing then") {
  Fixture fixture;
  CHECK(fixture.driver->give(fixture.order(1, Trigger::kAdd)).error().kind() == ErrorKind::kClosed);
  CHECK(fixture.progress(1, Trigger::kAdd) == State::kUnknown);
  CHECK_FALSE(fixture.driver->report("web-1")->replication.has_value());
  fixture.links.connect(kAgent, 3);
  REQUIRE(fixture.driver->give(fixture.order(1, Trigger::kAdd)).ok());
  CHECK(fixture.told_agent().at("phase") == Json("registered"));
  CHECK(fixture.told_agent().at("epoch") == Json(std::uint64_t{3}));
  CHECK(fixture.progress(1, Trigger::kAdd) == State::kRunning);
  fixture.links.say(kAgent, R"({"order":1,"state":"initialized"})");
  CHECK(fixture.progress(1, Trigger::kAdd) == State::kDone);
}

TEST_CASE("what an order changes is told with the policy, kept, and told again by the next process") {
  Fixture fixture;
  fixture.begin();
  const auto check_told = [&](const std::string& phase, std::uint64_t order, std::uint64_t restart,
                              std::uint64_t repair) {
    const Json& told = fixture.told_agent();
    CHECK(told.at("phase").as_string("") == phase);
    CHECK(told.at("order").as_unsigned(0) == order);
    CHECK(told.at("restart").as_unsigned(0) == restart);
    CHECK(told.at("repair").as_unsigned(0) == repair);
    CHECK(told.at("disks").dump() == R"(["/dev/vda"])");
    CHECK(told.at("receiver").dump() == R"({"name":"dr-1","address":"10.2.0.9","port":7611})");
    CHECK_FALSE(told.at("auto_resume").as_bool(true));
    CHECK(told.at("throttle_bytes_per_second").as_unsigned(0) == 20u << 20);
    CHECK(told.at("mark").dump() == R"({"label":"noon","consistency":"application"})");
  };
  check_told("replicating", 2, 0, 0);
  CHECK(fixture.links.desired[kReceiver].at("stores").dump() == R"([{"server":"web-1","epoch":1}])");
  REQUIRE(fixture.driver->give(fixture.order(3, Trigger::kStop)).ok());
  check_told("stopped", 3, 0, 0);
  REQUIRE(fixture.driver->give(fixture.order(4, Trigger::kRestart)).ok());
  check_told("replicating", 4, 4, 0);
  REQUIRE(fixture.driver->give(fixture.order(5, Trigger::kRepair)).ok());
  check_told("replicating", 5, 4, 5);
  fixture.links.desired.clear();
  fixture.restart();
  check_told("replicating", 5, 4, 5);
  // The same order again is the same order.
  REQUIRE(fixture.driver->give(fixture.order(5, Trigger::kRepair)).ok());
  check_told("replicating", 5, 4, 5);
}

TEST_CASE("a store is there before its agent is told, and nobody begins without it") {
  Fixture fixture;
  fixture.links.connect(kAgent);
  REQUIRE(fixture.driver->give(fixture.order(1, Trigger::kAdd)).ok());
  const Status waits = fixture.driver->give(fixture.order(2, Trigger::kStart));
  CHECK(waits.error().kind() == ErrorKind::kClosed);
  CHECK(waits.error().message().find("'dr-1'") != std::string::npos);
  CHECK(fixture.told_agent().at("phase") == Json("registered"));
}

TEST_CASE("a de-registration removes the store by name, after capture has ended") {
  Fixture fixture;
  fixture.begin();
  REQUIRE(fixture.driver->give(fixture.order(9, Trigger::kDeregister)).ok());
  CHECK(fixture.told_agent().at("phase") == Json("released"));
  CHECK(fixture.links.desired[kReceiver].at("stores").items().empty());
  CHECK(fixture.links.desired[kReceiver].at("remove").dump() == R"([{"server":"web-1","order":9}])");
  CHECK(fixture.progress(9, Trigger::kDeregister) == State::kRunning);
  fixture.links.say(kReceiver, R"({"removed":[{"server":"web-1","order":9}]})");
  CHECK(fixture.progress(9, Trigger::kDeregister) == State::kRunning);  // the agent has not ended its capture
  fixture.links.say(kAgent, R"({"order":9,"state":"initialized"})");
  fixture.links.say(kReceiver, R"({"removed":[{"server":"web-1","order":8}]})");
  CHECK(fixture.progress(9, Trigger::kDeregister) == State::kRunning);  // that was an earlier one
  fixture.links.say(kReceiver, R"({"removed":[{"server":"web-1","order":9}]})");
  CHECK(fixture.progress(9, Trigger::kDeregister) == State::kDone);
  CHECK(fixture.links.desired[kReceiver].at("remove").items().empty());
  // A new relation has an epoch of its own: who comes back from the old one is fenced by it.
  REQUIRE(fixture.driver->give(fixture.order(10, Trigger::kAdd)).ok());
  CHECK(fixture.told_agent().at("epoch").as_unsigned(0) == 2);
  REQUIRE(fixture.driver->give(fixture.order(10, Trigger::kAdd)).ok());
  CHECK(fixture.told_agent().at("epoch").as_unsigned(0) == 2);
}

TEST_CASE("contact that was just lost holds a de-registration up; a lost source does not") {
  Fixture fixture;
  fixture.begin();
  fixture.links.say(kAgent, R"({"order":2,"state":"realtime-replicating"})");
  fixture.links.say(kReceiver, R"({"stores":[{"server":"web-1","connected":false,"initial_copy_done":true}]})");
  fixture.links.views[kAgent].connected = false;
  fixture.links.views[kAgent].since_ns = fixture.clock.now_ns;
  REQUIRE(fixture.driver->give(fixture.order(9, Trigger::kDeregister)).ok());
  fixture.links.say(kReceiver, R"({"removed":[{"server":"web-1","order":9}]})");
  CHECK(fixture.progress(9, Trigger::kDeregister) == State::kRunning);
  CHECK_FALSE(fixture.driver->report("web-1")->source_lost.has_value());
  fixture.clock.now_ns += kSourceLostNs;
  CHECK(fixture.driver->report("web-1")->source_lost == true);
  // Its receiver hears it: it is only the way to us that is gone.
  fixture.links.say(kReceiver, R"({"stores":[{"server":"web-1","connected":true}]})");
  CHECK_FALSE(fixture.driver->report("web-1")->source_lost.has_value());
  CHECK(fixture.progress(9, Trigger::kDeregister) == State::kRunning);
  fixture.links.say(kReceiver, R"({"removed":[{"server":"web-1","order":9}]})");
  CHECK(fixture.progress(9, Trigger::kDeregister) == State::kDone);
  CHECK(fixture.told_agent().at("phase") == Json("released"));  // for when it comes back
}

TEST_CASE("what is reported is what nodes say, and nothing is made up of silence") {
  Fixture fixture;
  CHECK_FALSE(fixture.driver->report("web-1")->replication);  // lost since the start
  fixture.begin();
  CHECK_FALSE(fixture.driver->report("web-1"));  // connected, no word yet
  fixture.links.say(kAgent, R"({"order":2,"state":"full-replicating","progress_permille":5000,"error":"slow"})");
  auto report = fixture.driver->report("web-1");
  REQUIRE(report);
  CHECK(report->replication == LifecycleState::kFullReplicating);
  CHECK(report->order == 2);
  CHECK(report->progress_permille == 1000);
  CHECK(report->error == "slow");
  CHECK(report->source_lost == false);
  CHECK_FALSE(report->usable_point);
  for (const char* odd :
       {R"({"order":2,"state":"failed-over"})", R"({"order":2,"state":7})", R"({"order":-2})", "{}"}) {
    fixture.links.say(kAgent, odd);
    CHECK_FALSE(fixture.driver->report("web-1")->replication);
  }
  fixture.links.say(kReceiver, R"({"stores":[{"server":"web-1","initial_copy_done":true}]})");
  CHECK(fixture.driver->report("web-1")->usable_point == true);
}

TEST_CASE("an upgrade waits for the version, and hosts are not brought up here") {
  Fixture fixture;
  fixture.begin();
  DriverOrder upgrade = fixture.order(3, Trigger::kUpgrade);
  ServerSpec wanted = *upgrade.server_spec;
  wanted.client_version = "2.0";
  upgrade.server_spec = &wanted;
  REQUIRE(fixture.driver->give(upgrade).ok());
  CHECK(fixture.driver->progress(upgrade).state == State::kRunning);
  fixture.links.views[kAgent].version = "2.0";
  CHECK(fixture.driver->progress(upgrade).state == State::kDone);
  const Status refused = fixture.driver->give(fixture.order(4, Trigger::kFailover));
  CHECK(refused.error().kind() == ErrorKind::kUnsupported);
  // What is reported from now on is said after that order, too.
  CHECK(fixture.told_agent().at("order").as_unsigned(0) == 4);
  CHECK(fixture.told_agent().at("phase") == Json("replicating"));
}

}  // namespace understudy
