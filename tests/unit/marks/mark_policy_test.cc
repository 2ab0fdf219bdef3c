// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/mark_policy.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kMinute = 60'000'000'000;

Status read(const std::string& text, MarkPolicy& policy) {
  const auto reader = ConfigReader::parse(text, "agent.yaml");
  policy = read_mark_policy(reader->root().map("marks"));
  return reader->finish();
}

std::string mistake(const std::string& text) {
  MarkPolicy policy;
  const Status status = read(text, policy);
  return status.ok() ? "" : status.error().message();
}

}  // namespace

TEST_CASE("mark policy: without a word nothing is scheduled") {
  MarkPolicy policy;
  REQUIRE(read("marks: {}\n", policy).ok());
  CHECK(policy == MarkPolicy{});
  CHECK_FALSE(policy.crash_consistent.any());
  CHECK(policy.freeze);
}

TEST_CASE("mark policy: everything can be said") {
  MarkPolicy policy;
  REQUIRE(read(R"(marks:
  crash_consistent: {every: 15min}
  application_consistent: {every: 6h, at: ["23:59", "03:00", "03:00"]}
  hooks: [{name: postgresql, pre: /p, post: /q, timeout: 5s}, {name: b, post: c}]
  freeze: {enabled: false, deadline: 500ms}
)",
               policy)
              .ok());
  CHECK(policy.crash_consistent == MarkTimes{15 * kMinute, {}});
  CHECK(policy.application_consistent == MarkTimes{360 * kMinute, {180, 1439}});
  REQUIRE(policy.hooks.size() == 2);
  CHECK(policy.hooks[0] == Hook{"postgresql", "/p", "/q", 5'000'000'000});
  CHECK(policy.hooks[1].pre.empty());
  CHECK(policy.hooks[1].timeout_ns == 30'000'000'000);
  CHECK_FALSE(policy.freeze);
  CHECK(policy.freeze_deadline_ns == 500'000'000);
}

TEST_CASE("mark policy: nonsense is named with what is allowed") {
  CHECK(mistake("marks: {crash_consistent: {every: 90s}}").find("whole minutes from 1min to 24h") != std::string::npos);
  CHECK(mistake("marks: {crash_consistent: {every: 25h}}").find("'25h', out of range; allowed: 0s to 1d") !=
        std::string::npos);
  CHECK(mistake("marks: {crash_consistent: {every: often}}").find("agent.yaml:1:") == 0);
  CHECK(mistake("marks: {application_consistent: {at: [\"24:00\"]}}").find("'24:00' is no time of day") !=
        std::string::npos);
  CHECK(mistake("marks: {application_consistent: {at: [\"3:00\"]}}").find("HH:MM") != std::string::npos);
  CHECK(mistake("marks: {hooks: [{name: a}]}").find("needs 'pre', 'post' or both") != std::string::npos);
  CHECK(mistake("marks: {hooks: [{name: a, pre: /x}, {name: a, pre: /y}]}").find("stands here twice") !=
        std::string::npos);
  CHECK(mistake("marks: {hooks: [{name: a, pre: /x, timeout: 0s}]}").find("10min") != std::string::npos);
  CHECK(mistake("marks: {freeze: {deadline: 0s}}").find("100ms") != std::string::npos);
  CHECK(mistake("marks: {freeze: {deadline: 2h}}").find("1min") != std::string::npos);
  CHECK(mistake("marks: {consistent: {}}").find("unknown key 'marks.consistent'") != std::string::npos);
}

}  // namespace understudy
