// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "daemon/control/json.h"

namespace understudy {

// The JSON schema (draft 2020-12) of a group file, for editors. Ranges and names come from group_rules.h; tests compare
// its keys with those the reader asks for, and its bounds with what the reader takes.
Json group_schema();

}  // namespace understudy
