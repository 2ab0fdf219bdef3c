// SPDX-License-Identifier: Apache-2.0
// Invariants, checked in release builds too: a failed CHECK is a bug of ours and ends in SIGABRT with both values
// printed, because stopping is always better than writing wrong data.
#pragma once

#include <sstream>
#include <string>
#include <string_view>

namespace understudy {

[[noreturn]] void check_failed(std::string_view expression, const char* file, int line, std::string_view detail);

template <typename A, typename B>
[[noreturn]] void check_op_failed(std::string_view expression, const char* file, int line, const A& a, const B& b) {
  std::ostringstream detail;
  detail << a << " vs " << b;
  check_failed(expression, file, line, detail.str());
}

}  // namespace understudy

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) [[unlikely]]                                                    \
      ::understudy::check_failed(#condition, __FILE__, __LINE__, std::string_view()); \
  } while (false)

#define CHECK_OP(a, op, b)                                                                        \
  do {                                                                                            \
    const auto& check_a = (a);                                                                    \
    const auto& check_b = (b);                                                                    \
    if (!(check_a op check_b)) [[unlikely]]                                                       \
      ::understudy::check_op_failed(#a " " #op " " #b, __FILE__, __LINE__, check_a, check_b);     \
  } while (false)

#define CHECK_EQ(a, b) CHECK_OP(a, ==, b)
#define CHECK_LE(a, b) CHECK_OP(a, <=, b)
#define CHECK_LT(a, b) CHECK_OP(a, <, b)
#define CHECK_GE(a, b) CHECK_OP(a, >=, b)
#define CHECK_GT(a, b) CHECK_OP(a, >, b)
