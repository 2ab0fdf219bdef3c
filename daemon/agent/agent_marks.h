// SPDX-License-Identifier: Apache-2.0
// The agent's marks: joins marks/ with the replication thread, the control socket and the log.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/agent/replication_thread.h"
#include "daemon/control/control_server.h"
#include "daemon/marks/mark_service.h"

namespace understudy {

struct AgentMarksParts {
  std::string server;
  std::string run_directory;  // for hooks
  MarkPolicy policy;
  // Of now, or an error while there is none; thread-safe.
  std::function<Result<std::shared_ptr<ReplicationThread>>()> replication;
  std::function<std::vector<DeviceNumber>()> disks;  // whole disks, as protected now; thread-safe
};

Result<std::unique_ptr<MarkService>> start_agent_marks(AgentMarksParts parts);

// "mark": {"label":"before-upgrade","consistency":"application"} -> {"id":1}, at once; both may be left out.
// "mark-outcome": {"id":1} -> how far it is. The service must outlive the server's thread.
void add_mark_commands(ControlServer& control, MarkService& marks);

// For the status: what is scheduled, and the newest marks.
Json marks_json(const MarkService& marks);

}  // namespace understudy
