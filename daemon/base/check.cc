// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace understudy {

void check_failed(std::string_view expression, const char* file, int line, std::string_view detail) {
  std::fprintf(stderr, "<0>%s:%d: invariant broken: %.*s%s%.*s\n", file, line, static_cast<int>(expression.size()),
               expression.data(), detail.empty() ? "" : ": ", static_cast<int>(detail.size()), detail.data());
  std::abort();
}

}  // namespace understudy
