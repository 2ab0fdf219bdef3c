// SPDX-License-Identifier: Apache-2.0
// IP addresses and subnets as configuration names them. Pure and thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "daemon/base/result.h"

namespace understudy {

struct IpAddress {
  bool v6 = false;
  std::array<std::uint8_t, 16> bytes{};  // network order; of IPv4 the first four
  bool operator==(const IpAddress&) const = default;
};

// nullopt = no IPv4 or IPv6 address.
std::optional<IpAddress> parse_ip_address(const std::string& text);

// A subnet: "10.0.1.0/24", "fd00:1::/64".
struct IpNetwork {
  IpAddress base;
  unsigned prefix_bits = 0;

  // kInvalidArgument, a text to put behind the value, when it is no subnet or has bits set behind its prefix.
  static Result<IpNetwork> parse(const std::string& text);
  std::string to_string() const;
  bool contains(const IpAddress& address) const;
  bool overlaps(const IpNetwork& other) const;
  bool operator==(const IpNetwork&) const = default;
};

}  // namespace understudy
