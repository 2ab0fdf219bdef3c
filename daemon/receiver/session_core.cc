// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/session_core.h"

#include <algorithm>
#include <utility>

#include "daemon/base/check.h"
#include "daemon/base/limits.h"

namespace understudy {

SessionCore::SessionCore(const std::string& receiver_name, std::size_t queue_bytes_max, BufferPool& pool,
                         SessionPort& port, std::uint64_t now_ns, std::uint64_t handshake_ns_max)
    : queue_bytes_max_(queue_bytes_max),
      pool_(pool),
      port_(port),
      session_(ServerSessionOptions{receiver_name, handshake_ns_max}, now_ns) {}

void SessionCore::step(SessionEvent event, std::uint64_t now_ns) {
  if (over_) return;
  actions_.clear();
  session_.step(std::move(event), now_ns, actions_);
  perform();
}

void SessionCore::perform() {
  std::vector<SessionAction> actions;
  actions.swap(actions_);
  for (SessionAction& action : actions) {
    if (auto* message = std::get_if<SendMessage>(&action)) {
      if (output_.size() - output_done_ >= kControlFrameBytesMax) {
        output_.clear();
        output_done_ = 0;
        return finish(Error(ErrorKind::kCorrupt, "the agent makes us answer more than it reads"), false);
      }
      append_frame(message->message, output_);
    } else if (auto* attach = std::get_if<AttachStore>(&action)) {
      port_.session_greet(attach->hello);
    } else if (std::holds_alternative<DeliverBatch>(action)) {
      deliver(std::move(batch_));
    } else if (std::holds_alternative<DeliverDelta>(action)) {
      if (Status status = deliver_delta(); !status.ok()) return broken(status.error());
    } else if (const auto* resize = std::get_if<ResizeDeltaCache>(&action)) {
      decoder_.resize(resize->bytes);
    } else if (auto* question = std::get_if<DeliverDigestQuestion>(&action)) {
      if (++questions_ > kDigestQuestionsMax) {
        return finish(Error(ErrorKind::kCorrupt, "the agent asks more about digests than it waits for"), false);
      }
      port_.session_question(std::move(question->question));
    } else if (auto* end = std::get_if<CloseSession>(&action)) {
      return finish(std::move(end->error), end->refused);
    }
  }
}

void SessionCore::deliver(Buffer batch) {
  queued_bytes_ += batch.size();
  if (queued_bytes_ >= queue_bytes_max_) paused_ = true;
  port_.session_batch(std::move(batch));
}

// An error ends the session; the next one begins with empty caches, and the agent sends again what is not durable.
Status SessionCore::deliver_delta() {
  thread_local std::vector<std::byte> rebuilt;
  rebuilt.clear();
  RETURN_IF_ERROR(decoder_.decode(batch_.bytes(), rebuilt));
  ++delta_batches_;
  batch_ = pool_.take(rebuilt.size());
  std::copy(rebuilt.begin(), rebuilt.end(), batch_.bytes().begin());
  deliver(std::move(batch_));
  return ok_status();
}

void SessionCore::finish(Error error, bool refused) {
  over_ = true;
  batch_ = Buffer();
  port_.session_finish(std::move(error), refused);
}

void SessionCore::broken(const Error& error) {
  actions_.clear();
  session_.broken(error, actions_);
  perform();
}

// `bytes` have come into space().
void SessionCore::received(std::size_t bytes, std::uint64_t now_ns) {
  if (over_) return;
  auto progress = reader_.advance(bytes);
  if (!progress.ok()) return broken(progress.error());
  bool complete = *progress == FrameReader::Step::kFrame;
  if (*progress == FrameReader::Step::kHeader) {
    const FrameHeader& header = reader_.header();
    if (Status status = session_.admit(header); !status.ok()) return broken(status.error());
    // Only a streaming session gets memory for a batch.
    if (header.type == FrameType::kBatch || header.type == FrameType::kDeltaBatch) {
      batch_ = pool_.take(header.payload_bytes);
      complete = reader_.set_payload(batch_.bytes());
    } else {
      payload_.resize(header.payload_bytes);
      complete = reader_.set_payload(payload_);
    }
  }
  if (!complete) return;
  auto message = decode_payload(reader_.header().type, reader_.payload());
  reader_.reset();
  if (!message.ok()) return broken(message.error());
  step(FrameReceived{std::move(message).value()}, now_ns);
}

void SessionCore::sent(std::size_t bytes) {
  CHECK_LE(bytes, output_.size() - output_done_);
  output_done_ += bytes;
  if (output_done_ < output_.size()) return;
  output_.clear();
  output_done_ = 0;
}

bool SessionCore::took(std::size_t bytes) {
  CHECK_GE(queued_bytes_, bytes);
  queued_bytes_ -= bytes;
  if (!paused_ || queued_bytes_ > queue_bytes_max_ / 2) return false;
  paused_ = false;
  return true;
}

void SessionCore::committed(Seq seq, bool output_blocked, std::uint64_t now_ns) {
  pending_ack_ = seq;
  if (!output_blocked) flush_ack(now_ns);
}

void SessionCore::flush_ack(std::uint64_t now_ns) {
  if (pending_ack_ != 0) step(Committed{std::exchange(pending_ack_, 0)}, now_ns);
}

void SessionCore::answered(const DigestAnswer& answer, std::uint64_t now_ns) {
  if (questions_ > 0) --questions_;
  step(DigestAnswered{answer}, now_ns);
}

void SessionCore::drop_buffers() {
  batch_ = Buffer();
  decoder_.resize(0);
  payload_ = {};
  output_ = {};
  output_done_ = 0;
}

}  // namespace understudy
