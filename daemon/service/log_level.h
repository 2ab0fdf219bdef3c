// SPDX-License-Identifier: Apache-2.0
// The key log_level, which every daemon's configuration has.
#pragma once

#include "daemon/base/log.h"
#include "daemon/base/yaml_config.h"

namespace understudy {

// One of error, warning, notice, info, debug.
LogLevel read_log_level(ConfigMap& root, LogLevel fallback);

}  // namespace understudy
