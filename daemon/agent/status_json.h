// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "daemon/control/json.h"
#include "daemon/replicate/status.h"
#include "daemon/source/survey.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

// What does not change while an agent runs.
struct AgentFacts {
  std::string server_name;
  Uuid server;
  std::string software;
  std::string rung;         // of capture
  std::string read_engine;
  std::vector<TrackedDisk> disks;
};

// The answer to the control command "status". Names and units are those of ReplicationStatus; a figure that has no
// value is null.
Json agent_status_json(const AgentFacts& facts, const ReplicationStatus& status, const std::vector<Finding>& findings);

}  // namespace understudy
