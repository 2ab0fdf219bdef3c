// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/tls_link.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <deque>
#include <mutex>
#include <random>
#include <thread>

#include "daemon/base/boot_id.h"
#include "daemon/base/check.h"
#include "daemon/base/clock.h"
#include "daemon/base/limits.h"
#include "daemon/wire/frame_reader.h"
#include "daemon/wire/host_lookup.h"
#include "daemon/wire/link_encoder.h"
#include "daemon/wire/send_buffer.h"
#include "daemon/wire/session.h"
#include "daemon/wire/tls_stream.h"

namespace understudy {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr auto kTickInterval = std::chrono::milliseconds(250);
// Writing lets reading have its turn after this much.
constexpr std::size_t kWriteTurnBytes = 4u << 20;
// How long the end of a link waits for the receiver to take what was sent.
constexpr std::uint64_t kLingerNsMax = 1'000'000'000;

std::uint64_t now_ns() { return system_clock().boot_ns(); }

}  // namespace

class TlsLink::Connection {
 public:
  explicit Connection(TlsLinkOptions options)
      : options_(std::move(options)),
        hello_(options_.hello),
        retry_ns_(options_.retry_ns_min),
        work_(asio::make_work_guard(io_)),
        retry_timer_(io_),
        tick_timer_(io_),
        bandwidth_timer_(io_),
        bandwidth_(options_.bandwidth),
        encoder_(options_.encoder_threads, [this] { schedule_pump(); }) {
    encoder_.set_compression(options_.compression, options_.adaptive_compression);
    encoder_.set_delta_cache_bytes(options_.delta_cache_bytes);
    asio::post(io_, [this] {
      apply_bandwidth();
      tick();
      attempt();
    });
    thread_ = std::thread([this] { io_.run(); });
  }

  ~Connection() {
    asio::post(io_, [this] {
      stopping_ = true;
      if (session_) {
        step(StopSession{ByeCode::kShutdown, "the agent is stopping"});  // only says so: stopping_ keeps the connection
        linger();
      }
      drop_connection();
      io_.stop();
    });
    thread_.join();
    encoder_.clear();
  }

  // --- called by the user's thread ---
  void set_waker(std::function<void()> waker) {
    std::lock_guard lock(mutex_);
    waker_ = std::move(waker);
  }

  std::optional<LinkEvent> poll() {
    std::lock_guard lock(mutex_);
    if (events_.empty()) return std::nullopt;
    QueuedEvent next = std::move(events_.front());
    events_.pop_front();
    if (std::holds_alternative<LinkUp>(next.event)) polled_session_ = next.session;
    if (std::holds_alternative<LinkDown>(next.event) || std::holds_alternative<LinkRefused>(next.event)) {
      polled_session_ = 0;
    }
    return std::move(next.event);
  }

  void send(std::unique_ptr<OutgoingBatch> batch) {
    if (batch->batch.empty()) return;
    std::lock_guard lock(mutex_);
    // The session the sender knows may be over, or even followed by another, without its having polled that yet.
    if (polled_session_ == 0 || polled_session_ != live_session_) return;
    encoder_.push(std::move(batch));
  }

  // Waits until the batches it is about are written, and goes out before those behind it.
  void ask_digest(const DigestQuestion& question) {
    {
      std::lock_guard lock(mutex_);
      if (polled_session_ == 0 || polled_session_ != live_session_) return;
      questions_.push_back(question);
    }
    schedule_pump();
  }

  LinkStatistics statistics() const {
    LinkStatistics statistics;
    statistics.batches_sent = batches_sent_.load(std::memory_order_relaxed);
    statistics.raw_bytes_sent = raw_bytes_sent_.load(std::memory_order_relaxed);
    statistics.wire_bytes_sent = wire_bytes_sent_.load(std::memory_order_relaxed);
    statistics.queued_bytes = encoder_.queued_bytes() + writing_bytes_.load(std::memory_order_relaxed);
    statistics.changed_bytes_sent = changed_bytes_sent_.load(std::memory_order_relaxed);
    const EncoderStatus encoder = encoder_.status();
    statistics.delta_cache_bytes = encoder.delta_cache_bytes;
    statistics.delta_cache_bytes_max = encoder.delta_cache_bytes_max;
    statistics.effort = encoder.effort;
    statistics.send_buffer_bytes = send_buffer_bytes_.load(std::memory_order_relaxed);
    statistics.bandwidth_limit = bandwidth_limit_.load(std::memory_order_relaxed);
    return statistics;
  }

