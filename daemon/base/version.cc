// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/version.h"

namespace understudy {

std::string_view version() { return UNDERSTUDY_VERSION; }

}  // namespace understudy
