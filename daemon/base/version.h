// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace understudy {

// The release this was built from, e.g. "0.1.0".
std::string_view version();

}  // namespace understudy