  void set_compression(const Compression& compression, bool adaptive) {
    encoder_.set_compression(compression, adaptive);
  }

  void set_delta_cache_bytes(std::uint64_t bytes) { encoder_.set_delta_cache_bytes(bytes); }

  void set_bandwidth(const BandwidthPlan& plan) {
    asio::post(io_, [this, plan] {
      bandwidth_ = plan;
      apply_bandwidth();
    });
  }

  void set_hello(const Hello& hello) {
    std::lock_guard lock(mutex_);
    const Uuid instance = hello_.instance;
    const Uuid boot_id = hello_.boot_id;
    hello_ = hello;
    if (hello_.instance.is_nil()) hello_.instance = instance;
    if (hello_.boot_id.is_nil()) hello_.boot_id = boot_id;
  }

 private:
  struct QueuedEvent {
    LinkEvent event;
    std::uint64_t session = 0;
  };

  // --- the rest runs on the network thread ---
  std::string peer_text() const { return "receiver '" + options_.receiver_name + "'"; }

  void push_event(LinkEvent event, std::uint64_t session = 0) {
    std::function<void()> waker;
    {
      std::lock_guard lock(mutex_);
      if (const auto* ack = std::get_if<LinkAck>(&event); ack != nullptr && !events_.empty()) {
        if (auto* last = std::get_if<LinkAck>(&events_.back().event)) {
          last->seq = ack->seq;
          return;
        }
      }
      if (std::holds_alternative<LinkNotice>(event) && events_.size() >= kLinkEventsMax) return;
      events_.push_back(QueuedEvent{std::move(event), session});
      waker = waker_;
    }
    if (waker) waker();
  }

  // Wraps a handler so that it does nothing once its connection attempt is over.
  template <typename Handler>
  auto guarded(Handler handler) {
    return [this, attempt = attempt_number_, handler](const error_code& error) {
      if (!error && attempt == attempt_number_ && !stopping_) handler();
    };
  }

  void attempt() {
    deadline_ns_ = now_ns() + kWireHandshakeNsMax;
    const std::uint64_t number = attempt_number_;
    lookup_ = HostLookup::start(options_.host, options_.port, [this, number](auto result) {
      asio::post(io_, [this, number, found = std::move(result)]() mutable {
        if (number != attempt_number_ || stopping_) return;
        lookup_.reset();
        if (!found.ok()) return fail(std::move(found).error(), false);
        addresses_ = std::move(found).value();
        address_index_ = 0;
        connect_next(Error(ErrorKind::kNotFound, "receiver address '" + options_.host + "' has no address"));
      });
    });
  }

  // Tries the next address of the host; `last_error` is what to report when there is none left.
  void connect_next(Error last_error) {
    ++attempt_number_;
    socket_.reset();
    while (address_index_ < addresses_.size()) {
      const SocketAddress& address = addresses_[address_index_++];
      const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (fd < 0) {
        last_error = Error::from_errno(errno, "make socket");
        continue;
      }
      socket_.emplace(io_, fd);
      const int one = 1;
      (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
      deadline_ns_ = now_ns() + kWireHandshakeNsMax;
      connecting_to_ = address.to_string();
      if (::connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.bytes) == 0 ||
          errno == EINPROGRESS) {
        socket_->async_wait(asio::posix::stream_descriptor::wait_write, guarded([this] { connected(); }));
        return;
      }
      last_error = Error::from_errno(errno, "connect to " + peer_text() + " at " + connecting_to_);
      socket_.reset();
    }
    fail(std::move(last_error), false);
  }

