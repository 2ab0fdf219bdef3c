// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/group_spec.h"

#include <array>

#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::array<std::string_view, kPhases> kPhaseNames{
    "initialized", "replicating",         "stopped",         "failed-over", "confirmed", "reverse-initialized",
    "reverse-replicating", "reverse-stopped", "failed-back"};

}  // namespace

std::string_view phase_name(Phase phase) { return kPhaseNames.at(static_cast<std::size_t>(phase)); }

Result<Phase> parse_phase(std::string_view name) {
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i) {
    if (kPhaseNames[i] == name) return static_cast<Phase>(i);
  }
  return Error(ErrorKind::kInvalidArgument, quote(name) + " is no phase");
}

const ServerSpec* GroupSpec::find_server(std::string_view server) const {
  for (const ServerSpec& candidate : servers) {
    if (candidate.name == server) return &candidate;
  }
  return nullptr;
}

}  // namespace understudy
