// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent_orders.h"

#include <cstdio>

#include "tests/unit/temporary_directory.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr const char* kDesired =
    R"({"type":"desired","order":7,"phase":"replicating","epoch":2,"restart":5,"repair":6,"disks":["/dev/vda"],)"
    R"("receiver":{"name":"dr-1","address":"10.0.0.1","port":7600},"auto_resume":false,)"
    R"("throttle_bytes_per_second":1048576,"point_interval_ns":3600000000000,)"
    R"("mark":{"label":"noon","consistency":"application"},"group":"shop","of_the_future":[1]})";

Result<AgentOrders> parse(const std::string& text) {
  auto json = Json::parse(text);
  if (!json.ok()) return json.error();
  return parse_agent_orders(*json);
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), by);
}

}  // namespace

TEST_CASE("agent orders: what is told is what is kept") {
  const auto orders = parse(kDesired);
  REQUIRE(orders.ok());
  CHECK(orders->order == 7);
  CHECK(orders->replicates());
  CHECK(orders->disks == std::vector<std::string>{"/dev/vda"});
  CHECK(orders->receiver.port == 7600);
  CHECK(orders->mark_application_consistent);
  TemporaryDirectory directory;
  const auto before = load_agent_orders(directory.path());
  REQUIRE(before.ok());
  CHECK_FALSE(before->has_value());
  REQUIRE(save_agent_orders(directory.path(), *orders).ok());
  const auto kept = load_agent_orders(directory.path());
  REQUIRE(kept.ok());
  CHECK(**kept == *orders);
  AgentOrders few;
  REQUIRE(save_agent_orders(directory.path(), few).ok());
  CHECK(**load_agent_orders(directory.path()) == few);
}

TEST_CASE("agent orders: what cannot be is refused by the name of its member") {
  const auto check = [](const std::string& what, const std::string& by, const std::string& member) {
    const auto refused = parse(replaced(kDesired, what, by));
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().message().find("'" + member + "'") != std::string::npos);
  };
  check(R"("phase":"replicating")", R"("phase":"erased")", "phase");
  check(R"("phase":"replicating",)", "", "phase");
  check(R"("epoch":2)", R"("epoch":0)", "epoch");
  check(R"("epoch":2)", R"("epoch":"2")", "epoch");
  check(R"(["/dev/vda"])", R"(["vda"])", "disks");
  check(R"(["/dev/vda"])", R"([7])", "disks");
  check("7600", "76000", "receiver");
  check(R"("dr-1")", R"("")", "receiver");
  check(R"("noon")", "\"" + std::string(256, 'n') + "\"", "mark");
}

TEST_CASE("agent orders: a file that cannot be understood is not taken for none") {
  TemporaryDirectory directory;
  std::FILE* file = std::fopen(directory.file("orders.json").c_str(), "w");
  REQUIRE(file != nullptr);
  std::fputs("{\"order\": 7", file);
  std::fclose(file);
  const auto broken = load_agent_orders(directory.path());
  REQUIRE_FALSE(broken.ok());
  CHECK(broken.error().kind() == ErrorKind::kCorrupt);
}

}  // namespace understudy
