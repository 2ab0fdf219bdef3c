// SPDX-License-Identifier: Apache-2.0
// Turns outgoing batches into frames on threads of its own, in order: several are compressed at a time, the results
// come out as they went in. Encoded frames waiting for the socket are bounded; raw batches are bounded by who pushes
// them.
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

namespace understudy {

struct EncodedBatch {
  std::vector<std::byte> frame;  // header and batch
  BatchInfo info;
  std::uint64_t raw_bytes = 0;  // payload before compression
};

class LinkEncoder {
 public:
  // `ready` is called (from an encoder thread) when pop() may have something new.
  LinkEncoder(unsigned thread_count, std::function<void()> ready);
  ~LinkEncoder();

  // For batches that are not being encoded yet. With `adaptive`, a batch goes out uncompressed while the socket has
  // nothing to do and others wait to be encoded: then compression is what makes the stream slow.
  void set_compression(const Compression& compression, bool adaptive);
  // Codecs the receiver can decode (kWireLz4, kWireZstd); others are not used.
  void set_peer_codecs(std::uint32_t compatible);

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

 private:
  struct Slot {
    std::unique_ptr<OutgoingBatch> batch;  // null while and after it is encoded
    EncodedBatch encoded;
    bool done = false;
    bool dropped = false;  // by clear(), while it was being encoded
  };
  void run();
  Compression choose_compression() const;  // under mutex_

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
  std::uint32_t peer_codecs_ = 0;
  std::vector<std::vector<std::byte>> spare_frames_;
  std::atomic<std::uint64_t> queued_bytes_{0};
  std::vector<std::thread> threads_;
};

}  // namespace understudy
