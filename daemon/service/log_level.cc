// SPDX-License-Identifier: Apache-2.0
#include "daemon/service/log_level.h"

namespace understudy {

LogLevel read_log_level(ConfigMap& root, LogLevel fallback) {
  return root.choice<LogLevel>("log_level", fallback,
                               {{"error", LogLevel::kError},
                                {"warning", LogLevel::kWarning},
                                {"notice", LogLevel::kNotice},
                                {"info", LogLevel::kInfo},
                                {"debug", LogLevel::kDebug}});
}

}  // namespace understudy
