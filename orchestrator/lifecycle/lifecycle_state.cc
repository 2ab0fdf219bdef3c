// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/lifecycle/lifecycle_state.h"

#include <array>

#include "daemon/base/check.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

struct StateEntry {
  std::string_view name;
  StateKind kind;
};

constexpr StateKind kS = StateKind::kStable;
constexpr StateKind kA = StateKind::kActive;
constexpr StateKind kT = StateKind::kTransient;
constexpr StateKind kE = StateKind::kError;

// In the order of LifecycleState.
constexpr std::array<StateEntry, kLifecycleStates> kStateEntries{{
    {"absent", kS},
    {"client-installing", kT},
    {"client-install-failed", kE},
    {"initialized", kS},
    {"replication-starting", kT},
    {"full-replicating", kA},
    {"full-stopping", kT},
    {"full-stopped", kS},
    {"realtime-starting", kT},
    {"realtime-replicating", kA},
    {"realtime-stopping", kT},
    {"realtime-stopped", kS},
    {"replication-error", kE},
    {"client-upgrading", kT},
    {"upgrade-failed", kE},
    {"failing-over", kT},
    {"failed-over", kS},
    {"failover-confirmed", kS},
    {"reverse-registering", kT},
    {"reverse-initialized", kS},
    {"reverse-replication-starting", kT},
    {"reverse-full-replicating", kA},
    {"reverse-full-stopping", kT},
    {"reverse-full-stopped", kS},
    {"reverse-full-starting", kT},
    {"reverse-realtime-replicating", kA},
    {"reverse-realtime-stopping", kT},
    {"reverse-realtime-stopped", kS},
    {"reverse-realtime-starting", kT},
    {"reverse-replication-error", kE},
    {"reverse-repair-starting", kT},
    {"reverse-repairing", kA},
    {"reverse-repair-stopping", kT},
    {"reverse-repair-stopped", kS},
    {"failing-back", kT},
    {"failback-error", kE},
    {"failed-back", kS},
    {"registering", kT},
    {"repair-starting", kT},
    {"repairing", kA},
    {"repair-stopping", kT},
    {"repair-stopped", kS},
    {"failover-error", kE},
    {"confirming", kT},
    {"reverse-register-failed", kE},
    {"register-failed", kE},
    {"deregistering", kT},
    {"cancelling-failover", kT},
}};

constexpr std::array<std::string_view, 5> kDrillNames{"none", "drill-starting", "drill-ready", "drill-failed",
                                                      "drill-cleaning"};

// In the order of Trigger.
constexpr std::array<std::string_view, kTriggers> kTriggerNames{
    "add",          "retry-install", "start",           "stop",           "restart",       "repair",
    "upgrade",      "drill",         "clean-drill",     "failover",       "change-point",  "confirm",
    "cancel-failover", "reverse-register", "reverse-start", "reverse-stop", "reverse-restart", "reverse-repair",
    "failback",     "register",      "deregister",      "done",           "failed",        "scanned",
    "caught-up",    "held",          "interrupted",     "resumed",        "break-point-lost", "drill-ready",
    "drill-failed", "drill-cleaned"};

Error unknown_word(std::string_view what, std::string_view word, const std::vector<std::string>& known) {
  const auto near = nearest_word(word, known);
  return Error(ErrorKind::kInvalidArgument,
               quote(word) + " is no " + std::string(what) +
                   (near ? "; did you mean '" + *near + "'?" : "; known: " + quoted_list(known)));
}

}  // namespace

std::string_view lifecycle_state_name(LifecycleState state) {
  return kStateEntries.at(static_cast<std::size_t>(state)).name;
}

StateKind lifecycle_state_kind(LifecycleState state) { return kStateEntries.at(static_cast<std::size_t>(state)).kind; }

std::string_view state_kind_name(StateKind kind) {
  switch (kind) {
    case StateKind::kStable: return "stable";
    case StateKind::kActive: return "active";
    case StateKind::kTransient: return "transient";
    case StateKind::kError: return "error";
  }
  return "unknown";
}

Result<LifecycleState> parse_lifecycle_state(std::string_view name) {
  std::vector<std::string> known;
  for (std::size_t i = 0; i < kStateEntries.size(); ++i) {
    if (kStateEntries[i].name == name) return static_cast<LifecycleState>(i);
    known.emplace_back(kStateEntries[i].name);
  }
  return unknown_word("state", name, known);
}

const std::vector<LifecycleState>& all_lifecycle_states() {
  static const std::vector<LifecycleState> kAll = [] {
    std::vector<LifecycleState> all;
    for (std::size_t i = 0; i < kLifecycleStates; ++i) all.push_back(static_cast<LifecycleState>(i));
    return all;
  }();
  return kAll;
}

std::string_view drill_state_name(DrillState drill) { return kDrillNames.at(static_cast<std::size_t>(drill)); }

Result<DrillState> parse_drill_state(std::string_view name) {
  for (std::size_t i = 0; i < kDrillNames.size(); ++i) {
    if (kDrillNames[i] == name) return static_cast<DrillState>(i);
  }
  return unknown_word("state of a drill", name, {kDrillNames.begin(), kDrillNames.end()});
}

std::string_view trigger_name(Trigger trigger) { return kTriggerNames.at(static_cast<std::size_t>(trigger)); }

Result<Trigger> parse_trigger(std::string_view name) {
  for (std::size_t i = 0; i < kTriggerNames.size(); ++i) {
    if (kTriggerNames[i] == name) return static_cast<Trigger>(i);
  }
  return unknown_word("operation or event", name, {kTriggerNames.begin(), kTriggerNames.end()});
}

const std::vector<Trigger>& all_triggers() {
  static const std::vector<Trigger> kAll = [] {
    std::vector<Trigger> all;
    for (std::size_t i = 0; i < kTriggers; ++i) all.push_back(static_cast<Trigger>(i));
    return all;
  }();
  return kAll;
}

}  // namespace understudy
