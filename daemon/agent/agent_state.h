// SPDX-License-Identifier: Apache-2.0
// The few things the agent keeps in its state directory. They are written when they are made, never per record.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/uuid.h"
#include "daemon/record/record.h"
#include "daemon/tracker/tracker.h"

namespace understudy {

struct AgentIdentity {
  Uuid server;              // the stream's
  std::string server_name;
  std::uint64_t epoch = 1;
  bool created = false;     // just now, by this call
};

// Reads `<directory>/identity.json`, or makes it (and the directory) with a new random id. kInvalidConfig when it
// belongs to a server of another name, kCorrupt when it cannot be understood: an identity is never replaced silently,
// because the receiver would take the agent for another server.
Result<AgentIdentity> load_or_create_identity(const std::string& directory, const std::string& server_name);

// Replaces the file, for a new epoch.
Status save_identity(const std::string& directory, const AgentIdentity& identity);

// True when `capture_id` is the one that was noted last; else notes it. Only for telling an operator which of the two
// it is.
Result<bool> note_capture_id(const std::string& directory, const Uuid& capture_id);

// What the stream says of the disks. A disk's id is derived from the server's and from what identifies the disk across
// reboots and renames: its serial number or WWID, a dm or md UUID; else its path.
std::vector<DiskGeometry> disk_geometry(const AgentIdentity& identity, const std::vector<TrackedDisk>& disks,
                                        const std::string& sysfs = "/sys");

}  // namespace understudy
