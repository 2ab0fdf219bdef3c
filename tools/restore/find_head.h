// SPDX-License-Identifier: Apache-2.0
// Where in the history of a store a chain head was, that somebody noted: the journal goes on growing, but what it was
// then is a beginning of what it is now, or it was altered.
#pragma once

#include <optional>
#include <string>

#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/store.h"

namespace understudy {

// The seq of the last record that the head stands for. nullopt = `head_hex` (in lower case) was never the head of this
// journal. Reads the whole journal.
Result<std::optional<Seq>> find_head(const Store& store, const std::string& head_hex);

}  // namespace understudy
