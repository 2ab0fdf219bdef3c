// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/nodes/node_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"
#include "daemon/node/node_channel.h"
#include "daemon/wire/host_lookup.h"

namespace understudy {

namespace {

constexpr int kBacklog = 512;
constexpr std::uint64_t kSecondNs = 1'000'000'000;
// Handshake and hello take no longer.
constexpr std::uint64_t kHelloNsMax = 15 * kSecondNs;
// A node reports every second.
constexpr std::uint64_t kSilenceNsMax = 15 * kSecondNs;

Result<UniqueFd> listen_on(const std::string& address, std::uint16_t port) {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  auto* four = reinterpret_cast<sockaddr_in*>(&storage);
  auto* six = reinterpret_cast<sockaddr_in6*>(&storage);
  if (::inet_pton(AF_INET, address.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    bytes = sizeof(*four);
  } else if (::inet_pton(AF_INET6, address.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    bytes = sizeof(*six);
  } else {
    return Error(ErrorKind::kInvalidArgument, quote(address) + " is no IPv4 or IPv6 address");
  }
  UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno, "make socket");
  const int one = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), bytes) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    return Error::from_errno(errno, "listen for nodes on " + address + " port " + std::to_string(port));
  }
  return fd;
}

std::uint16_t port_of(int fd) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof(storage);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0) return 0;
  if (storage.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
}

Result<std::shared_ptr<const TlsContext>> load_tls(const TlsFiles& files) {
  ASSIGN_OR_RETURN(auto context, TlsContext::load(files, TlsSide::kServer, TlsPeer::kOptional));
  const Result<WireIdentity>& own = context->own_identity();
  if (!own.ok()) return Error(ErrorKind::kInvalidConfig, quote(files.certificate) + ": " + own.error().message());
  if (own->role != WireRole::kOrchestrator) {
    return Error(ErrorKind::kInvalidConfig,
                 quote(files.certificate) + " is the certificate of " + own->to_text() +
                     ", not of an orchestrator; make one with 'understudyctl pki issue --role orchestrator'");
  }
  return context;
}

Json message(const char* type) {
  Json json = Json::object();
  json["type"] = type;
  return json;
}

}  // namespace

class NodeServer::Impl {
 public:
  Impl(NodeServerOptions options, std::shared_ptr<const TlsContext> tls, UniqueFd listener, UniqueFd epoll,
       UniqueFd wake)
      : options_(std::move(options)),
        name_(tls->own_identity()->name),
        port_(port_of(listener.get())),
        listener_(std::move(listener)),
        epoll_(std::move(epoll)),
        wake_(std::move(wake)),
        tls_(std::move(tls)) {}

  ~Impl() {
    stop_ = true;
    wake();
    if (thread_.joinable()) thread_.join();
  }

  Status start() {
    for (const int fd : {listener_.get(), wake_.get()}) RETURN_IF_ERROR(watch(fd, EPOLLIN, EPOLL_CTL_ADD));
    thread_ = std::thread([this] { run(); });
    return ok_status();
  }

  const std::string& name() const { return name_; }
  std::uint16_t port() const { return port_; }
  std::uint64_t started_ns() const { return started_ns_; }

  Status reload_tls(const TlsFiles& files) {
    ASSIGN_OR_RETURN(auto tls, load_tls(files));
    if (tls->own_identity()->name != name_) {
      return Error(ErrorKind::kInvalidConfig, quote(files.certificate) + " is for another orchestrator than " +
                                                  quote(name_) + "; that needs a restart");
    }
    std::lock_guard lock(mutex_);
    tls_ = std::move(tls);
    return ok_status();
  }

  std::optional<NodeView> find(const WireIdentity& identity) const {
    std::lock_guard lock(mutex_);
    const auto found = views_.find(identity);
    if (found == views_.end()) return std::nullopt;
    return found->second;
  }

  std::vector<NodeView> all() const {
    std::lock_guard lock(mutex_);
    std::vector<NodeView> views;
    for (const auto& [identity, view] : views_) views.push_back(view);
    return views;
  }

  void set_desired(const WireIdentity& identity, Json desired) {
    {
      std::lock_guard lock(mutex_);
      Json& now = desired_[identity];
      if (now == desired) return;
      now = std::move(desired);
      dirty_.insert(identity);
    }
    wake();
  }

