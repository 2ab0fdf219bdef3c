// SPDX-License-Identifier: Apache-2.0
// The replicator's side of the connection to the receiver. wire/ implements it over TLS, the simulator in memory.
//
// A link connects, re-connects by itself (backoff inside), and reports what happens as events in order. Batches are
// encoded and sent by the link, possibly on its own threads.
//
// Threads: one thread uses a Link; set_waker()'s function may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/digest/digest_message.h"
#include "daemon/record/batch.h"
#include "daemon/record/record.h"

namespace understudy {

// The receiver has accepted the session and says where the stream stands; sending continues at position.seq + 1.
struct LinkUp {
  StreamPosition position;
  std::string receiver_name;
  Uuid receiver_boot_id;                    // of the receiver's machine: equal to ours = same host
  // Whole disks under the store, when known, as TrackedDisk::device (major << 20 | minor); they mean something only on
  // the machine of receiver_boot_id.
  std::vector<std::uint64_t> store_devices;
  bool digests = false;                     // it answers ask_digest()
};
// Everything up to seq is on stable storage at the receiver (I5).
struct LinkAck { Seq seq = 0; };
// The connection is gone; the link is already trying again.
struct LinkDown { Error error; };
// The receiver will not have us (other server, epoch, version ...): tried again only after a long pause.
struct LinkRefused { Error error; };
// The receiver says something people should know, e.g. that its disk is full and acks have stopped.
struct LinkNotice { bool active = false; std::string code; std::string text; };

// What the receiver says to a question of ask_digest().
struct LinkDigestAnswer { DigestAnswer answer; };

using LinkEvent = std::variant<LinkUp, LinkAck, LinkDown, LinkRefused, LinkNotice, LinkDigestAnswer>;

// A batch on its way out: records plus whatever keeps their payload memory alive until it is encoded.
struct OutgoingBatch {
  BatchWriter batch;
  std::vector<std::shared_ptr<void>> keepalive;
};

struct LinkStatistics {
  std::uint64_t batches_sent = 0;
  std::uint64_t raw_bytes_sent = 0;   // payload before compression
  std::uint64_t wire_bytes_sent = 0;  // as written to the socket
  std::uint64_t queued_bytes = 0;     // raw payload given to send() and not yet written to the socket
  std::uint64_t changed_bytes_sent = 0;     // what deltas left of raw_bytes_sent, before compression
  std::uint64_t delta_cache_bytes = 0;      // memory that the cache for deltas has now
  std::uint64_t delta_cache_bytes_max = 0;  // as agreed with the receiver; 0 = no deltas in this session
  std::uint64_t bandwidth_limit = 0;        // bytes a second on the wire that hold now; 0 = none
  std::uint64_t send_buffer_bytes = 0;      // of the kernel's memory the sockets may use; 0 = not connected
  const char* effort = "";                  // what is done for a batch: "full", "light", "plain"; static text
};

class Link {
 public:
  virtual ~Link() = default;
  // Called whenever poll() may have something new.
  virtual void set_waker(std::function<void()> waker) = 0;
  virtual std::optional<LinkEvent> poll() = 0;
  // Queues a batch. Only between LinkUp and LinkDown/LinkRefused; else it is dropped (the records are still in the
  // ring).
  virtual void send(std::unique_ptr<OutgoingBatch> batch) = 0;
  // Asks about a region as of question.seq, which is the last seq that was given to send(); the answer comes as an
  // event, or never when the session ends before. Only when LinkUp said that the receiver can; else the question is
  // dropped.
  virtual void ask_digest(const DigestQuestion& question) { (void)question; }
  virtual LinkStatistics statistics() const = 0;
};

}  // namespace understudy
