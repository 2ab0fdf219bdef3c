// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace understudy {

// Who asks: the person behind sudo, when there is one.
std::string calling_user();

}  // namespace understudy
