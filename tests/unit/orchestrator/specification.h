// SPDX-License-Identifier: Apache-2.0
// The specification's table of legal operations, written down a second time, for tests of the code's own.
#pragma once

#include <set>
#include <string>

namespace understudy {

// Words of the text.
std::set<std::string> words_of(const std::string& text);

// Operations that are legal in a state, drill aside. `point`: a usable point is there and real time was reached.
std::set<std::string> specified_operations(const std::string& state, bool strict, bool point);

}  // namespace understudy
