// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/orchestrator/specification.h"

#include <iterator>
#include <sstream>

namespace understudy {
namespace {

// State, strict, beyond strict.
struct LegalRow {
  const char* states;
  const char* strict;
  const char* plus;
};
constexpr LegalRow kSpecification[] = {
    {"absent", "add", ""},
    {"initialized", "start upgrade", "deregister"},
    {"full-replicating", "stop", ""},
    {"full-stopped", "deregister", "restart"},
    {"full-stopping", "restart", ""},
    {"realtime-stopping", "restart drill failover", ""},
    {"realtime-starting", "drill failover", ""},
    {"realtime-replicating", "stop upgrade drill failover", ""},
    {"realtime-stopped", "upgrade drill failover deregister", "restart"},
    {"replication-error", "repair deregister restart", "drill failover"},
    {"client-install-failed", "deregister", "retry-install"},
    {"upgrade-failed", "deregister", "failover drill"},
    {"failed-over", "confirm change-point deregister", "cancel-failover"},
    {"failover-confirmed", "reverse-register deregister", ""},
    {"reverse-initialized", "reverse-start", "deregister"},
    {"reverse-full-replicating", "reverse-stop", ""},
    {"reverse-realtime-replicating", "reverse-stop failback", ""},
    {"reverse-full-stopped reverse-realtime-stopped", "reverse-restart", "deregister"},
    {"reverse-replication-error", "reverse-repair", "deregister"},
    {"reverse-repairing", "reverse-stop", ""},
    {"reverse-repair-stopped", "reverse-repair", "deregister"},
    {"failback-error", "failback", "deregister"},
    {"failed-back", "register", "deregister"},
    // States that the guide does not name: a failed operation is tried again, repair as in the reverse direction.
    {"repairing", "stop", ""},
    {"repair-stopped", "repair", "deregister"},
    {"failover-error", "failover", "deregister cancel-failover"},
    {"reverse-register-failed", "reverse-register", "deregister"},
    {"register-failed", "register", "deregister"},
};

// With real time reached and a usable point, replication in any forward state can be failed over and rehearsed: losing
// contact must not block it.
constexpr const char* kForward =
    "replication-starting full-replicating full-stopping full-stopped repair-starting repairing repair-stopping "
    "repair-stopped";

}  // namespace

std::set<std::string> words_of(const std::string& text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

std::set<std::string> specified_operations(const std::string& state, bool strict, bool point) {
  std::set<std::string> legal;
  for (const LegalRow& row : kSpecification) {
    if (words_of(row.states).count(state) == 0) continue;
    legal = words_of(row.strict);
    if (!strict) legal.merge(words_of(row.plus));
  }
  const bool needs_point = state == "replication-error" || state == "upgrade-failed";
  if (needs_point && !point) {
    legal.erase("failover");
    legal.erase("drill");
  }
  if (!strict && point && words_of(kForward).count(state) != 0) legal.merge(std::set<std::string>{"failover", "drill"});
  return legal;
}

}  // namespace understudy
