// SPDX-License-Identifier: Apache-2.0
#include "daemon/node/node_channel.h"

#include <array>
#include <span>

#include "daemon/base/limits.h"

namespace understudy {

namespace {
// Of one advance(), so that one peer does not keep the others waiting.
constexpr std::size_t kReadsMax = 16;
constexpr std::size_t kReadBytes = 16u << 10;
}  // namespace

NodeChannel::NodeChannel(std::unique_ptr<TlsStream> stream, std::size_t frame_bytes_max)
    : stream_(std::move(stream)), reader_(frame_bytes_max) {}

bool NodeChannel::wants_write() const { return blocked_; }

Status NodeChannel::advance() {
  more_ = false;
  if (!open_) {
    RETURN_IF_ERROR(shake_hands());
    if (!open_) return ok_status();
  }
  RETURN_IF_ERROR(send_queued());
  return receive();
}

Status NodeChannel::shake_hands() {
  const TlsState state = stream_->handshake();
  blocked_ = state == TlsState::kWantWrite;
  if (state == TlsState::kFailed || state == TlsState::kClosed) {
    const Error error = stream_->error();
    (void)stream_->flush();  // the alert that says why
    return error;
  }
  open_ = state == TlsState::kOk;
  return ok_status();
}

Status NodeChannel::send_queued() {
  while (output_begin_ < output_.size()) {
    const TlsResult written = stream_->write(std::as_bytes(std::span(output_).subspan(output_begin_)));
    output_begin_ += written.bytes;
    if (written.state == TlsState::kFailed || written.state == TlsState::kClosed) return stream_->error();
    if (written.state != TlsState::kOk) {
      blocked_ = true;
      return ok_status();
    }
  }
  output_.clear();
  output_begin_ = 0;
  const TlsState flushed = stream_->flush();
  if (flushed == TlsState::kFailed) return stream_->error();
  blocked_ = flushed == TlsState::kWantWrite;
  return ok_status();
}

Status NodeChannel::receive() {
  std::array<std::byte, kReadBytes> buffer;
  for (std::size_t i = 0; i < kReadsMax; ++i) {
    const TlsResult got = stream_->read(buffer);
    if (got.state == TlsState::kClosed) return Error(ErrorKind::kClosed, "the connection was closed");
    if (got.state == TlsState::kFailed) return stream_->error();
    if (got.bytes == 0) return ok_status();
    reader_.add(std::span(buffer).first(got.bytes));
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Json> message, reader_.next());
      if (!message) break;
      received_.push_back(std::move(*message));
    }
  }
  more_ = true;
  return ok_status();
}

std::optional<Json> NodeChannel::take() {
  if (received_.empty()) return std::nullopt;
  Json message = std::move(received_.front());
  received_.pop_front();
  return message;
}

Status NodeChannel::send(const Json& message) {
  const std::string frame = encode_node_frame(message);
  if (output_.size() - output_begin_ + frame.size() > kNodeOutputBytesMax) {
    return Error(ErrorKind::kBusy, "the peer does not take what is sent to it");
  }
  output_ += frame;
  return ok_status();
}

void NodeChannel::close() {
  if (open_) (void)send_queued();
  stream_->shutdown();
  (void)stream_->flush();
}

}  // namespace understudy
