// SPDX-License-Identifier: Apache-2.0
// Turns outgoing batches into frames on threads of its own, in order: several are compressed at a time, the results
// come out as they went in. Encoded frames waiting for the socket are bounded; raw batches are bounded by who pushes
// them. Deltas are made by one thread after the other, in the order of the batches; all the rest runs side by side.
// A batch of which a delta was made goes whole where that is smaller (delta_choice.h).
//
// Threads: any thread may call anything.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "daemon/record/batch.h"
#include "daemon/replicate/link.h"
#include "daemon/wire/delta_choice.h"
#include "daemon/wire/delta_codec.h"
#include "daemon/wire/encoder_effort.h"

namespace understudy {

struct EncodedBatch {
  std::vector<std::byte> frame;  // DELTA_CACHE, where the cache begins anew, then BATCH or DELTA_BATCH
  BatchInfo info;
  std::uint64_t raw_bytes = 0;      // payload before deltas and compression
  std::uint64_t changed_bytes = 0;  // of these, what was left of it by deltas
};

struct EncoderStatus {
  std::uint64_t delta_cache_bytes = 0;      // memory of the cache
  std::uint64_t delta_cache_bytes_max = 0;  // agreed with the receiver; 0 = no deltas
  const char* effort = "full";              // EncoderEffort
};

class LinkEncoder {
 public:
  // `ready` is called (from an encoder thread) when pop() may have something new.
  LinkEncoder(unsigned thread_count, std::function<void()> ready);
  ~LinkEncoder();

  // For batches that are not being encoded yet. With `adaptive`, less is done for a batch while that is what makes the
  // stream slow (encoder_effort.h).
  void set_compression(const Compression& compression, bool adaptive);
  // How much memory deltas may use here; 0 = no deltas. Takes effect with the next batch, also within a session.
  void set_delta_cache_bytes(std::uint64_t bytes);
  // What the receiver of this session can decode (kWireLz4, kWireZstd, kWireDeltas); the rest is not used.
  void set_peer(std::uint32_t compatible, std::uint64_t delta_cache_bytes_max);

  void push(std::unique_ptr<OutgoingBatch> batch);
  // The next batch in order, if it is encoded.
  std::optional<EncodedBatch> pop();
  // Gives the memory of a frame back for the next one.
  void recycle(std::vector<std::byte> frame);
  // Forgets everything. When it returns, no memory of any batch is referenced any more.
  void clear();

  // Raw payload bytes pushed and not yet popped.
  std::uint64_t queued_bytes() const { return queued_bytes_.load(std::memory_order_relaxed); }
  // Bytes of frames that are encoded and not popped: at most kLinkEncodedBytesMax and a batch per thread.
  std::uint64_t encoded_bytes() const;
  EncoderStatus status() const;

 private:
  struct Slot {
    std::unique_ptr<OutgoingBatch> batch;  // null while and after it is encoded
    EncodedBatch encoded;
    bool done = false;
    bool dropped = false;  // by clear(), while it was being encoded
  };
  // How one batch is encoded; decided when a thread takes it, in the order of the batches.
  struct Plan {
    Compression compression;
    bool deltas = false;
    bool may_compare = true;  // there is time to encode the batch in two ways
    std::optional<std::uint64_t> resize_cache;  // first of all
    std::uint64_t turn = 0;                     // with `deltas` or `resize_cache`
  };
  void run();
  Plan make_plan();  // under mutex_
  // `waited_ns`: of it, how long it was not this thread's turn.
  void encode(const OutgoingBatch& batch, const Plan& plan, EncodedBatch& encoded, std::uint64_t& waited_ns);
  bool encode_delta(const OutgoingBatch& batch, const Plan& plan, EncodedBatch& encoded, std::uint64_t& waited_ns);
  void append_smaller(const OutgoingBatch& batch, const Plan& plan, std::span<const std::byte> plain,
                      DeltaStreams& streams, EncodedBatch& encoded);
  std::uint64_t wait_for_turn(std::uint64_t turn);
  void end_turn();

  std::function<void()> ready_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;  // work, room or stop
  std::condition_variable idle_;  // encoding_ fell to 0
  std::deque<std::shared_ptr<Slot>> slots_;
  std::size_t next_ = 0;             // index in slots_ of the first one nobody has taken
  std::uint64_t encoded_bytes_ = 0;  // done and not popped
  unsigned encoding_ = 0;
  bool stop_ = false;
  bool adaptive_ = true;
  Compression compression_;
  std::uint64_t delta_cache_bytes_ = 0;  // wanted here
  std::uint32_t peer_compatible_ = 0;
  std::uint64_t peer_delta_cache_bytes_max_ = 0;
  std::uint64_t cache_bytes_ = 0;  // as both ends have it behind the last planned batch
  EncoderEffort effort_;
  DeltaChoice choice_;
  std::uint64_t next_turn_ = 0;
  std::uint64_t turn_ = 0;          // whose turn with delta_ it is
  std::condition_variable turned_;  // turn_ moved
  DeltaEncoder delta_;              // of the thread whose turn it is
  std::atomic<std::uint64_t> cache_bytes_used_{0};
  std::vector<std::vector<std::byte>> spare_frames_;
  std::atomic<std::uint64_t> queued_bytes_{0};
  std::vector<std::thread> threads_;
};

}  // namespace understudy
