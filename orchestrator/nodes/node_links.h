// SPDX-License-Identifier: Apache-2.0
// The nodes as the rest of the orchestrator sees them: what each said last, and what each should be told.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "daemon/control/json.h"
#include "daemon/wire/identity.h"

namespace understudy {

struct NodeView {
  WireIdentity identity;
  bool connected = false;
  std::string address;
  std::string software;  // "understudy-agent 0.1.0"
  std::string version;
  std::string machine;
  std::uint64_t since_ns = 0;          // boot clock: when it connected, or when contact was lost
  std::uint64_t contact_wall_ns = 0;   // when it was last heard
  std::shared_ptr<const Json> hello;   // null = never heard of since the start
  std::shared_ptr<const Json> report;  // null = none yet
  std::string trouble;                 // why it was turned away last; empty = it was not, or got in since
};

// Thread-safe.
class NodeLinks {
 public:
  virtual ~NodeLinks() = default;
  // nullopt = never heard of since the start.
  virtual std::optional<NodeView> find(const WireIdentity& identity) const = 0;
  // What the node should be told now and whenever it connects, in the place of what was said before. A null value: it
  // is told nothing.
  virtual void set_desired(const WireIdentity& identity, Json desired) = 0;
  // Boot clock: nobody could have been heard before.
  virtual std::uint64_t started_ns() const = 0;
};

}  // namespace understudy
