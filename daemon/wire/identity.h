// SPDX-License-Identifier: Apache-2.0
// Who somebody is on the wire: what the certificate's subject alternative name says, a URI `understudy:<role>:<name>`.
// Pure and thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace understudy {

enum class WireRole : std::uint8_t { kAgent, kReceiver, kOrchestrator };
std::string_view wire_role_name(WireRole role);  // "agent", "receiver", "orchestrator"
Result<WireRole> parse_wire_role(std::string_view text);

struct WireIdentity {
  WireRole role = WireRole::kAgent;
  std::string name;  // is_valid_wire_name()
  bool operator==(const WireIdentity&) const = default;
  auto operator<=>(const WireIdentity&) const = default;

  std::string to_uri() const;   // "understudy:agent:web-1"
  std::string to_text() const;  // "agent 'web-1'"
};

// kInvalidArgument when `uri` is not of the form above.
Result<WireIdentity> parse_wire_identity(std::string_view uri);

// A peer as TLS has proved it.
struct PeerIdentity {
  WireIdentity identity;
  std::string certificate_sha256;  // of its DER form, lower-case hex
};

}  // namespace understudy
