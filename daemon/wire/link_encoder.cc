// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/link_encoder.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "daemon/base/check.h"
#include "daemon/base/limits.h"
#include "daemon/wire/frame_codec.h"

namespace understudy {

namespace {

// Frames kept for reuse hold no more than this, together: after large ones most of it would lie idle.
constexpr std::size_t kSpareBytesMax = 4u << 20;

std::uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

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
  if (compression_.codec != compression.codec || compression_.level != compression.level) choice_.reset();
  compression_ = compression;
  adaptive_ = adaptive;
}

void LinkEncoder::set_delta_cache_bytes(std::uint64_t bytes) {
  std::lock_guard lock(mutex_);
  delta_cache_bytes_ = bytes;
}

void LinkEncoder::set_peer(std::uint32_t compatible, std::uint64_t delta_cache_bytes_max) {
  std::lock_guard lock(mutex_);
  peer_compatible_ = compatible;
  peer_delta_cache_bytes_max_ = delta_cache_bytes_max;
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
  std::size_t bytes = frame.capacity();
  for (const auto& spare : spare_frames_) bytes += spare.capacity();
  if (spare_frames_.size() < kLinkSpareFramesMax && bytes <= kSpareBytesMax) spare_frames_.push_back(std::move(frame));
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
    // The next session begins with empty caches at both ends.
    cache_bytes_ = 0;
    delta_.resize(0);
    cache_bytes_used_ = 0;
    effort_.reset();
    choice_.reset();
  }
  for (const auto& slot : dropped) queued_bytes_.fetch_sub(slot->encoded.raw_bytes, std::memory_order_relaxed);
}

std::uint64_t LinkEncoder::encoded_bytes() const {
  std::lock_guard lock(mutex_);
  return encoded_bytes_;
}

EncoderStatus LinkEncoder::status() const {
  std::lock_guard lock(mutex_);
  return {cache_bytes_used_, cache_bytes_, effort_.name()};
}

LinkEncoder::Plan LinkEncoder::make_plan() {
  Plan plan;
  plan.compression = compression_;
  if (plan.compression.codec == Codec::kLz4 && (peer_compatible_ & kWireLz4) == 0)
    plan.compression.codec = Codec::kNone;
  if (plan.compression.codec == Codec::kZstd && (peer_compatible_ & kWireZstd) == 0)
    plan.compression.codec = Codec::kNone;
  const bool peer_has_deltas = (peer_compatible_ & kWireDeltas) != 0;
  std::uint64_t cache_bytes =
      peer_has_deltas ? std::min({delta_cache_bytes_, peer_delta_cache_bytes_max_, kDeltaCacheBytesMax}) : 0;
  if (cache_bytes < kDeltaBlockBytes) cache_bytes = 0;
  if (cache_bytes != cache_bytes_) plan.resize_cache = cache_bytes_ = cache_bytes;
  plan.deltas = cache_bytes_ != 0;
  if (adaptive_) {
    const EncoderEffort::Load load{slots_.size() - next_, encoded_bytes_};
    const EncoderEffort::Plan effort =
        effort_.decide(load, plan.compression, (peer_compatible_ & kWireLz4) != 0);
    plan.compression = effort.compression;
    plan.deltas = plan.deltas && effort.deltas;
    plan.may_compare = effort.compare;
  }
  if (plan.deltas || plan.resize_cache) plan.turn = next_turn_++;
  return plan;
}

std::uint64_t LinkEncoder::wait_for_turn(std::uint64_t turn) {
  const std::uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
  std::unique_lock lock(mutex_);
  turned_.wait(lock, [this, turn] { return turn_ == turn; });
  return clock_ns(CLOCK_MONOTONIC) - begin_ns;
}

void LinkEncoder::end_turn() {
  cache_bytes_used_ = delta_.cache().bytes_used();
  {
    std::lock_guard lock(mutex_);
    ++turn_;
  }
  turned_.notify_all();
}

