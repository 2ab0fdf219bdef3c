// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "daemon/replicate/replicator.h"

namespace understudy {

// Writes what the replicator says to the log, with its message id.
void log_replicator_event(const ReplicatorEvent& event, const std::string& server);

}  // namespace understudy
