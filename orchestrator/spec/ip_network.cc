// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/ip_network.h"

#include <arpa/inet.h>

#include <algorithm>

#include "daemon/base/text.h"

namespace understudy {
namespace {

bool same_prefix(const IpAddress& a, const IpAddress& b, unsigned bits) {
  if (a.v6 != b.v6) return false;
  for (unsigned i = 0; i < bits; ++i) {
    const unsigned mask = 0x80u >> (i % 8);
    if ((a.bytes[i / 8] & mask) != (b.bytes[i / 8] & mask)) return false;
  }
  return true;
}

IpAddress masked(const IpAddress& address, unsigned bits) {
  IpAddress result = address;
  for (unsigned i = bits; i < 128; ++i) {
    result.bytes[i / 8] = static_cast<std::uint8_t>(result.bytes[i / 8] & ~(0x80u >> (i % 8)));
  }
  return result;
}

std::string address_text(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(address.v6 ? AF_INET6 : AF_INET, address.bytes.data(), text, sizeof(text));
  return text;
}

}  // namespace

std::optional<IpAddress> parse_ip_address(const std::string& text) {
  IpAddress address;
  if (::inet_pton(AF_INET, text.c_str(), address.bytes.data()) == 1) return address;
  address.v6 = true;
  if (::inet_pton(AF_INET6, text.c_str(), address.bytes.data()) == 1) return address;
  return std::nullopt;
}

Result<IpNetwork> IpNetwork::parse(const std::string& text) {
  const std::size_t slash = text.find('/');
  const auto base = parse_ip_address(text.substr(0, slash));
  const std::uint64_t bits =
      slash == std::string::npos ? UINT64_MAX : parse_unsigned(text.substr(slash + 1)).value_or(UINT64_MAX);
  if (!base || bits > (base->v6 ? 128u : 32u)) {
    return Error(ErrorKind::kInvalidArgument, "not a subnet; use address/bits, for example 10.0.1.0/24 or fd00:1::/64");
  }
  IpNetwork network{*base, static_cast<unsigned>(bits)};
  network.base = masked(*base, network.prefix_bits);
  if (network.base != *base) {
    return Error(ErrorKind::kInvalidArgument,
                 "an address inside the subnet " + quote(network.to_string()) + "; name the subnet itself");
  }
  return network;
}

std::string IpNetwork::to_string() const { return address_text(base) + "/" + std::to_string(prefix_bits); }

bool IpNetwork::contains(const IpAddress& address) const { return same_prefix(base, address, prefix_bits); }

bool IpNetwork::overlaps(const IpNetwork& other) const {
  return same_prefix(base, other.base, std::min(prefix_bits, other.prefix_bits));
}

}  // namespace understudy
