// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/identity.h"

#include "daemon/base/text.h"
#include "daemon/wire/frame_codec.h"

namespace understudy {

namespace {
constexpr std::string_view kScheme = "understudy:";
}

std::string_view wire_role_name(WireRole role) {
  switch (role) {
    case WireRole::kAgent: return "agent";
    case WireRole::kReceiver: return "receiver";
    case WireRole::kOrchestrator: return "orchestrator";
  }
  return "unknown";
}

Result<WireRole> parse_wire_role(std::string_view text) {
  if (text == "agent") return WireRole::kAgent;
  if (text == "receiver") return WireRole::kReceiver;
  if (text == "orchestrator") return WireRole::kOrchestrator;
  return Error(ErrorKind::kInvalidArgument,
               "unknown role '" + printable(text) + "', allowed are 'agent', 'receiver' and 'orchestrator'");
}

std::string WireIdentity::to_uri() const {
  return std::string(kScheme) + std::string(wire_role_name(role)) + ":" + name;
}

std::string WireIdentity::to_text() const { return std::string(wire_role_name(role)) + " '" + name + "'"; }

Result<WireIdentity> parse_wire_identity(std::string_view uri) {
  const auto invalid = [&] {
    return Error(ErrorKind::kInvalidArgument,
                 "identity '" + printable(uri) +
                     "' is not of the form understudy:<agent|receiver|orchestrator>:<name>");
  };
  if (!uri.starts_with(kScheme)) return invalid();
  const std::string_view rest = uri.substr(kScheme.size());
  const std::size_t colon = rest.find(':');
  if (colon == std::string_view::npos) return invalid();
  const auto role = parse_wire_role(rest.substr(0, colon));
  const std::string_view name = rest.substr(colon + 1);
  if (!role.ok() || !is_valid_wire_name(name)) return invalid();
  return WireIdentity{*role, std::string(name)};
}

}  // namespace understudy
