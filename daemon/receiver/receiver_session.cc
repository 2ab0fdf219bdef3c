// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/receiver_session.h"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "daemon/base/check.h"
#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/receiver/read_limit.h"
#include "daemon/receiver/session_core.h"
#include "daemon/wire/tls_stream.h"

namespace understudy {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

static_assert(SessionTimes{}.handshake_ns == kWireHandshakeNsMax);

constexpr auto kTickInterval = std::chrono::milliseconds(500);
// Reading lets others have their turn after this much.
constexpr std::size_t kReadTurnBytes = 512u << 10;

std::uint64_t now_ns() { return system_clock().boot_ns(); }

class Session final : public ReceiverSession,
                      public SessionPort,
                      public std::enable_shared_from_this<Session> {
 public:
  Session(asio::io_context& context, SessionHost& host, BufferPool& pool, const SessionOptions& options,
          std::shared_ptr<const TlsContext> tls, UniqueFd socket, std::string address)
      : host_(host),
        options_(options),
        context_(std::move(tls)),
        address_(std::move(address)),
        strand_(asio::make_strand(context)),
        socket_(strand_, socket.release()),
        timer_(strand_),
        proof_timer_(strand_),
        limit_timer_(strand_),
        core_(options.receiver_name, options.queue_bytes_max, pool, *this, now_ns(), options.times.handshake_ns) {
    status_.address = address_;
    status_.connected_wall_ns = system_clock().wall_ns();
  }

  // --- from any thread ---
  void start() override {
    on_strand([this] {
      auto stream = TlsStream::make(context_, socket_.native_handle(), "agent at " + address_);
      if (!stream.ok()) return close(std::move(stream).error(), true);
      tls_ = std::move(stream).value();
      tick();
      handshake();
    });
  }

  void attach(std::shared_ptr<StoreWorker> worker, const Hello& hello, const SessionLimits& limits) override {
    on_strand([this, worker = std::move(worker), hello, limits] {
      use_limits(limits);
      delta_cache_bytes_max_ = limits.delta_cache_bytes_max;
      if (closed_ || core_.state() != ServerSession::State::kAttaching) return;
      worker_ = worker;
      worker_->attach(shared_from_this(), hello);
    });
  }

  void set_limits(const SessionLimits& limits) override {
    on_strand([this, limits] { use_limits(limits); });
  }

  void refuse(RefuseCode code, std::string text) override {
    on_strand([this, code, text = std::move(text)] {
      if (core_.state() == ServerSession::State::kAttaching) step(AttachRefused{code, text});
    });
  }

  void stop(ByeCode code, std::string text) override {
    on_strand([this, code, text = std::move(text)] { step(StopSession{code, text}); });
  }

  void prove_alive(std::function<void(bool)> answer) override {
    on_strand([this, answer = std::move(answer)] { begin_proof(answer); });
  }

  SessionStatus status() const override {
    std::lock_guard lock(mutex_);
    return status_;
  }

  // --- from the store's thread ---
  void store_attached(const StreamPosition& position, const std::vector<std::uint64_t>& devices) override {
    on_strand([this, position, devices] {
      if (core_.state() != ServerSession::State::kAttaching) return;
      Welcome welcome;
      welcome.position = position;
      welcome.software = options_.software;
      welcome.boot_id = options_.boot_id;
      welcome.store_devices = devices;
      welcome.delta_cache_bytes_max = delta_cache_bytes_max_;
      log_message(LogLevel::kInfo, kMessageSessionOpened,
                  "agent of server '" + core_.peer().identity.name + "' connected from " + address_ +
                      ", stream goes on behind seq " + std::to_string(position.seq),
                  {{"UNDERSTUDY_SERVER", core_.peer().identity.name}});
      step(Attached{std::move(welcome)});
    });
  }
  void store_refused(RefuseCode code, const std::string& text) override { refuse(code, text); }
  void store_committed(Seq seq) override {
    on_strand([this, seq] {
      if (closed_ || lingering_) return;
      core_.committed(seq, write_waiting_, now_ns());
      pump();
    });
  }
  void store_notice(const Notice& notice) override {
    on_strand([this, notice] { step(NoticeChanged{notice}); });
  }
  void store_took(std::size_t bytes) override {
    on_strand([this, bytes] {
      if (core_.took(bytes) && !closed_ && !lingering_) read();
      update_status();
    });
  }
  void store_failed(ByeCode code, const std::string& text) override { stop(code, text); }
  void store_digest_answer(const DigestAnswer& answer) override {
    on_strand([this, answer] {
      if (closed_ || lingering_) return;
      core_.answered(answer, now_ns());
      pump();
    });
  }

 private:
  // --- everything below runs on the strand ---
  template <typename Function>
  void on_strand(Function function) {
    asio::post(strand_, [self = shared_from_this(), function = std::move(function)]() mutable { function(); });
  }

  template <typename Function>
  void when(asio::posix::stream_descriptor::wait_type what, Function function) {
    socket_.async_wait(what, [self = shared_from_this(), function](const error_code& error) {
      if (!error && !self->closed_) function();
    });
  }

  void handshake() {
    const TlsState state = tls_->handshake();
    if (state == TlsState::kWantRead) return when(asio::posix::stream_descriptor::wait_read, [this] { handshake(); });
    if (state == TlsState::kWantWrite) return when(asio::posix::stream_descriptor::wait_write, [this] { handshake(); });
    if (state == TlsState::kOk) {
      auto peer = tls_->peer();
      if (!peer.ok()) {
        core_.say(Refuse{RefuseCode::kIdentity, peer.error().message()});
        return finish(std::move(peer).error(), true);
      }
      {
        std::lock_guard lock(mutex_);
        status_.certificate_sha256 = peer->certificate_sha256;
      }
      step(PeerConnected{std::move(peer).value()});
      if (!closed_ && !lingering_) read();
      return;
    }
    finish(tls_->error(), true);  // with the alert that tells the agent why
  }

  void step(SessionEvent event) {
    if (closed_ || lingering_) return;
    core_.step(std::move(event), now_ns());
    pump();
  }

  // --- SessionPort ---
  void session_greet(const Hello& hello) override {
    greeted_ = true;
    {
      std::lock_guard lock(mutex_);
      status_.server_name = hello.server_name;
      status_.software = hello.software;
      status_.boot_id = hello.boot_id;
    }
    host_.session_hello(shared_from_this(), hello);
  }
  void session_batch(Buffer batch) override { worker_->submit(shared_from_this(), std::move(batch)); }
  void session_question(DigestQuestion question) override {
    worker_->ask_digest(shared_from_this(), std::move(question));
  }
  void session_finish(Error error, bool refused) override { finish(std::move(error), refused); }

  // --- reading ---
  void use_limits(const SessionLimits& limits) {
    core_.set_queue_bytes_max(limits.queue_bytes_max);
    if (limits.bytes_per_second != limit_.bytes_per_second()) limit_.set(limits.bytes_per_second, now_ns());
  }

  // Reads later, when the limit allows it. False = it does now.
  bool throttle() {
    if (throttled_) return true;
    const std::uint64_t wait_ns = limit_.wait_ns(now_ns());
    if (wait_ns == 0) return false;
    throttled_ = true;
    limit_timer_.expires_after(std::chrono::nanoseconds(wait_ns));
    limit_timer_.async_wait([self = shared_from_this()](const error_code& error) {
      self->throttled_ = false;
      if (!error && !self->closed_ && !self->lingering_ && !self->core_.paused()) self->read();
    });
    return true;
  }

  void read() {
    std::size_t taken = 0;
    const std::size_t turn_bytes = limit_.turn_bytes(kReadTurnBytes);
    while (!core_.paused()) {
      if (throttle()) break;
      if (taken >= turn_bytes) {
        on_strand([this] {
          if (!closed_ && !lingering_ && !core_.paused()) read();
        });
        break;
      }
      const TlsResult result = tls_->read(core_.space());
      if (result.state == TlsState::kOk) {
        taken += result.bytes;
        limit_.charge(result.bytes, now_ns());
        core_.received(result.bytes, now_ns());
        if (closed_ || lingering_) return;
        continue;
      }
      if (result.state == TlsState::kClosed || result.state == TlsState::kFailed) return peer_closed(result.state);
      if (taken > 0) step(BytesReceived{});
      if (closed_ || lingering_) return;
      pump();
      if (closed_ || lingering_) return;
      when(asio::posix::stream_descriptor::wait_read, [this] {
        if (!lingering_ && !core_.paused()) read();
      });
      break;
    }
    update_status();
  }

  void peer_closed(TlsState state) {
    if (state == TlsState::kFailed) return close(tls_->error(), !greeted_);
    close(Error(ErrorKind::kClosed, core_.in_frame() ? "the agent closed the connection inside a frame"
                                                       : "the agent closed the connection"),
          false);
  }

  // --- writing ---
  void pump() {
    if (closed_ || write_waiting_ || write_failed_ || !tls_) return;
    TlsState state = TlsState::kOk;
    if (const std::span<const std::byte> output = core_.output(); !output.empty()) {
      const TlsResult result = tls_->write(output);
      core_.sent(result.bytes);
      state = result.state;
      if (result.bytes > 0) sent_since_tick_ = true;
    }
    if (state == TlsState::kOk) state = tls_->flush();
    if (state == TlsState::kOk) {
      if (lingering_) return half_close();
      return;
    }
    if (state != TlsState::kWantWrite) {
      // Nobody takes our answers any more, but what the agent sent before is still there to be read.
      write_failed_ = true;
      if (lingering_) end();
      return;
    }
    write_waiting_ = true;
    when(asio::posix::stream_descriptor::wait_write, [this] {
      write_waiting_ = false;
      pump();
      if (write_waiting_ || closed_ || lingering_) return;
      core_.flush_ack(now_ns());
      pump();
    });
  }

  // --- time ---
  void tick() {
    timer_.expires_after(kTickInterval);
    timer_.async_wait([self = shared_from_this()](const error_code& error) {
      if (error || self->closed_) return;
      self->on_tick();
      if (!self->closed_) self->tick();
    });
  }

  void on_tick() {
    if (lingering_) {
      if (now_ns() >= linger_until_ns_) end();
      return;
    }
    if (std::exchange(sent_since_tick_, false)) step(BytesSent{});
    step(ClockTick{!core_.paused() && !throttled_, write_waiting_});
    update_status();
  }

  // --- is anybody there? ---
  void begin_proof(const std::function<void(bool)>& answer) {
    if (closed_ || lingering_ || !tls_ || !is_established()) return answer(false);
    const std::uint64_t received = tls_->bytes_received();
    core_.say(Ping{0});
    pump();
    proof_timer_.expires_after(std::chrono::nanoseconds(options_.times.proof_ns));
    proof_timer_.async_wait(
        [self = shared_from_this(), answer, received](const error_code&) { answer(self->is_proved_alive(received)); });
  }

  bool is_proved_alive(std::uint64_t received_before) {
    if (closed_ || lingering_ || !tls_) return false;
    if (tls_->bytes_received() > received_before) return true;
    if (!is_established() || write_failed_ || write_waiting_ || tls_->output_pending() > 0) return false;
    int unacknowledged = -1;
    return ::ioctl(socket_.native_handle(), SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0;
  }

  bool is_established() {
    tcp_info info{};
    socklen_t bytes = sizeof(info);
    return ::getsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 &&
           info.tcpi_state == TCP_ESTABLISHED;
  }

  // --- endings ---
  // We close: our last words go out first, and the socket stays until the agent has had the chance to read them
  // (closing with unread input would reset the connection and destroy them).
  void finish(Error error, bool refused) {
    if (closed_ || lingering_) return;
    report_end(error, refused);
    lingering_ = true;
    linger_until_ns_ = now_ns() + options_.times.linger_ns;
    pump();
  }

  void half_close() {
    if (half_closed_) return;
    half_closed_ = true;
    tls_->shutdown();
    (void)tls_->flush();
    ::shutdown(socket_.native_handle(), SHUT_WR);
    discard_input();
  }

  void discard_input() {
    char buffer[4096];
    while (true) {
      const ssize_t bytes = ::recv(socket_.native_handle(), buffer, sizeof(buffer), MSG_DONTWAIT);
      if (bytes > 0) continue;
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      return end();
    }
    when(asio::posix::stream_descriptor::wait_read, [this] { discard_input(); });
  }

  // The agent closed, or the connection broke.
  void close(const Error& error, bool refused) {
    if (closed_) return;
    if (!lingering_) report_end(error, refused);
    end();
  }

  void report_end(const Error& error, bool refused) {
    const std::string who = greeted_ ? "agent of server '" + core_.peer().identity.name + "' at " + address_
                                     : "connection from " + address_;
    if (refused) {
      log_message(LogLevel::kWarning, kMessageSessionRefused, who + " refused: " + error.message());
    } else {
      log_message(LogLevel::kNotice, kMessageSessionClosed, who + " ended: " + error.message());
    }
  }

  void end() {
    if (closed_) return;
    closed_ = true;
    timer_.cancel();
    limit_timer_.cancel();
    tls_.reset();
    error_code ignored;
    socket_.close(ignored);
    core_.drop_buffers();
    update_status();
    if (worker_) worker_->detach(this);
    worker_.reset();
    host_.session_ended(shared_from_this(), greeted_);
  }

  void update_status() {
    std::lock_guard lock(mutex_);
    if (tls_) status_.wire_bytes_in = tls_->bytes_received();
    status_.queued_bytes = core_.queued_bytes();
    status_.streaming = !closed_ && core_.state() == ServerSession::State::kStreaming;
    status_.paused = core_.paused();
    status_.delta_cache_bytes = core_.delta_cache().bytes_used();
    status_.delta_cache_bytes_max = core_.delta_cache().bytes_max();
    status_.delta_batches = core_.delta_batches();
  }

  SessionHost& host_;
  const SessionOptions options_;
  const std::shared_ptr<const TlsContext> context_;
  const std::string address_;

  mutable std::mutex mutex_;  // guards status_
  SessionStatus status_;

  asio::strand<asio::io_context::executor_type> strand_;
  asio::posix::stream_descriptor socket_;
  asio::steady_timer timer_;
  asio::steady_timer proof_timer_;
  asio::steady_timer limit_timer_;
  ReadLimit limit_;
  bool throttled_ = false;  // limit_timer_ goes on reading
  std::unique_ptr<TlsStream> tls_;  // borrows socket_
  SessionCore core_;
  std::uint64_t delta_cache_bytes_max_ = 0;
  std::shared_ptr<StoreWorker> worker_;
  std::uint64_t linger_until_ns_ = 0;
  bool greeted_ = false;
  bool write_waiting_ = false;
  bool write_failed_ = false;
  bool sent_since_tick_ = false;
  bool lingering_ = false;
  bool half_closed_ = false;
  bool closed_ = false;
};

}  // namespace

std::shared_ptr<ReceiverSession> ReceiverSession::make(asio::io_context& context, SessionHost& host, BufferPool& pool,
                                                       const SessionOptions& options,
                                                       std::shared_ptr<const TlsContext> tls, UniqueFd socket,
                                                       std::string address) {
  return std::make_shared<Session>(context, host, pool, options, std::move(tls), std::move(socket), std::move(address));
}

}  // namespace understudy
