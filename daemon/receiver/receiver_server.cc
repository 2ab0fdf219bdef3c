// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/receiver_server.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "daemon/base/boot_id.h"
#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"
#include "daemon/receiver/network_threads.h"
#include "daemon/receiver/store_threads.h"
#include "daemon/wire/host_lookup.h"

namespace understudy {

namespace asio = boost::asio;

namespace {

constexpr auto kAcceptRetryInterval = std::chrono::seconds(1);
constexpr auto kGoodbyeTime = std::chrono::seconds(3);

Result<UniqueFd> listen_on(const std::string& address, std::uint16_t port) {
  const std::string where = "'" + address + "' port " + std::to_string(port);
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  if (auto* v4 = reinterpret_cast<sockaddr_in*>(&storage); ::inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    bytes = sizeof(*v4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    std::memset(&storage, 0, sizeof(storage));
    if (::inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) != 1) {
      return Error(ErrorKind::kInvalidArgument, "listen on " + where + ": no IPv4 or IPv6 address");
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    bytes = sizeof(*v6);
  }
  UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno, "make socket");
  const int one = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), bytes) != 0 ||
      ::listen(fd.get(), kReceiverBacklog) != 0) {
    return Error::from_errno(errno, "listen on " + where);
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

}  // namespace

class ReceiverServer::Impl final : public SessionHost {
 public:
  Impl(const ReceiverConfig& config, const Options& options, const Uuid& boot_id, std::shared_ptr<const TlsContext> tls,
       UniqueFd listener)
      : config_(config),
        options_(options),
        pool_(kReceiverSpareBytesMax),
        port_(port_of(listener.get())),
        tls_(std::move(tls)),
        store_threads_(options.store_threads),
        digest_threads_(kDigestThreads),
        threads_(options.network_threads),
        strand_(asio::make_strand(threads_.context())),
        listener_(strand_, listener.release()),
        accept_timer_(strand_) {
    session_options_.receiver_name = config.name;
    session_options_.software = options.software;
    session_options_.boot_id = boot_id;
    session_options_.times = options.times;
    session_options_.queue_bytes_max =
        options.session_queue_bytes_max != 0 ? options.session_queue_bytes_max : kSessionQueueBytesMax;
    for (const ReceiverStoreConfig& store : config.stores) add_store(store);
    set_scrub(config);
    asio::post(strand_, [this] { accept_all(); });
  }

  ~Impl() override { stop(); }

  std::uint16_t port() const { return port_; }

  Result<std::vector<std::string>> reload(const ReceiverConfig& config) {
    ASSIGN_OR_RETURN(auto tls, TlsContext::load_as(config.tls, TlsSide::kServer, {WireRole::kReceiver, config.name}));
    std::vector<std::string> not_applied;
    if (config.listen_address != config_.listen_address || config.listen_port != config_.listen_port) {
      not_applied.push_back("listen");
    }
    if (config.name != config_.name) not_applied.push_back("name");
    if (config.control_socket != config_.control_socket) not_applied.push_back("control_socket");
    std::vector<Slot> removed;
    {
      std::lock_guard lock(mutex_);
      tls_ = std::move(tls);
      for (auto slot = slots_.begin(); slot != slots_.end();) {
        const auto same =
            std::find_if(config.stores.begin(), config.stores.end(),
                         [&](const ReceiverStoreConfig& store) { return store.is_same_store(slot->second.config); });
        if (same != config.stores.end() && config.segment_bytes == config_.segment_bytes) {
          if (slot->second.session && slot->second.config.epoch != same->epoch) {
            slot->second.session->stop(ByeCode::kConfiguration, "another epoch was granted to the source");
          }
          slot->second.config = *same;
          ++slot;
          continue;
        }
        removed.push_back(std::move(slot->second));
        slot = slots_.erase(slot);
      }
    }
    for (Slot& slot : removed) {
      slot.worker->stop();
      if (slot.session)
        slot.session->stop(ByeCode::kConfiguration, "the receiver's configuration of this store changed");
    }
    std::lock_guard lock(mutex_);
    config_.stores = config.stores;
    config_.segment_bytes = config.segment_bytes;
    config_.tls = config.tls;
    for (const ReceiverStoreConfig& store : config.stores) {
      if (!slots_.contains(store.server)) add_store(store);
    }
    config_.scrub = config.scrub;
    config_.merge = config.merge;
    for (auto& [name, slot] : slots_) slot.worker->set_merge(config.merge);
    set_scrub(config);
    for (auto& [name, slot] : slots_) {
      if (slot.session) slot.session->set_limits(limits_of(slot.config));
    }
    return not_applied;
  }

