// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/mark_policy.h"

#include <algorithm>

#include "daemon/base/limits.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::uint64_t kMinuteNs = 60'000'000'000;
constexpr ConfigRange kEveryNs{0, 24 * 60 * kMinuteNs};
constexpr ConfigRange kTimeoutNs{1'000'000'000, 10 * kMinuteNs};
// Applications stand still while their file system is frozen.
constexpr ConfigRange kDeadlineNs{100'000'000, kMinuteNs};
constexpr std::size_t kTimesMax = 48;

MarkTimes read_times(ConfigMap map) {
  MarkTimes times;
  times.every_ns = map.duration_ns("every", 0, kEveryNs);
  if (times.every_ns % kMinuteNs != 0) {
    map.mistake("every", "'" + format_duration_exact_ns(times.every_ns) +
                             "': allowed are 0s (never) and whole minutes "
                             "from 1min to 24h");
  }
  for (ConfigItem& item : map.list("at", {0, kTimesMax}, false)) {
    const std::string text = item.text();
    if (const auto minutes = parse_time_of_day(text)) {
      times.at_minutes.push_back(*minutes);
    } else {
      item.mistake(quote(text) + " is no time of day; wanted \"HH:MM\" from \"00:00\" to \"23:59\", in quotes");
    }
  }
  std::sort(times.at_minutes.begin(), times.at_minutes.end());
  times.at_minutes.erase(std::unique(times.at_minutes.begin(), times.at_minutes.end()), times.at_minutes.end());
  return times;
}

Hook read_hook(ConfigMap map) {
  Hook hook;
  hook.name = map.name("name");
  hook.pre = map.path("pre", "");
  hook.post = map.path("post", "");
  hook.timeout_ns = map.duration_ns("timeout", hook.timeout_ns, kTimeoutNs);
  if (hook.pre.empty() && hook.post.empty()) map.mistake("name", "a hook needs 'pre', 'post' or both");
  return hook;
}

}  // namespace

MarkPolicy read_mark_policy(ConfigMap marks) {
  MarkPolicy policy;
  policy.crash_consistent = read_times(marks.map("crash_consistent"));
  policy.application_consistent = read_times(marks.map("application_consistent"));
  for (ConfigItem& item : marks.list("hooks", {0, kHooksMax}, false)) {
    Hook hook = read_hook(item.map());
    const bool twice = std::any_of(policy.hooks.begin(), policy.hooks.end(),
                                   [&](const Hook& other) { return other.name == hook.name; });
    if (twice && !hook.name.empty()) item.mistake("hook '" + hook.name + "' stands here twice");
    policy.hooks.push_back(std::move(hook));
  }
  ConfigMap freeze = marks.map("freeze");
  policy.freeze = freeze.boolean("enabled", policy.freeze);
  policy.freeze_deadline_ns = freeze.duration_ns("deadline", policy.freeze_deadline_ns, kDeadlineNs);
  return policy;
}

std::optional<std::uint32_t> parse_time_of_day(std::string_view text) {
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  for (const std::size_t i : {0, 1, 3, 4})
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
  const auto two = [&](std::size_t i) { return static_cast<std::uint32_t>((text[i] - '0') * 10 + text[i + 1] - '0'); };
  if (two(0) > 23 || two(3) > 59) return std::nullopt;
  return two(0) * 60 + two(3);
}

}  // namespace understudy
