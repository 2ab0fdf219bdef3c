// SPDX-License-Identifier: Apache-2.0
// Where nodes dial in (daemon/node/FORMAT.md): one thread, one epoll, any number of nodes. Lost contact only shows:
// what is known of a node stays, with its age.
//
// Threads: callbacks run on the server's thread; the functions may be called by any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/wire/tls_context.h"
#include "orchestrator/nodes/node_links.h"

namespace understudy {

struct NodeEvent {
  enum class Kind : std::uint8_t { kConnected, kLost, kRefused, kEnrolled };
  Kind kind = Kind::kConnected;
  std::string who;   // "agent 'web-1'", or an address
  std::string text;  // why it was lost or refused
};

struct NodeServerOptions {
  std::string address = "0.0.0.0";
  std::uint16_t port = 7601;  // 0 = any, for tests
  TlsFiles tls;
  std::string software;
  // Whether the node, whose certificate is proved, may come in; the refusal is told to it.
  std::function<Status(const WireIdentity& identity, const Json& hello)> admit;
  // Answers one that has no certificate: {"token","request"} -> {"role","name","certificate","authority"}. Empty =
  // nobody can enrol here.
  std::function<Result<Json>(const Json& request)> enroll;
  std::function<void(const NodeEvent&)> on_event;
  // Something was reported that is different from before in its "order" or "state".
  std::function<void()> on_news;
};

class NodeServer final : public NodeLinks {
 public:
  // kInvalidConfig when the certificate is no orchestrator's.
  static Result<std::unique_ptr<NodeServer>> start(NodeServerOptions options);
  ~NodeServer() override;

  std::uint16_t port() const;
  const std::string& name() const;  // in its certificate
  // Certificates for new connections.
  Status reload_tls(const TlsFiles& files);
  std::vector<NodeView> all() const;

  std::optional<NodeView> find(const WireIdentity& identity) const override;
  void set_desired(const WireIdentity& identity, Json desired) override;
  std::uint64_t started_ns() const override;

 private:
  class Impl;
  explicit NodeServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace understudy