  void stop() {
    if (stopped_.exchange(true)) return;
    scrubber_.stop();
    asio::post(strand_, [this] {
      boost::system::error_code ignored;
      listener_.close(ignored);
      accept_timer_.cancel();
    });
    std::vector<std::shared_ptr<StoreWorker>> workers;
    {
      std::lock_guard lock(mutex_);
      for (auto& [name, slot] : slots_) workers.push_back(slot.worker);
    }
    for (const auto& worker : workers) worker->request_stop();
    for (const auto& worker : workers) worker->stop();
    // The last acknowledgements are on the sessions' strands by now, in front of the goodbyes.
    std::unique_lock lock(mutex_);
    const std::set<std::shared_ptr<ReceiverSession>> sessions = sessions_;
    lock.unlock();
    for (const auto& session : sessions) session->stop(ByeCode::kShutdown, "the receiver is stopping");
    lock.lock();
    all_ended_.wait_for(lock, kGoodbyeTime, [this] { return sessions_.empty(); });
    lock.unlock();
    threads_.stop();
    lock.lock();
    sessions_.clear();
    slots_.clear();
  }

  std::vector<StoreReport> report() const {
    std::lock_guard lock(mutex_);
    std::vector<StoreReport> reports;
    for (const ReceiverStoreConfig& store : config_.stores) {
      const auto slot = slots_.find(store.server);
      if (slot == slots_.end()) continue;
      StoreReport report;
      report.store = slot->second.worker->status();
      report.scrub = scrubber_.status(store.server);
      if (slot->second.session) {
        report.connected = true;
        report.session = slot->second.session->status();
      }
      reports.push_back(std::move(report));
    }
    return reports;
  }

  // --- SessionHost ---
  void session_hello(const std::shared_ptr<ReceiverSession>& session, const Hello& hello) override {
    std::shared_ptr<ReceiverSession> current;
    {
      std::lock_guard lock(mutex_);
      handshakes_.erase(session.get());
      const auto found = slots_.find(hello.server_name);
      if (stopped_) return session->refuse(RefuseCode::kShuttingDown, "the receiver is stopping");
      if (found == slots_.end()) {
        return session->refuse(
            RefuseCode::kUnknownServer,
            "receiver '" + config_.name + "' has no store configured for server '" + hello.server_name + "'");
      }
      Slot& slot = found->second;
      if (slot.config.epoch != 0 && slot.config.epoch != hello.epoch) {
        return session->refuse(RefuseCode::kEpoch, "the orchestrator granted epoch " +
                                                       std::to_string(slot.config.epoch) + " to the source '" +
                                                       hello.server_name + "'; this agent is of epoch " +
                                                       std::to_string(hello.epoch));
      }
      if (!slot.session || slot.instance == hello.instance) {
        if (slot.session) slot.session->stop(ByeCode::kReplaced, "the same agent connected again");
        return take_slot(slot, session, hello);
      }
      if (slot.challenged) {
        return session->refuse(RefuseCode::kAlreadyConnected,
                               "server '" + hello.server_name + "' is connected already, and another newcomer waits");
      }
      slot.challenged = true;
      current = slot.session;
    }
    current->prove_alive(
        [this, session, hello, current](bool alive) { challenge_ended(session, hello, current, alive); });
  }