 private:
  struct Connection {
    UniqueFd fd;
    std::string address;
    std::unique_ptr<NodeChannel> channel;  // before fd is closed
    std::uint64_t begun_ns = 0;
    std::uint64_t heard_ns = 0;
    std::uint64_t said_ns = 0;
    std::optional<WireIdentity> identity;  // admitted
    bool ending = false;                   // refused: closed once it was told
    bool watches_write = false;
  };

  void wake() {
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof(one));
  }

  Status watch(int fd, std::uint32_t events, int operation) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) return Error::from_errno(errno, "watch a socket");
    return ok_status();
  }

  void run() {
    std::array<epoll_event, 256> events;
    std::uint64_t round_ns = system_clock().boot_ns();
    while (!stop_) {
      const int count =
          ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), more_.empty() ? 1000 : 0);
      std::set<int> ready;
      std::swap(ready, more_);
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == listener_.get()) {
          accept_all();
        } else if (fd == wake_.get()) {
          std::uint64_t ignored = 0;
          (void)!::read(wake_.get(), &ignored, sizeof(ignored));
        } else {
          ready.insert(fd);
        }
      }
      for (const int fd : ready) serve(fd);
      send_desired();
      const std::uint64_t now_ns = system_clock().boot_ns();
      if (now_ns - round_ns < kSecondNs) continue;
      round_ns = now_ns;
      keep_house(now_ns);
    }
    for (auto& [fd, connection] : connections_) connection.channel->close();
    connections_.clear();
  }

  void accept_all() {
    while (true) {
      SocketAddress peer;
      peer.bytes = sizeof(peer.storage);
      UniqueFd fd(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer.storage), &peer.bytes,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.valid()) {
        // Out of descriptors or memory: the listener stays readable, and is not asked at once again. Anything else is
        // the trouble of one connection.
        if (errno != EAGAIN && errno != EWOULDBLOCK) std::this_thread::sleep_for(std::chrono::milliseconds(50));
        return;
      }
      if (strangers_ >= kNodeStrangersMax || connections_.size() >= kNodeConnectionsMax) {
        tell({NodeEvent::Kind::kRefused, peer.to_string(), "too many connections"});
        continue;
      }
      const int one = 1;
      (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
      std::shared_ptr<const TlsContext> tls;
      {
        std::lock_guard lock(mutex_);
        tls = tls_;
      }
      const int number = fd.get();
      auto stream = TlsStream::make(tls, number, "node at " + peer.to_string());
      if (!stream.ok() || !watch(number, EPOLLIN, EPOLL_CTL_ADD).ok()) continue;
      Connection connection;
      connection.address = peer.to_string();
      connection.channel = std::make_unique<NodeChannel>(std::move(stream).value(), kNodeStrangerFrameBytesMax);
      connection.begun_ns = connection.heard_ns = connection.said_ns = system_clock().boot_ns();
      connection.fd = std::move(fd);
      connections_.emplace(number, std::move(connection));
      ++strangers_;
    }
  }

  void serve(int fd) {
    const auto found = connections_.find(fd);
    if (found == connections_.end()) return;
    Connection& connection = found->second;
    const Status advanced = connection.channel->advance();
    while (auto received = connection.channel->take()) {
      if (connection.ending) continue;
      connection.heard_ns = system_clock().boot_ns();
      if (connection.identity) {
        hear(connection, std::move(*received));
      } else {
        greet(fd, connection, *received);
        if (connections_.find(fd) == connections_.end()) return;
      }
    }
    if (!advanced.ok()) return drop(fd, advanced.error().message());
    flush(fd);
  }

  // Sends what is queued; watches for room when there is none.
  void flush(int fd) {
    const auto found = connections_.find(fd);
    if (found == connections_.end()) return;
    Connection& connection = found->second;
    if (const Status status = connection.channel->advance(); !status.ok()) return drop(fd, status.error().message());
    if (connection.channel->has_more()) more_.insert(fd);
    const bool wants = connection.channel->wants_write();
    if (connection.ending && !wants) return drop(fd, "");
    if (wants == connection.watches_write) return;
    connection.watches_write = wants;
    if (const Status status = watch(fd, wants ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD); !status.ok()) {
      drop(fd, status.error().message());
    }
  }

  void greet(int fd, Connection& connection, const Json& received) {
    const std::string type = received.at("type").as_string("");
    const auto peer = connection.channel->peer();
    if (type == "enroll" && !peer.ok()) return enroll(connection, received);
    if (type != "hello") return refuse(connection, connection.address, "hello was expected");
    if (!peer.ok()) return refuse(connection, connection.address, peer.error().message());
    const WireIdentity identity = peer->identity;
    if (received.at("role").as_string("") != wire_role_name(identity.role) ||
        received.at("name").as_string("") != identity.name || identity.role == WireRole::kOrchestrator) {
      return refuse(connection, identity.to_text(),
                    "it calls itself " + printable(received.at("role").as_string("")) + " " +
                        quote(received.at("name").as_string("")) + ", but its certificate is for " +
                        identity.to_text());
    }
    if (received.at("protocol").as_unsigned(0) != kNodeProtocol) {
      return refuse(connection, identity.to_text(),
                    "it speaks version " + std::to_string(received.at("protocol").as_unsigned(0)) +
                        " of the protocol, this orchestrator version " + std::to_string(kNodeProtocol));
    }
    if (options_.admit) {
      if (const Status admitted = options_.admit(identity, received); !admitted.ok()) {
        return refuse(connection, identity.to_text(), admitted.error().message());
      }
    }
    welcome(fd, connection, identity, received);
  }

  void welcome(int fd, Connection& connection, const WireIdentity& identity, const Json& hello) {
    // The same node anew: its old connection is dead, or it would not have called.
    for (auto& [other, old] : connections_) {
      if (other == fd || old.identity != identity) continue;
      old.identity.reset();
      old.ending = true;
      ++strangers_;
    }
    connection.identity = identity;
    --strangers_;
    connection.channel->set_frame_bytes_max(kNodeFrameBytesMax);
    Json answer = message("welcome");
    answer["protocol"] = kNodeProtocol;
    answer["name"] = name_;
    answer["software"] = options_.software;
    (void)connection.channel->send(answer);
    {
      std::lock_guard lock(mutex_);
      NodeView& view = views_[identity];
      view.identity = identity;
      view.connected = true;
      view.address = connection.address;
      view.software = hello.at("software").as_string("");
      view.version = hello.at("version").as_string("");
      view.machine = hello.at("machine").as_string("");
      view.since_ns = system_clock().boot_ns();
      view.contact_wall_ns = system_clock().wall_ns();
      view.hello = std::make_shared<const Json>(hello);
      view.report.reset();  // what it said in an earlier conversation is no answer to what it is told in this one
      view.trouble.clear();
      dirty_.insert(identity);
    }
    tell({NodeEvent::Kind::kConnected, identity.to_text(), connection.address});
  }

  void enroll(Connection& connection, const Json& request) {
    auto answer = options_.enroll ? options_.enroll(request)
                                  : Result<Json>(Error(ErrorKind::kRefused,
                                                       "nobody can enrol here: the orchestrator "
                                                       "has no 'nodes.authority_directory'"));
    if (!answer.ok()) return refuse(connection, connection.address, answer.error().message());
    (*answer)["type"] = "enrolled";
    (void)connection.channel->send(*answer);
    connection.ending = true;
    tell({NodeEvent::Kind::kEnrolled, answer->at("role").as_string("") + " " + quote(answer->at("name").as_string("")),
          connection.address});
  }

  void refuse(Connection& connection, const std::string& who, const std::string& why) {
    Json answer = message("refuse");
    answer["reason"] = why;
    (void)connection.channel->send(answer);
    connection.ending = true;
    if (const auto peer = connection.channel->peer(); peer.ok()) {
      std::lock_guard lock(mutex_);
      NodeView& view = views_[peer->identity];
      view.identity = peer->identity;
      view.trouble = why;
    }
    tell({NodeEvent::Kind::kRefused, who, why});
  }

  void hear(Connection& connection, Json received) {
    if (received.at("type").as_string("") != "report") return;
    bool news = false;
    {
      std::lock_guard lock(mutex_);
      NodeView& view = views_[*connection.identity];
      news = !view.report || view.report->at("order") != received.at("order") ||
             view.report->at("state") != received.at("state") || view.report->at("removed") != received.at("removed");
      view.report = std::make_shared<const Json>(std::move(received));
      view.contact_wall_ns = system_clock().wall_ns();
    }
    if (news && options_.on_news) options_.on_news();
  }

  void drop(int fd, const std::string& why) {
    const auto found = connections_.find(fd);
    if (found == connections_.end()) return;
    const std::optional<WireIdentity> identity = found->second.identity;
    const bool told = found->second.ending;
    const std::string address = found->second.address;
    found->second.channel->close();
    found->second.channel.reset();
    connections_.erase(found);  // closing takes it out of the epoll, too
    more_.erase(fd);
    if (!identity) {
      --strangers_;
      if (!told) tell({NodeEvent::Kind::kRefused, address, why});
      return;
    }
    {
      std::lock_guard lock(mutex_);
      NodeView& view = views_[*identity];
      view.connected = false;
      view.since_ns = system_clock().boot_ns();
    }
    tell({NodeEvent::Kind::kLost, identity->to_text(), why});
    if (options_.on_news) options_.on_news();
  }

  void send_desired() {
    std::vector<std::pair<WireIdentity, Json>> changed;
    {
      std::lock_guard lock(mutex_);
      for (const WireIdentity& identity : dirty_) {
        const auto found = desired_.find(identity);
        if (found != desired_.end() && !found->second.is_null()) changed.emplace_back(identity, found->second);
      }
      dirty_.clear();
    }
    if (changed.empty()) return;
    std::map<WireIdentity, int> by_identity;
    for (const auto& [fd, connection] : connections_) {
      if (connection.identity) by_identity.emplace(*connection.identity, fd);
    }
    for (auto& [identity, desired] : changed) {
      const auto found = by_identity.find(identity);
      if (found == by_identity.end()) continue;
      desired["type"] = "desired";
      say(found->second, desired);
    }
  }

  void say(int fd, const Json& what) {
    Connection& connection = connections_.at(fd);
    connection.said_ns = system_clock().boot_ns();
    if (const Status status = connection.channel->send(what); !status.ok()) return drop(fd, status.error().message());
    flush(fd);
  }

  void keep_house(std::uint64_t now_ns) {
    std::vector<int> fds;
    for (const auto& [fd, connection] : connections_) fds.push_back(fd);
    for (const int fd : fds) {
      const Connection& connection = connections_.at(fd);
      if (!connection.identity) {
        if (now_ns - connection.begun_ns > kHelloNsMax) drop(fd, "it did not say in time who it is");
      } else if (now_ns - connection.heard_ns > kSilenceNsMax) {
        drop(fd, "nothing was heard for " + format_duration_ns(now_ns - connection.heard_ns));
      } else if (now_ns - connection.said_ns > kNodePingNs) {
        say(fd, message("ping"));
      }
    }
  }

  void tell(const NodeEvent& event) const {
    if (options_.on_event) options_.on_event(event);
  }

  const NodeServerOptions options_;
  const std::string name_;
  const std::uint16_t port_;
  const std::uint64_t started_ns_ = system_clock().boot_ns();
  UniqueFd listener_;
  UniqueFd epoll_;
  UniqueFd wake_;  // eventfd
  std::atomic<bool> stop_{false};
  std::map<int, Connection> connections_;  // of the thread, as the next two
  std::set<int> more_;                     // have more to be read without waiting
  std::size_t strangers_ = 0;              // connections that are nobody yet, or no more
  mutable std::mutex mutex_;               // guards all that follow
  std::shared_ptr<const TlsContext> tls_;
  std::map<WireIdentity, NodeView> views_;
  std::map<WireIdentity, Json> desired_;
  std::set<WireIdentity> dirty_;  // to be told
  std::thread thread_;
};