  void connected() {
    int error = 0;
    socklen_t bytes = sizeof(error);
    if (::getsockopt(socket_->native_handle(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
    if (error != 0) {
      return connect_next(Error::from_errno(error, "connect to " + peer_text() + " at " + connecting_to_));
    }
    auto context = TlsContext::load(options_.tls, TlsSide::kClient);
    if (!context.ok()) return fail(std::move(context).error(), true);
    auto stream = TlsStream::make(std::move(context).value(), socket_->native_handle(), peer_text());
    if (!stream.ok()) return fail(std::move(stream).error(), true);
    tls_ = std::move(stream).value();
    send_buffer_.emplace(socket_->native_handle());
    handshake();
  }

  void handshake() {
    switch (tls_->handshake()) {
      case TlsState::kOk: return start_session();
      case TlsState::kWantRead:
        return socket_->async_wait(asio::posix::stream_descriptor::wait_read, guarded([this] { handshake(); }));
      case TlsState::kWantWrite:
        return socket_->async_wait(asio::posix::stream_descriptor::wait_write, guarded([this] { handshake(); }));
      case TlsState::kClosed:
      case TlsState::kFailed: break;
    }
    Error error = tls_->error();
    (void)tls_->flush();  // the alert that tells the receiver why
    const bool refused = error.kind() == ErrorKind::kRefused;
    fail(std::move(error), refused);
  }

  void start_session() {
    deadline_ns_ = 0;
    auto peer = tls_->peer();
    ClientSessionOptions session_options{options_.receiver_name, {}};
    {
      std::lock_guard lock(mutex_);
      session_options.hello = hello_;
    }
    session_.emplace(std::move(session_options), now_ns());
    if (!peer.ok()) {
      append_frame(Refuse{RefuseCode::kIdentity, peer.error().message()}, control_);
      last_words();
      return fail(std::move(peer).error(), true);
    }
    const std::uint64_t number = attempt_number_;
    step(PeerConnected{std::move(peer).value()});
    if (number == attempt_number_) read();
  }

  void step(SessionEvent event) {
    actions_.clear();
    session_->step(std::move(event), now_ns(), actions_);
    perform();
  }

  void perform() {
    std::vector<SessionAction> actions;
    actions.swap(actions_);
    for (SessionAction& action : actions) {
      if (auto* message = std::get_if<SendMessage>(&action)) {
        if (control_.size() >= kControlFrameBytesMax) {
          return fail(Error(ErrorKind::kCorrupt, peer_text() + " makes us answer more than it reads"), false);
        }
        append_frame(message->message, control_);
      } else if (auto* up = std::get_if<SessionUp>(&action)) {
        session_up(std::move(up->welcome));
      } else if (auto* answer = std::get_if<SessionDigestAnswer>(&action)) {
        push_event(LinkDigestAnswer{std::move(answer->answer)});
      } else if (const auto* ack = std::get_if<SessionAck>(&action)) {
        retry_ns_ = options_.retry_ns_min;
        push_event(LinkAck{ack->seq});
      } else if (auto* notice = std::get_if<SessionNotice>(&action)) {
        push_event(LinkNotice{notice->notice.active, std::move(notice->notice.code), std::move(notice->notice.text)});
      } else if (auto* end = std::get_if<CloseSession>(&action)) {
        last_words();
        return fail(std::move(end->error), end->refused);  // nothing of this session may be touched behind here
      }
    }
    actions.clear();
    actions_.swap(actions);
    if (!control_.empty()) pump();
  }

  void session_up(Welcome welcome) {
    encoder_.set_peer(welcome.features.compatible, welcome.delta_cache_bytes_max);
    LinkUp up;
    up.position = std::move(welcome.position);
    up.receiver_name = std::move(welcome.receiver_name);
    up.receiver_boot_id = welcome.boot_id;
    up.store_devices = std::move(welcome.store_devices);
    up.digests = (welcome.features.compatible & kWireDigest) != 0;
    written_seq_ = up.position.seq;
    up_since_ns_ = now_ns();
    last_down_text_.clear();
    std::uint64_t number = 0;
    {
      std::lock_guard lock(mutex_);
      number = live_session_ = ++session_count_;
    }
    push_event(std::move(up), number);
  }

  // --- reading ---
  void read() {
    const std::uint64_t number = attempt_number_;
    if (!read_available()) return;
    if (tls_->output_pending() > 0) pump();
    if (number != attempt_number_) return;
    socket_->async_wait(asio::posix::stream_descriptor::wait_read, guarded([this] { read(); }));
  }

  // Everything that has come. False = the connection is gone.
  bool read_available() {
    const std::uint64_t number = attempt_number_;
    bool received = false;
    while (true) {
      const TlsResult result = tls_->read(reader_.space());
      if (result.state == TlsState::kClosed) {
        fail(Error(ErrorKind::kClosed, peer_text() + " closed the connection"), false);
        return false;
      }
      if (result.state == TlsState::kFailed) {
        Error error = tls_->error();
        const bool refused = error.kind() == ErrorKind::kRefused;
        fail(std::move(error), refused);
        return false;
      }
      if (result.state != TlsState::kOk) break;  // kWantWrite: an answer of TLS itself, pump() sends it
      received = true;
      if (!take(result.bytes) || number != attempt_number_) return false;
    }
    if (received) step(BytesReceived{});
    return number == attempt_number_;
  }

  // `bytes` have come into reader_.space(). False = the connection is gone.
  bool take(std::size_t bytes) {
    const std::uint64_t number = attempt_number_;
    auto progress = reader_.advance(bytes);
    bool complete = progress.ok() && *progress == FrameReader::Step::kFrame;
    Status status = progress.ok() ? ok_status() : Status(progress.error());
    if (status.ok() && *progress == FrameReader::Step::kHeader) {
      status = session_->admit(reader_.header());
      if (status.ok()) {
        payload_.resize(reader_.header().payload_bytes);
        complete = reader_.set_payload(payload_);
      }
    }
    if (status.ok() && !complete) return true;
    if (status.ok()) {
      auto message = decode_payload(reader_.header().type, reader_.payload());
      reader_.reset();
      if (message.ok()) {
        step(FrameReceived{std::move(message).value()});
        return number == attempt_number_;
      }
      status = Status(std::move(message).error());
    }
    actions_.clear();
    session_->broken(status.error(), actions_);
    perform();
    return false;
  }

  // --- writing ---
  // From encoder threads: at most one pump() is on its way at a time.
  void schedule_pump() {
    if (pump_scheduled_.exchange(true)) return;
    asio::post(io_, [this] {
      pump_scheduled_ = false;
      if (session_) pump();
    });
  }

  // The rest of what is being written, else control frames, else the next batch. Empty = nothing to write.
  std::span<const std::byte> next_output() {
    if (batch_) return std::span<const std::byte>(batch_->frame).subspan(batch_done_);
    if (control_done_ < control_.size()) return std::span<const std::byte>(control_).subspan(control_done_);
    if (session_->state() != ClientSession::State::kStreaming) return {};
    if (!next_batch_) next_batch_ = encoder_.pop();
    if (take_question()) return std::span<const std::byte>(control_).subspan(control_done_);
    if (!next_batch_) return {};
    batch_ = std::exchange(next_batch_, std::nullopt);
    batch_done_ = 0;
    writing_bytes_.store(batch_->raw_bytes, std::memory_order_relaxed);
    written_seq_ = batch_->info.last_seq();
    step(BatchSent{written_seq_});
    return batch_->frame;
  }

  // A question that is due now becomes a frame. One that the user asked before it sent the next batch is seen here in
  // any case: it was queued before that batch was.
  bool take_question() {
    std::lock_guard lock(mutex_);
    if (questions_.empty() || questions_.front().seq > written_seq_) return false;
    append_frame(questions_.front(), control_);
    questions_.pop_front();
    return true;
  }

  void output_taken(std::size_t bytes) {
    if (!batch_) {
      control_done_ += bytes;
      if (control_done_ == control_.size()) {
        control_.clear();
        control_done_ = 0;
      }
      return;
    }
    batch_done_ += bytes;
    if (batch_done_ < batch_->frame.size()) return;
    batches_sent_.fetch_add(1, std::memory_order_relaxed);
    raw_bytes_sent_.fetch_add(batch_->raw_bytes, std::memory_order_relaxed);
    changed_bytes_sent_.fetch_add(batch_->changed_bytes, std::memory_order_relaxed);
    writing_bytes_.store(0, std::memory_order_relaxed);
    encoder_.recycle(std::move(batch_->frame));
    batch_.reset();
  }

  void pump() {
    if (write_waiting_ || pumping_) return;
    const std::size_t turn_bytes = std::min(kWriteTurnBytes, bucket_.available(now_ns()));
    if (turn_bytes == 0) return wait_for_bandwidth();
    pumping_ = true;
    TlsState state = TlsState::kOk;
    std::size_t written = 0;
    while (written < turn_bytes) {
      const std::span<const std::byte> output = next_output();
      if (output.empty()) break;
      const TlsResult result = tls_->write(output.first(std::min(output.size(), turn_bytes - written)));
      written += result.bytes;
      output_taken(result.bytes);
      state = result.state;
      if (state != TlsState::kOk) break;
    }
    pumping_ = false;
    const bool turn_over = state == TlsState::kOk && written >= turn_bytes;
    // With a limit, what was taken from the bucket is sent before more is asked of it.
    if (state == TlsState::kOk && (!turn_over || bucket_.is_limited())) state = tls_->flush();
    count_wire_bytes();
    if (state == TlsState::kFailed) return write_failed();
    if (state != TlsState::kOk) {
      write_waiting_ = true;
      socket_->async_wait(asio::posix::stream_descriptor::wait_write, guarded([this] {
                            write_waiting_ = false;
                            pump();
                          }));
    } else if (turn_over) {
      asio::post(io_, [this, number = attempt_number_] {
        if (number == attempt_number_ && session_) pump();
      });
    }
  }

  // The limit that holds at this time of day.
  void apply_bandwidth() {
    std::uint64_t limit = bandwidth_.limit;
    if (!bandwidth_.windows.empty()) {
      const auto seconds = static_cast<std::time_t>(system_clock().wall_ns() / 1'000'000'000);
      std::tm local{};
      ::tzset();
      if (::localtime_r(&seconds, &local) != nullptr) limit = bandwidth_.limit_at(local);
    }
    if (limit == bucket_.rate()) return;
    bucket_.set_rate(limit, now_ns());
    bandwidth_limit_.store(limit, std::memory_order_relaxed);
    bandwidth_timer_.cancel();
    if (std::exchange(bandwidth_waiting_, false) && session_) pump();
  }

  void wait_for_bandwidth() {
    if (bandwidth_waiting_) return;
    bandwidth_waiting_ = true;
    bandwidth_timer_.expires_after(std::chrono::nanoseconds(bucket_.wait_ns(now_ns())));
    bandwidth_timer_.async_wait(guarded([this] {
      bandwidth_waiting_ = false;
      if (session_) pump();
    }));
  }

  // The receiver may have said why before it closed: that is worth more than "broken pipe".
  void write_failed() {
    const Error error = tls_->error();
    write_waiting_ = true;  // nothing more is written on this connection
    const std::uint64_t number = attempt_number_;
    asio::post(io_, [this, number, error] {
      if (number != attempt_number_ || !read_available()) return;
      fail(error, error.kind() == ErrorKind::kRefused);
    });
  }

  // What the session wants said before it closes, as far as the socket takes it.
  void last_words() {
    if (!tls_ || write_waiting_ || batch_) return;
    const std::span<const std::byte> rest = std::span<const std::byte>(control_).subspan(control_done_);
    if (!rest.empty()) (void)tls_->write(rest);
    tls_->shutdown();
    (void)tls_->flush();
  }

  // Lets what was written arrive: closing with acknowledgements unread would reset the connection and throw away what
  // still waits to be sent. Bounded, because a receiver that is behind may take long.
  void linger() {
    const int fd = socket_->native_handle();
    ::shutdown(fd, SHUT_WR);
    const std::uint64_t deadline_ns = now_ns() + kLingerNsMax;
    char discarded[4096];
    while (now_ns() < deadline_ns) {
      pollfd readable{fd, POLLIN, 0};
      if (::poll(&readable, 1, 50) < 0 && errno != EINTR) return;
      if (readable.revents == 0) continue;
      if (::recv(fd, discarded, sizeof(discarded), MSG_DONTWAIT) <= 0) return;
    }
  }

  void count_wire_bytes() {
    const std::uint64_t sent = tls_->bytes_sent();
    if (sent == counted_wire_bytes_) return;
    bucket_.take(sent - counted_wire_bytes_);
    wire_bytes_sent_.fetch_add(sent - counted_wire_bytes_, std::memory_order_relaxed);
    counted_wire_bytes_ = sent;
    sent_since_tick_ = true;
  }

  // --- time and endings ---
  void tick() {
    tick_timer_.expires_after(kTickInterval);
    tick_timer_.async_wait([this](const error_code& error) {
      if (error || stopping_) return;
      tick();
      on_tick();
    });
  }

  void on_tick() {
    apply_bandwidth();
    if (session_) {
      send_buffer_->look(now_ns());
      send_buffer_bytes_.store(send_buffer_->bytes(), std::memory_order_relaxed);
      if (std::exchange(sent_since_tick_, false)) step(BytesSent{});
      if (session_) step(ClockTick{true, write_waiting_});
      if (session_ && up_since_ns_ != 0 && now_ns() - up_since_ns_ > kWirePingIntervalNs)
        retry_ns_ = options_.retry_ns_min;
    } else if (deadline_ns_ != 0 && now_ns() >= deadline_ns_) {
      Error error(ErrorKind::kTimeout, "connect to " + peer_text() + " at " +
                                           (connecting_to_.empty() ? options_.host : connecting_to_) +
                                           ": no answer in time");
      if (tls_ || lookup_) return fail(std::move(error), false);
      connect_next(std::move(error));
    }
  }

  void drop_connection() {
    ++attempt_number_;
    deadline_ns_ = 0;
    lookup_.reset();
    if (tls_) count_wire_bytes();
    tls_.reset();
    send_buffer_.reset();
    send_buffer_bytes_.store(0, std::memory_order_relaxed);
    socket_.reset();
    session_.reset();
    reader_.reset();
    control_.clear();
    control_done_ = 0;
    batch_.reset();
    next_batch_.reset();
    counted_wire_bytes_ = 0;
    write_waiting_ = false;
    bandwidth_timer_.cancel();
    bandwidth_waiting_ = false;
    up_since_ns_ = 0;
    connecting_to_.clear();
    {
      std::lock_guard lock(mutex_);
      live_session_ = 0;
      questions_.clear();
    }
    encoder_.clear();
    writing_bytes_.store(0, std::memory_order_relaxed);
  }

  // The connection, or the attempt to have one, is over: reports it and plans the next.
  void fail(Error error, bool refused) {
    if (stopping_) return;  // the destructor drops it
    drop_connection();
    // Up to a quarter more, so that many agents do not all come back in the same instant.
    const std::uint64_t base_ns = refused ? options_.refused_retry_ns : retry_ns_;
    const std::uint64_t pause_ns = base_ns + base_ns / 4 * (jitter_() % 1024) / 1024;
    if (refused) {
      last_down_text_.clear();
      push_event(LinkRefused{std::move(error)});
    } else {
      retry_ns_ = std::min(retry_ns_ * 2, options_.retry_ns_max);
      // The same failure again and again is news only once.
      if (error.message() != last_down_text_) {
        last_down_text_ = error.message();
        push_event(LinkDown{std::move(error)});
      }
    }
    retry_timer_.expires_after(std::chrono::nanoseconds(pause_ns));
    retry_timer_.async_wait(guarded([this] { attempt(); }));
  }

  const TlsLinkOptions options_;

  mutable std::mutex mutex_;  // guards from here ...
  std::deque<QueuedEvent> events_;
  std::function<void()> waker_;
  std::deque<DigestQuestion> questions_;
  Hello hello_;
  std::uint64_t session_count_ = 0;
  std::uint64_t live_session_ = 0;    // 0 = none is up
  std::uint64_t polled_session_ = 0;  // the one whose LinkUp was polled; ... to here

  std::atomic<std::uint64_t> batches_sent_{0};
  std::atomic<std::uint64_t> raw_bytes_sent_{0};
  std::atomic<std::uint64_t> changed_bytes_sent_{0};
  std::atomic<std::uint64_t> wire_bytes_sent_{0};
  std::atomic<std::uint64_t> bandwidth_limit_{0};
  std::atomic<std::uint64_t> send_buffer_bytes_{0};
  std::atomic<std::uint64_t> writing_bytes_{0};  // raw bytes of the batch being written
  std::atomic<bool> pump_scheduled_{false};

  std::minstd_rand jitter_{std::random_device{}()};
  std::uint64_t retry_ns_;
  std::uint64_t attempt_number_ = 1;
  std::uint64_t deadline_ns_ = 0;  // 0 = a session is up, or nothing is under way
  std::uint64_t up_since_ns_ = 0;
  std::uint64_t counted_wire_bytes_ = 0;
  std::string last_down_text_;
  std::string connecting_to_;
  bool stopping_ = false;
  bool write_waiting_ = false;
  bool pumping_ = false;
  bool sent_since_tick_ = false;

  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::steady_timer retry_timer_;
  asio::steady_timer tick_timer_;
  asio::steady_timer bandwidth_timer_;
  BandwidthPlan bandwidth_;
  TokenBucket bucket_;
  bool bandwidth_waiting_ = false;
  std::unique_ptr<HostLookup> lookup_;
  std::vector<SocketAddress> addresses_;
  std::size_t address_index_ = 0;
  std::optional<asio::posix::stream_descriptor> socket_;
  std::unique_ptr<TlsStream> tls_;  // borrows socket_, as the next one does
  std::optional<SendBuffer> send_buffer_;
  std::optional<ClientSession> session_;
  std::vector<SessionAction> actions_;
  FrameReader reader_;
  std::vector<std::byte> payload_;
  std::vector<std::byte> control_;
  std::size_t control_done_ = 0;
  std::optional<EncodedBatch> batch_;
  std::optional<EncodedBatch> next_batch_;  // its turn comes behind questions about what is before it
  Seq written_seq_ = 0;                     // of the last batch that was written, or begun
  std::size_t batch_done_ = 0;
  LinkEncoder encoder_;
  std::thread thread_;
};

TlsLink::TlsLink(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
TlsLink::~TlsLink() = default;

Result<std::unique_ptr<TlsLink>> TlsLink::start(TlsLinkOptions options) {
  const auto invalid = [](const std::string& what) {
    return Error(ErrorKind::kInvalidArgument, "receiver link: " + what);
  };
  if (options.host.empty()) return invalid("no receiver address");
  if (options.port == 0) return invalid("port 0");
  if (!is_valid_wire_name(options.receiver_name)) return invalid("receiver name '" + options.receiver_name + "'");
  if (!is_valid_wire_name(options.hello.server_name)) return invalid("server name '" + options.hello.server_name + "'");
  if (options.hello.server.is_nil() || options.hello.epoch == 0) return invalid("no server id or epoch");
  if (options.encoder_threads == 0) return invalid("no encoder thread");
  if (options.hello.instance.is_nil()) options.hello.instance = Uuid::random();
  if (options.hello.boot_id.is_nil()) {
    ASSIGN_OR_RETURN(options.hello.boot_id, read_boot_id());
  }
  return std::unique_ptr<TlsLink>(new TlsLink(std::make_unique<Connection>(std::move(options))));
}

void TlsLink::set_waker(std::function<void()> waker) { connection_->set_waker(std::move(waker)); }
std::optional<LinkEvent> TlsLink::poll() { return connection_->poll(); }
void TlsLink::send(std::unique_ptr<OutgoingBatch> batch) { connection_->send(std::move(batch)); }
void TlsLink::ask_digest(const DigestQuestion& question) { connection_->ask_digest(question); }
LinkStatistics TlsLink::statistics() const { return connection_->statistics(); }
void TlsLink::set_compression(const Compression& compression, bool adaptive) {
  connection_->set_compression(compression, adaptive);
}
void TlsLink::set_delta_cache_bytes(std::uint64_t bytes) { connection_->set_delta_cache_bytes(bytes); }
void TlsLink::set_bandwidth(const BandwidthPlan& plan) { connection_->set_bandwidth(plan); }
void TlsLink::set_hello(const Hello& hello) { connection_->set_hello(hello); }

}  // namespace understudy
