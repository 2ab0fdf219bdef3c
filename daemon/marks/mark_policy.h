// SPDX-License-Identifier: Apache-2.0
// When points are marked by themselves, and how applications are brought to rest for them: `marks:` of agent.yaml.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/yaml_config.h"

namespace understudy {

// Slots of a local day: every so often from midnight on, and at times of day.
struct MarkTimes {
  std::uint64_t every_ns = 0;             // 0 = not
  std::vector<std::uint32_t> at_minutes;  // of the day, ascending
  bool any() const { return every_ns != 0 || !at_minutes.empty(); }
  bool operator==(const MarkTimes&) const = default;
};

// Programs of the administrator; either may be empty.
struct Hook {
  std::string name;
  std::string pre;
  std::string post;
  std::uint64_t timeout_ns = 30'000'000'000;  // of each
  bool operator==(const Hook&) const = default;
};

struct MarkPolicy {
  MarkTimes crash_consistent;
  MarkTimes application_consistent;
  std::vector<Hook> hooks;                            // for application-consistent marks
  bool freeze = true;                                 // file systems, too
  std::uint64_t freeze_deadline_ns = 10'000'000'000;  // they are thawed then, whatever happens
  bool operator==(const MarkPolicy&) const = default;
};

// Reads the map; mistakes stay in its reader.
MarkPolicy read_mark_policy(ConfigMap marks);

// "HH:MM", 00:00 to 23:59; nullopt = not of this form.
std::optional<std::uint32_t> parse_time_of_day(std::string_view text);

}  // namespace understudy
