// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_link.h"

#include <algorithm>
#include <utility>

namespace understudy::sim {
namespace {

constexpr std::uint64_t kTickNs = 250 * kMillisecond;
constexpr std::uint64_t kRetryNsMin = 50 * kMillisecond;
constexpr std::uint64_t kRetryNsMax = 2 * kSecond;
constexpr std::uint64_t kRefusedRetryNs = 3 * kSecond;

}  // namespace

SimLink::SimLink(World& world, const Clock& clock, Hello hello, Dial dial)
    : world_(world),
      clock_(clock),
      hello_(std::move(hello)),
      dial_(std::move(dial)),
      alive_(std::make_shared<SimLink*>(this)) {
  later(world_.below(5 * kMillisecond), [this] { attempt(); });
  later(kTickNs, [this] { tick(); });
}

SimLink::~SimLink() {
  if (!connection_) return;
  // Acknowledgements nobody will read make the kernel reset the connection: what still waits to be sent is lost.
  if (world_.chance(30)) connection_->cut(0, world_.below(20 * kMillisecond), true);
  connection_->close(kAgentSide);
}

template <typename Function>
void SimLink::later(std::uint64_t delay_ns, Function function) {
  world_.scheduler.after(delay_ns, [alive = std::weak_ptr(alive_), function] {
    if (!alive.expired()) function();
  });
}

std::optional<LinkEvent> SimLink::poll() {
  if (events_.empty()) return std::nullopt;
  LinkEvent event = std::move(events_.front());
  events_.pop_front();
  if (std::holds_alternative<LinkUp>(event)) up_polled_ = true;
  if (std::holds_alternative<LinkDown>(event) || std::holds_alternative<LinkRefused>(event)) up_polled_ = false;
  return event;
}

void SimLink::send(std::unique_ptr<OutgoingBatch> batch) {
  if (meanwhile) meanwhile();
  const bool end_waits = std::any_of(events_.begin(), events_.end(), [](const LinkEvent& event) {
    return std::holds_alternative<LinkDown>(event) || std::holds_alternative<LinkRefused>(event);
  });
  if (!up_polled_ || end_waits || !session_) return;
  statistics_.queued_bytes += batch->batch.raw_payload_bytes();
  queue_.push_back(std::move(batch));
  encode_next();
}

// As TlsLink: behind the batches it is about, and before those that are sent after it was asked.
void SimLink::ask_digest(const DigestQuestion& question) {
  if (meanwhile) meanwhile();
  const bool end_waits = std::any_of(events_.begin(), events_.end(), [](const LinkEvent& event) {
    return std::holds_alternative<LinkDown>(event) || std::holds_alternative<LinkRefused>(event);
  });
  if (!up_polled_ || end_waits || !session_) return;
  questions_.push_back(question);
  later(world_.below(100 * kMicrosecond), [this, attempt = attempt_] {
    if (attempt == attempt_) pump();
  });
}

LinkStatistics SimLink::statistics() const {
  if (meanwhile) meanwhile();
  return statistics_;
}

std::uint64_t SimLink::unencoded_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& batch : queue_) bytes += batch->batch.raw_payload_bytes();
  return bytes;
}