// False = the batch is to go as it is.
bool LinkEncoder::encode_delta(const OutgoingBatch& batch, const Plan& plan, EncodedBatch& encoded,
                               std::uint64_t& waited_ns) {
  thread_local DeltaStreams streams;
  waited_ns = wait_for_turn(plan.turn);
  if (plan.resize_cache) delta_.resize(*plan.resize_cache);
  const bool pays = plan.deltas && delta_.encode(batch.batch.records(), streams);
  end_turn();
  if (plan.resize_cache) append_frame(DeltaCacheSize{*plan.resize_cache}, encoded.frame);
  if (!pays) return false;
  thread_local std::vector<std::byte> plain;
  plain.clear();
  encoded.info = batch.batch.encode(plan.compression, Compression{Codec::kNone, 0}, plain);
  const std::size_t begin = encoded.frame.size();
  encoded.frame.resize(begin + kFrameHeaderBytes);
  append_smaller(batch, plan, plain, streams, encoded);
  store_frame_header(std::span(encoded.frame).subspan(begin).first<kFrameHeaderBytes>(), FrameType::kDeltaBatch,
                     static_cast<std::uint32_t>(encoded.frame.size() - begin - kFrameHeaderBytes));
  return true;
}

// The DELTA_BATCH payload of `streams`, or that of the whole batch.
void LinkEncoder::append_smaller(const OutgoingBatch& batch, const Plan& plan, std::span<const std::byte> plain,
                                 DeltaStreams& streams, EncodedBatch& encoded) {
  const std::uint64_t whole_bytes = batch.batch.raw_payload_bytes();
  const std::uint64_t changed_bytes = streams.operations.size() + streams.literals.size();
  DeltaChoice::Way way = DeltaChoice::Way::kChanges;
  {
    std::lock_guard lock(mutex_);
    way = choice_.decide(whole_bytes, changed_bytes, plan.may_compare && plan.compression.codec != Codec::kNone);
  }
  const std::size_t begin = encoded.frame.size();
  encoded.changed_bytes = changed_bytes;
  if (way != DeltaChoice::Way::kWhole) {
    append_delta_batch(plain, encoded.info, streams, plan.compression, encoded.frame);
    if (way == DeltaChoice::Way::kChanges) return;
  }
  thread_local std::vector<std::byte> whole;
  whole.clear();
  whole_streams(batch.batch.records(), streams);
  append_delta_batch(plain, encoded.info, streams, plan.compression, whole);
  if (way == DeltaChoice::Way::kCompare) {
    // Header and table are the same in both, so the rest is what counts.
    const std::size_t changed_stored_bytes = encoded.frame.size() - begin;
    {
      std::lock_guard lock(mutex_);
      choice_.compared(whole_bytes, changed_bytes, whole.size() - encoded.info.table_end_bytes,
                       changed_stored_bytes - encoded.info.table_end_bytes);
    }
    if (changed_stored_bytes <= whole.size()) return;
    encoded.frame.resize(begin);
  }
  encoded.frame.insert(encoded.frame.end(), whole.begin(), whole.end());
  encoded.changed_bytes = whole_bytes;
}

void LinkEncoder::encode(const OutgoingBatch& batch, const Plan& plan, EncodedBatch& encoded,
                         std::uint64_t& waited_ns) {
  encoded.frame.clear();
  if ((plan.deltas || plan.resize_cache) && encode_delta(batch, plan, encoded, waited_ns)) return;
  const std::size_t begin = encoded.frame.size();
  encoded.frame.resize(begin + kFrameHeaderBytes);
  encoded.info = batch.batch.encode(plan.compression, encoded.frame);
  store_frame_header(std::span(encoded.frame).subspan(begin).first<kFrameHeaderBytes>(), FrameType::kBatch,
                     static_cast<std::uint32_t>(encoded.frame.size() - begin - kFrameHeaderBytes));
  encoded.changed_bytes = batch.batch.raw_payload_bytes();
}

void LinkEncoder::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || (next_ < slots_.size() && encoded_bytes_ < kLinkEncodedBytesMax); });
    if (stop_) return;
    const Plan plan = make_plan();
    const std::shared_ptr<Slot> slot = slots_[next_++];
    std::unique_ptr<OutgoingBatch> batch = std::move(slot->batch);
    EncodedBatch encoded;
    encoded.raw_bytes = slot->encoded.raw_bytes;
    if (!spare_frames_.empty()) {
      encoded.frame = std::move(spare_frames_.back());
      spare_frames_.pop_back();
    }
    ++encoding_;
    lock.unlock();

    const std::uint64_t wall_ns = clock_ns(CLOCK_MONOTONIC);
    const std::uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    std::uint64_t waited_ns = 0;
    encode(*batch, plan, encoded, waited_ns);
    const std::uint64_t took_wall_ns = clock_ns(CLOCK_MONOTONIC) - wall_ns - waited_ns;
    const std::uint64_t took_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    batch.reset();

    lock.lock();
    effort_.encoded(took_wall_ns, took_cpu_ns);
    slot->encoded = std::move(encoded);
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
