// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "daemon/base/result.h"

namespace understudy {

class Database;

// Brings the file to kStateVersion, one version after the other, all in one transaction. FORMAT.md has the tables.
Status migrate_state(Database& database);

}  // namespace understudy
