// SPDX-License-Identifier: Apache-2.0
// A protection group's file of any content: mistakes with their place, or a group of which a plan can be made.
#include <cstdint>
#include <string>

#include "daemon/base/check.h"
#include "orchestrator/plan/group_plan.h"
#include "orchestrator/spec/declared_state.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace understudy;
  DeclaredSource source;
  source.id = "fuzz";
  source.files.emplace_back("fuzz.yaml", std::string(reinterpret_cast<const char*>(data), size));
  const auto declared = parse_declared_state({source}, {});
  if (!declared.ok()) {
    CHECK(declared.error().message().starts_with("fuzz.yaml:"));
    return 0;
  }
  const GroupSpec& group = declared->groups.front();
  CHECK(group.production.subnet.has_value() && group.recovery.subnet.has_value());
  CHECK(group.production.zone != group.recovery.zone);
  const GroupPlan plan = plan_group(group, {}, {}, {}, 1);
  CHECK_EQ(plan.entries.size(), group.servers.size());
  CHECK(!group_plan_text(plan).empty());
  return 0;
}