void SimLink::encode_next() {
  if (encoding_ || queue_.empty()) return;
  encoding_ = true;
  later(1 + world_.below(500 * kMicrosecond), [this, attempt = attempt_] {
    if (attempt != attempt_) return;
    encoding_ = false;
    const std::unique_ptr<OutgoingBatch> batch = std::move(queue_.front());
    queue_.pop_front();
    static constexpr Compression kChoices[] = {{Codec::kNone, 0}, {Codec::kLz4, 0}, {Codec::kZstd, 1}};
    Encoded encoded;
    encoded.frame.resize(kFrameHeaderBytes);
    const BatchInfo info = batch->batch.encode(kChoices[world_.below(3)], encoded.frame);
    store_frame_header(std::span(encoded.frame).first<kFrameHeaderBytes>(), FrameType::kBatch,
                       static_cast<std::uint32_t>(encoded.frame.size() - kFrameHeaderBytes));
    encoded.last_seq = info.last_seq();
    encoded.raw_bytes = batch->batch.raw_payload_bytes();
    if (std::exchange(flip_next_, false)) {
      const std::uint64_t bit = world_.below(encoded.frame.size() * 8);
      encoded.frame[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      world_.note("fault", "bit {} of the frame with seq {} flips", bit, info.first_seq);
    }
    world_.note("link", "batch of seq {} to {}, {} bytes", info.first_seq, info.last_seq(), encoded.frame.size());
    encoded_.push_back(std::move(encoded));
    pump();
    encode_next();
  });
}

void SimLink::attempt() {
  connection_ = dial_();
  if (!connection_) return fail(Error(ErrorKind::kIo, "connection refused"), false);
  connection_->set_endpoint(kAgentSide, this);
  session_.emplace(ClientSessionOptions{"dr-1", hello_}, clock_.boot_ns());
  step(PeerConnected{{{WireRole::kReceiver, "dr-1"}, "certificate"}});
}

void SimLink::tick() {
  later(kTickNs, [this] { tick(); });
  if (session_ && std::exchange(sent_since_tick_, false)) step(BytesSent{});
  if (session_) step(ClockTick{true, !control_.empty() || !encoded_.empty()});
}

void SimLink::bytes_arrived() {
  const std::uint64_t attempt = attempt_;
  while (session_ && attempt == attempt_) {
    const std::size_t bytes = connection_->read(kAgentSide, reader_.space());
    if (bytes == 0) break;
    take(bytes);
  }
  if (session_ && attempt == attempt_) step(BytesReceived{});
}

void SimLink::take(std::size_t bytes) {
  auto progress = reader_.advance(bytes);
  REQUIRE(progress.ok(), "wire", "the agent cannot read the receiver's frames");
  bool complete = *progress == FrameReader::Step::kFrame;
  if (*progress == FrameReader::Step::kHeader) {
    const Status admitted = session_->admit(reader_.header());
    REQUIRE(admitted.ok(), "wire", admitted.ok() ? "" : admitted.error().message());
    payload_.resize(reader_.header().payload_bytes);
    complete = reader_.set_payload(payload_);
  }
  if (!complete) return;
  auto message = decode_payload(reader_.header().type, reader_.payload());
  reader_.reset();
  REQUIRE(message.ok(), "wire", "the agent cannot decode the receiver's frame");
  step(FrameReceived{std::move(message).value()});
}

void SimLink::ended() {
  if (session_) fail(Error(ErrorKind::kClosed, "the connection ended"), false);
}

void SimLink::step(SessionEvent event) {
  std::vector<SessionAction> actions;
  session_->step(std::move(event), clock_.boot_ns(), actions);
  perform(std::move(actions));
}

void SimLink::perform(std::vector<SessionAction> actions) {
  for (SessionAction& action : actions) {
    if (auto* message = std::get_if<SendMessage>(&action)) {
      append_frame(message->message, control_);
    } else if (auto* up = std::get_if<SessionUp>(&action)) {
      session_up(std::move(up->welcome));
    } else if (auto* answer = std::get_if<SessionDigestAnswer>(&action)) {
      push(LinkDigestAnswer{std::move(answer->answer)});
    } else if (const auto* ack = std::get_if<SessionAck>(&action)) {
      retry_ns_ = kRetryNsMin;
      world_.note("link", "ack of seq {}", ack->seq);
      acknowledged_ = ack->seq;
      push(LinkAck{ack->seq});
    } else if (auto* notice = std::get_if<SessionNotice>(&action)) {
      push(LinkNotice{notice->notice.active, notice->notice.code, notice->notice.text});
    } else if (auto* end = std::get_if<CloseSession>(&action)) {
      if (!control_.empty()) connection_->write(kAgentSide, control_);
      return fail(std::move(end->error), end->refused);
    }
  }
  pump();
}

void SimLink::session_up(Welcome welcome) {
  world_.note("link", "welcome: the store has seq {}, generation {}, gap open {}", welcome.position.seq,
              welcome.position.generation, welcome.position.gap_open ? 1 : 0);
  if (on_up) on_up(welcome.position.seq);
  acknowledged_ = welcome.position.seq;
  LinkUp up;
  up.position = std::move(welcome.position);
  up.receiver_name = std::move(welcome.receiver_name);
  up.receiver_boot_id = welcome.boot_id;
  up.store_devices = std::move(welcome.store_devices);
  up.digests = (welcome.features.compatible & kWireDigest) != 0;
  written_seq_ = up.position.seq;
  push(std::move(up));
}

// As TlsLink: the rest of a frame, else control frames, else the next batch.
void SimLink::pump() {
  while (session_) {
    const bool in_batch = !encoded_.empty() && encoded_.front().begun;
    if (!in_batch && !control_.empty()) {
      const std::size_t taken = connection_->write(kAgentSide, control_);
      control_.erase(control_.begin(), control_.begin() + static_cast<std::ptrdiff_t>(taken));
      sent_since_tick_ = sent_since_tick_ || taken > 0;
      if (!control_.empty()) return;
      continue;
    }
    if (session_->state() != ClientSession::State::kStreaming) return;
    if (!in_batch && !questions_.empty() && questions_.front().seq <= written_seq_) {
      append_frame(questions_.front(), control_);
      questions_.pop_front();
      continue;
    }
    if (encoded_.empty()) return;
    Encoded& batch = encoded_.front();
    if (!batch.begun) {
      batch.begun = true;
      written_seq_ = batch.last_seq;
      std::vector<SessionAction> none;
      session_->step(BatchSent{batch.last_seq}, clock_.boot_ns(), none);
      REQUIRE(none.empty(), "wire", "sending a batch made the session act");
    }
    batch.done += connection_->write(kAgentSide, std::span<const std::byte>(batch.frame).subspan(batch.done));
    sent_since_tick_ = true;
    if (batch.done < batch.frame.size()) return;
    ++statistics_.batches_sent;
    statistics_.raw_bytes_sent += batch.raw_bytes;
    statistics_.wire_bytes_sent += batch.frame.size();
    statistics_.queued_bytes -= batch.raw_bytes;
    encoded_.pop_front();
    if (waker_) waker_();
  }
}

void SimLink::fail(Error error, bool refused) {
  ++attempt_;
  world_.note("link", refused ? "refused" : "down");
  if (connection_) connection_->close(kAgentSide);
  connection_.reset();
  session_.reset();
  reader_.reset();
  control_.clear();
  queue_.clear();
  encoded_.clear();
  questions_.clear();
  encoding_ = false;
  statistics_.queued_bytes = 0;
  if (refused) {
    push(LinkRefused{std::move(error)});
  } else {
    push(LinkDown{std::move(error)});
    retry_ns_ = std::min(2 * retry_ns_, kRetryNsMax);
  }
  later((refused ? kRefusedRetryNs : retry_ns_) + world_.below(kRetryNsMin), [this, number = attempt_] {
    if (number == attempt_) attempt();
  });
}

void SimLink::push(LinkEvent event) {
  events_.push_back(std::move(event));
  if (waker_) waker_();
}

}  // namespace understudy::sim
