// SPDX-License-Identifier: Apache-2.0
#include "daemon/node/node_client.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>

#include "daemon/base/boot_id.h"
#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/base/version.h"
#include "daemon/node/machine_identity.h"
#include "daemon/node/node_channel.h"
#include "daemon/node/node_connect.h"
#include "daemon/wire/tls_stream.h"

namespace understudy {

namespace {

constexpr std::uint64_t kReportIntervalNs = 1'000'000'000;
constexpr std::uint64_t kConnectNsMax = 15'000'000'000;
// The orchestrator says something every kNodePingNs.
constexpr std::uint64_t kSilenceNsMax = 3 * kNodePingNs;
constexpr std::uint64_t kRetryFirstNs = 500'000'000;
constexpr std::uint64_t kRetryLastNs = 15'000'000'000;

void signal(const UniqueFd& event) {
  const std::uint64_t one = 1;
  (void)!::write(event.get(), &one, sizeof(one));
}

void clear(const UniqueFd& event) {
  std::uint64_t count = 0;
  (void)!::read(event.get(), &count, sizeof(count));
}

}  // namespace

NodeClient::NodeClient(NodeClientOptions options, UniqueFd stop, UniqueFd soon)
    : options_(std::move(options)), stop_(std::move(stop)), soon_(std::move(soon)) {}

Result<std::unique_ptr<NodeClient>> NodeClient::start(NodeClientOptions options) {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd soon(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid() || !soon.valid()) return Error::from_errno(errno, "make eventfd");
  std::unique_ptr<NodeClient> client(new NodeClient(std::move(options), std::move(stop), std::move(soon)));
  client->thread_ = std::thread([raw = client.get()] { raw->run(); });
  return client;
}

NodeClient::~NodeClient() {
  signal(stop_);
  if (thread_.joinable()) thread_.join();
}

void NodeClient::report_soon() { signal(soon_); }

Json NodeClient::status() const {
  std::lock_guard lock(mutex_);
  Json json = Json::object();
  json["name"] = options_.orchestrator.name;
  json["address"] = options_.orchestrator.address + ":" + std::to_string(options_.orchestrator.port);
  json["connected"] = connected_;
  json["since_time_ns"] = since_wall_ns_ == 0 ? Json() : Json(since_wall_ns_);
  json["last_error"] = last_error_;
  return json;
}

void NodeClient::note(const Status& status) {
  const std::string error = status.ok() ? "" : status.error().message();
  bool told = false;
  {
    std::lock_guard lock(mutex_);
    told = connected_ == status.ok() && error == last_error_;
    if (connected_ != status.ok() || since_wall_ns_ == 0) since_wall_ns_ = system_clock().wall_ns();
    connected_ = status.ok();
    last_error_ = error;
  }
  const std::string who = "orchestrator " + quote(options_.orchestrator.name);
  if (told || !options_.on_change) return;
  options_.on_change(status,
                     status.ok() ? "connected with " + who : "no connection with " + who + ", retrying: " + error);
}

void NodeClient::run() {
  std::minstd_rand random(std::random_device{}());
  std::uint64_t retry_ns = kRetryFirstNs;
  while (true) {
    welcome_ = false;
    const Status ended = session();
    pollfd polled{stop_.get(), POLLIN, 0};
    if (::poll(&polled, 1, 0) > 0) return;
    if (welcome_) retry_ns = kRetryFirstNs;
    note(ended);
    // All nodes lose an orchestrator at once; they do not come back at once.
    const std::uint64_t wait_ms = (retry_ns / 2 + random() % (retry_ns / 2)) / 1'000'000;
    if (::poll(&polled, 1, static_cast<int>(wait_ms)) > 0) return;
    retry_ns = std::min(retry_ns * 2, kRetryLastNs);
  }
}

Status NodeClient::session() {
  const std::uint64_t deadline_ns = system_clock().boot_ns() + kConnectNsMax;
  ASSIGN_OR_RETURN(const auto context, TlsContext::load(options_.tls, TlsSide::kClient));
  ASSIGN_OR_RETURN(const UniqueFd fd,
                   connect_node(options_.orchestrator.address, options_.orchestrator.port, deadline_ns, stop_.get()));
  const WireIdentity wanted{WireRole::kOrchestrator, options_.orchestrator.name};
  ASSIGN_OR_RETURN(auto stream, TlsStream::make(context, fd.get(), wanted.to_text()));
  NodeChannel channel(std::move(stream), kNodeFrameBytesMax);
  while (!channel.is_open()) {
    RETURN_IF_ERROR(channel.advance());
    if (channel.is_open()) break;
    const auto events = static_cast<short>(channel.wants_write() ? POLLOUT : POLLIN);
    RETURN_IF_ERROR(wait_for_socket(fd.get(), events, deadline_ns, stop_.get()));
  }
  ASSIGN_OR_RETURN(const PeerIdentity peer, channel.peer());
  if (!(peer.identity == wanted)) {
    return Error(ErrorKind::kRefused, "at its address is " + peer.identity.to_text());
  }
  RETURN_IF_ERROR(channel.send(hello()));
  const Status ended = converse(channel, fd.get());
  channel.close();
  return ended;
}

Json NodeClient::hello() const {
  Json hello = Json::object();
  hello["type"] = "hello";
  hello["protocol"] = kNodeProtocol;
  hello["role"] = wire_role_name(options_.identity.role);
  hello["name"] = options_.identity.name;
  hello["software"] = options_.software;
  hello["version"] = version();
  hello["machine"] = machine_identity();
  const auto boot_id = read_boot_id();
  hello["boot_id"] = boot_id.ok() ? boot_id->to_string() : "";
  if (options_.hello) options_.hello(hello);
  return hello;
}

Status NodeClient::converse(NodeChannel& channel, int fd) {
  heard_ns_ = system_clock().boot_ns();
  std::uint64_t report_ns = 0;
  while (true) {
    Status advanced = channel.advance();
    while (auto message = channel.take()) RETURN_IF_ERROR(hear(*message));
    RETURN_IF_ERROR(std::move(advanced));
    const std::uint64_t now_ns = system_clock().boot_ns();
    if (now_ns - heard_ns_ > kSilenceNsMax) return Error(ErrorKind::kTimeout, "nothing is heard of it any more");
    if (welcome_ && now_ns >= report_ns) {
      report_ns = now_ns + kReportIntervalNs;
      Json report = options_.report();
      report["type"] = "report";
      RETURN_IF_ERROR(channel.send(report));
      continue;
    }
    if (channel.has_more()) continue;
    const std::uint64_t wait_ns = welcome_ ? report_ns - now_ns : kReportIntervalNs;
    pollfd polled[3] = {{fd, static_cast<short>(POLLIN | (channel.wants_write() ? POLLOUT : 0)), 0},
                        {stop_.get(), POLLIN, 0},
                        {soon_.get(), POLLIN, 0}};
    if (::poll(polled, 3, static_cast<int>(wait_ns / 1'000'000 + 1)) < 0 && errno != EINTR) {
      return Error::from_errno(errno, "wait for the orchestrator");
    }
    if (polled[1].revents != 0) return Error(ErrorKind::kClosed, "stopped");
    if (polled[2].revents != 0) {
      clear(soon_);
      report_ns = 0;
    }
  }
}

Status NodeClient::hear(const Json& message) {
  heard_ns_ = system_clock().boot_ns();
  const std::string type = message.at("type").as_string("");
  if (type == "refuse") {
    return Error(ErrorKind::kRefused, "it refuses this node: " + printable(message.at("reason").as_string("")));
  }
  if (type == "welcome") {
    if (message.at("protocol").as_unsigned(0) != kNodeProtocol) {
      return Error(ErrorKind::kUnsupported, "it speaks version " +
                                                std::to_string(message.at("protocol").as_unsigned(0)) +
                                                " of the protocol, this node version " + std::to_string(kNodeProtocol));
    }
    welcome_ = true;
    note(ok_status());
  } else if (type == "desired" && welcome_) {
    options_.desired(message);
  }
  return ok_status();  // what a newer orchestrator says beside, is for newer nodes
}

}  // namespace understudy
