// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace understudy {

// A 128-bit identity (RFC 4122 text form). Servers, stores and disks are known by one.
struct Uuid {
  std::array<std::byte, 16> bytes{};

  auto operator<=>(const Uuid&) const = default;
  bool is_nil() const { return *this == Uuid{}; }
  std::string to_string() const;

  // Version 4, from getrandom(2).
  static Uuid random();
  static Result<Uuid> parse(std::string_view text);
};

}  // namespace understudy