  void session_ended(const std::shared_ptr<ReceiverSession>& session, bool) override {
    std::lock_guard lock(mutex_);
    handshakes_.erase(session.get());
    sessions_.erase(session);
    for (auto& [name, slot] : slots_) {
      if (slot.session == session) slot.session.reset();
    }
    if (sessions_.empty()) all_ended_.notify_all();
  }

 private:
  struct Slot {
    ReceiverStoreConfig config;
    std::shared_ptr<StoreWorker> worker;
    std::shared_ptr<ReceiverSession> session;  // the one that has the store, or waits for it
    Uuid instance;                             // of its agent process
    bool challenged = false;                   // a newcomer waits for the session to prove that it is alive
  };

  StoreOptions store_options(const ReceiverStoreConfig& store) const {
    StoreOptions options;
    options.directory = store.path;
    options.base_directory = store.base_path;
    options.segment_bytes_max = config_.segment_bytes;
    return options;
  }

  void set_scrub(const ReceiverConfig& config) {
    std::map<std::string, StoreOptions> stores;
    for (const ReceiverStoreConfig& store : config.stores) stores.emplace(store.server, store_options(store));
    scrubber_.set(std::move(stores), config.scrub);
  }

  // Under mutex_, or before there are threads.
  void add_store(const ReceiverStoreConfig& store) {
    StoreOptions options = store_options(store);
    Slot slot;
    slot.config = store;
    slot.worker = std::make_shared<StoreWorker>(store.server, std::move(options), store_threads_, digest_threads_,
                                                system_clock(), &job_threads_, config_.merge);
    slots_.emplace(store.server, std::move(slot));
  }

  SessionLimits limits_of(const ReceiverStoreConfig& store) const {
    SessionLimits limits;
    limits.bytes_per_second = store.rate_limit;
    limits.delta_cache_bytes_max = store.delta_cache_bytes_max;
    limits.queue_bytes_max = store.queue_bytes;
    if (options_.session_queue_bytes_max != 0) limits.queue_bytes_max = options_.session_queue_bytes_max;
    if (limits.queue_bytes_max == 0) {
      limits.queue_bytes_max = std::clamp(kReceiverQueueBytesMax / std::max<std::size_t>(config_.stores.size(), 1),
                                          kSessionQueueBytesMin, kSessionQueueBytesMax);
    }
    return limits;
  }

  void take_slot(Slot& slot, const std::shared_ptr<ReceiverSession>& session, const Hello& hello) {
    slot.session = session;
    slot.instance = hello.instance;
    session->attach(slot.worker, hello, limits_of(slot.config));
  }

  void challenge_ended(const std::shared_ptr<ReceiverSession>& session, const Hello& hello,
                       const std::shared_ptr<ReceiverSession>& challenged, bool alive) {
    std::lock_guard lock(mutex_);
    const auto found = slots_.find(hello.server_name);
    if (found == slots_.end() || stopped_)
      return session->refuse(RefuseCode::kShuttingDown, "the receiver is stopping");
    Slot& slot = found->second;
    slot.challenged = false;
    if (slot.session && (slot.session != challenged || alive)) {
      return session->refuse(RefuseCode::kAlreadyConnected,
                             "server '" + hello.server_name + "' is connected already from " +
                                 slot.session->status().address + ", and that connection is alive");
    }
    if (slot.session)
      slot.session->stop(ByeCode::kReplaced, "this connection seemed dead and the agent connected again");
    take_slot(slot, session, hello);
  }

  // --- accepting, on strand_ ---
  void accept_all() {
    while (!stopped_) {
      SocketAddress peer;
      peer.bytes = sizeof(peer.storage);
      UniqueFd fd(::accept4(listener_.native_handle(), reinterpret_cast<sockaddr*>(&peer.storage), &peer.bytes,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (fd.valid()) {
        start_session(std::move(fd), peer.to_string());
        continue;
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) return accept_later(errno);
      // Anything else is the trouble of that one connection: accept(2).
    }
    if (stopped_) return;
    listener_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const boost::system::error_code& error) {
      if (!error) accept_all();
    });
  }

