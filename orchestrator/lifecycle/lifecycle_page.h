// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace understudy {

// LIFECYCLE.md: all states and transitions, made from the table the code runs on. A test compares it with the file.
std::string lifecycle_page();

}  // namespace understudy
