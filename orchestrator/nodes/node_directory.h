// SPDX-License-Identifier: Apache-2.0
// Who may come in: tokens, certificates, and which machine each node is. Kept in the database. Not thread-safe: the
// caller holds the lock under which the database is used.
//
// A node is its certificate and its machine: a copy of a protected host has the same files, but is another machine, and
// is turned away until an operator has the first one forgotten.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/base/result.h"
#include "daemon/control/json.h"
#include "daemon/wire/identity.h"
#include "orchestrator/state/orchestrator_state.h"

namespace understudy {

inline constexpr std::uint64_t kTokenLifetimeDefaultNs = 3'600'000'000'000;
inline constexpr std::uint64_t kTokenLifetimeNsMin = 60'000'000'000;
inline constexpr std::uint64_t kTokenLifetimeNsMax = 7 * 86'400'000'000'000;

class NodeDirectory {
 public:
  // `authority_directory` has ca.crt and ca.key; empty = nobody can enrol here.
  static Result<std::unique_ptr<NodeDirectory>> open(OrchestratorState& state, const Clock& clock,
                                                     std::string authority_directory);

  // A token for one node of that role and name. The result is what a person carries to it; it is kept nowhere.
  Result<std::string> make_token(WireRole role, const std::string& name, std::uint64_t lifetime_ns,
                                 const std::string& by);
  // {"token","request"} -> {"role","name","certificate","authority"}. The token is used up, durably, before anything is
  // signed. kRefused for one that is unknown, used or expired.
  Result<Json> enroll(const Json& request);
  // Whether a node whose certificate was proved may come in; the first time, its machine is noted. kRefused for another
  // machine than the one that is known.
  Status admit(const WireIdentity& identity, const Json& hello);
  // The next machine that comes with this certificate is taken for the node. kNotFound when none was known.
  Status forget_machine(const WireIdentity& identity);

 private:
  NodeDirectory(OrchestratorState& state, const Clock& clock, std::string authority_directory)
      : state_(state), clock_(clock), authority_directory_(std::move(authority_directory)) {}
  Status save(const KnownNode& node);

  OrchestratorState& state_;
  const Clock& clock_;
  const std::string authority_directory_;
  std::map<WireIdentity, KnownNode> known_;
};

}  // namespace understudy