  void accept_later(int error_number) {
    log_message(LogLevel::kError, kMessageSessionRefused,
                Error::from_errno(error_number, "accept connection").message() + ", retrying in 1 s");
    accept_timer_.expires_after(kAcceptRetryInterval);
    accept_timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error) accept_all();
    });
  }

  void start_session(UniqueFd fd, const std::string& address) {
    const int one = 1;
    (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    std::shared_ptr<ReceiverSession> session;
    {
      std::lock_guard lock(mutex_);
      if (handshakes_.size() >= kHandshakesMax || stopped_) {
        log_message(LogLevel::kWarning, kMessageSessionRefused,
                    "connection from " + address + " closed: " + std::to_string(handshakes_.size()) +
                        " others have not said yet who they are");
        return;
      }
      session = ReceiverSession::make(threads_.context(), *this, pool_, session_options_, tls_, std::move(fd), address);
      handshakes_.insert(session.get());
      sessions_.insert(session);
    }
    session->start();
  }

  ReceiverConfig config_;
  const Options options_;
  SessionOptions session_options_;
  BufferPool pool_;
  const std::uint16_t port_;
  std::atomic<bool> stopped_{false};

  mutable std::mutex mutex_;  // guards the next five and config_
  std::condition_variable all_ended_;
  std::map<std::string, Slot> slots_;  // by server name
  std::set<std::shared_ptr<ReceiverSession>> sessions_;
  std::set<const ReceiverSession*> handshakes_;  // of them, those before their hello
  std::shared_ptr<const TlsContext> tls_;

  StoreScrubber scrubber_{system_clock(), [this](const std::string& server, const std::vector<DamagedExtent>& extents) {
                            const std::lock_guard lock(mutex_);
                            const auto slot = slots_.find(server);
                            // Once we stop, the workers' threads may go at any time.
                            if (!stopped_ && slot != slots_.end()) slot->second.worker->compare_with_source(extents);
                          }};
  StoreThreads job_threads_{1, StoreThreads::Priority::kLow};
  StoreThreads store_threads_;  // behind all of these: whatever has a store worker
  StoreThreads digest_threads_;
  NetworkThreads threads_;
  asio::strand<asio::io_context::executor_type> strand_;
  asio::posix::stream_descriptor listener_;
  asio::steady_timer accept_timer_;
};

ReceiverServer::ReceiverServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ReceiverServer::~ReceiverServer() = default;

Result<std::unique_ptr<ReceiverServer>> ReceiverServer::start(const ReceiverConfig& config, const Options& options) {
  ASSIGN_OR_RETURN(auto tls, TlsContext::load_as(config.tls, TlsSide::kServer, {WireRole::kReceiver, config.name}));
  ASSIGN_OR_RETURN(const Uuid boot_id, read_boot_id());
  ASSIGN_OR_RETURN(UniqueFd listener, listen_on(config.listen_address, config.listen_port));
  return std::unique_ptr<ReceiverServer>(
      new ReceiverServer(std::make_unique<Impl>(config, options, boot_id, std::move(tls), std::move(listener))));
}

Result<std::vector<std::string>> ReceiverServer::reload(const ReceiverConfig& config) { return impl_->reload(config); }
void ReceiverServer::stop() { impl_->stop(); }
std::uint16_t ReceiverServer::port() const { return impl_->port(); }
std::vector<StoreReport> ReceiverServer::report() const { return impl_->report(); }

std::string ReceiverServer::status_line() const {
  std::size_t connected = 0;
  std::string trouble;
  const std::vector<StoreReport> reports = report();
  for (const StoreReport& report : reports) {
    connected += report.connected ? 1 : 0;
    if (report.store.state != "open" && report.store.state != "empty") {
      trouble += ", store of '" + report.store.server_name + "' is " + report.store.state;
    }
  }
  return std::to_string(reports.size()) + (reports.size() == 1 ? " store, " : " stores, ") + std::to_string(connected) +
         " connected" + trouble;
}

}  // namespace understudy