NodeServer::NodeServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NodeServer::~NodeServer() = default;

Result<std::unique_ptr<NodeServer>> NodeServer::start(NodeServerOptions options) {
  ASSIGN_OR_RETURN(auto tls, load_tls(options.tls));
  ASSIGN_OR_RETURN(UniqueFd listener, listen_on(options.address, options.port));
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll.valid() || !wake.valid()) return Error::from_errno(errno, "make epoll");
  auto impl = std::make_unique<Impl>(std::move(options), std::move(tls), std::move(listener), std::move(epoll),
                                     std::move(wake));
  RETURN_IF_ERROR(impl->start());
  return std::unique_ptr<NodeServer>(new NodeServer(std::move(impl)));
}

std::uint16_t NodeServer::port() const { return impl_->port(); }
const std::string& NodeServer::name() const { return impl_->name(); }
Status NodeServer::reload_tls(const TlsFiles& files) { return impl_->reload_tls(files); }
std::vector<NodeView> NodeServer::all() const { return impl_->all(); }
std::optional<NodeView> NodeServer::find(const WireIdentity& identity) const { return impl_->find(identity); }
void NodeServer::set_desired(const WireIdentity& identity, Json desired) {
  impl_->set_desired(identity, std::move(desired));
}
std::uint64_t NodeServer::started_ns() const { return impl_->started_ns(); }

}  // namespace understudy
