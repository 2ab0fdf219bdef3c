// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/link_encoder.h"

#include <utility>

#include "daemon/base/check.h"
#include "daemon/base/limits.h"
#include "daemon/wire/frame_codec.h"

namespace understudy {

LinkEncoder::LinkEncoder(unsigned thread_count, std::function<void()> ready) : ready_(std::move(ready)) {
  CHECK_GT(thread_count, 0u);
  for (unsigned i = 0; i < thread_count; ++i) threads_.emplace_back([this] { run(); });
}

LinkEncoder::~LinkEncoder() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void LinkEncoder::set_compression(const Compression& compression, bool adaptive) {
  std::lock_guard lock(mutex_);
  compression_ = compression;
  adaptive_ = adaptive;
}

void LinkEncoder::set_peer_codecs(std::uint32_t compatible) {
  std::lock_guard lock(mutex_);
  peer_codecs_ = compatible;
}

void LinkEncoder::push(std::unique_ptr<OutgoingBatch> batch) {
  auto slot = std::make_shared<Slot>();
  slot->encoded.raw_bytes = batch->batch.raw_payload_bytes();
  slot->batch = std::move(batch);
  queued_bytes_.fetch_add(slot->encoded.raw_bytes, std::memory_order_relaxed);
  {
    std::lock_guard lock(mutex_);
    slots_.push_back(std::move(slot));
  }
  wake_.notify_one();
}

std::optional<EncodedBatch> LinkEncoder::pop() {
  std::unique_lock lock(mutex_);
  if (slots_.empty() || !slots_.front()->done) return std::nullopt;
  EncodedBatch encoded = std::move(slots_.front()->encoded);
  slots_.pop_front();
  --next_;
  const bool was_full = encoded_bytes_ >= kLinkEncodedBytesMax;
  encoded_bytes_ -= encoded.frame.size();
  const bool has_room = encoded_bytes_ < kLinkEncodedBytesMax;
  lock.unlock();
  queued_bytes_.fetch_sub(encoded.raw_bytes, std::memory_order_relaxed);
  if (was_full && has_room) wake_.notify_all();
  return encoded;
}

void LinkEncoder::recycle(std::vector<std::byte> frame) {
  std::lock_guard lock(mutex_);
  if (spare_frames_.size() < kLinkSpareFramesMax) spare_frames_.push_back(std::move(frame));
}

void LinkEncoder::clear() {
  std::deque<std::shared_ptr<Slot>> dropped;
  {
    std::unique_lock lock(mutex_);
    dropped.swap(slots_);
    for (const auto& slot : dropped) slot->dropped = true;
    next_ = 0;
    encoded_bytes_ = 0;
    idle_.wait(lock, [this] { return encoding_ == 0; });
  }
  for (const auto& slot : dropped) queued_bytes_.fetch_sub(slot->encoded.raw_bytes, std::memory_order_relaxed);
}

std::uint64_t LinkEncoder::encoded_bytes() const {
  std::lock_guard lock(mutex_);
  return encoded_bytes_;
}

Compression LinkEncoder::choose_compression() const {
  Compression chosen = compression_;
  if (chosen.codec == Codec::kLz4 && (peer_codecs_ & kWireLz4) == 0) chosen.codec = Codec::kNone;
  if (chosen.codec == Codec::kZstd && (peer_codecs_ & kWireZstd) == 0) chosen.codec = Codec::kNone;
  const bool socket_starves = encoded_bytes_ == 0 && slots_.size() - next_ >= kLinkBacklogBatches;
  if (adaptive_ && socket_starves) chosen.codec = Codec::kNone;
  return chosen;
}

void LinkEncoder::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || (next_ < slots_.size() && encoded_bytes_ < kLinkEncodedBytesMax); });
    if (stop_) return;
    const Compression compression = choose_compression();
    const std::shared_ptr<Slot> slot = slots_[next_++];
    std::unique_ptr<OutgoingBatch> batch = std::move(slot->batch);
    std::vector<std::byte> frame;
    if (!spare_frames_.empty()) {
      frame = std::move(spare_frames_.back());
      spare_frames_.pop_back();
    }
    ++encoding_;
    lock.unlock();

    frame.resize(kFrameHeaderBytes);
    const BatchInfo info = batch->batch.encode(compression, frame);
    store_frame_header(std::span(frame).first<kFrameHeaderBytes>(), FrameType::kBatch,
                       static_cast<std::uint32_t>(frame.size() - kFrameHeaderBytes));
    batch.reset();

    lock.lock();
    slot->encoded.frame = std::move(frame);
    slot->encoded.info = info;
    slot->done = true;
    if (!slot->dropped) encoded_bytes_ += slot->encoded.frame.size();
    const bool at_front = !slot->dropped && slots_.front() == slot;
    if (--encoding_ == 0) idle_.notify_all();
    if (at_front) {
      lock.unlock();
      ready_();
      lock.lock();
    }
  }
}

}  // namespace understudy
