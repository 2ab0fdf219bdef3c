// SPDX-License-Identifier: Apache-2.0
// Reads a BPF ring buffer in place through mmap, without libbpf's reader: that one gives every record back to the
// kernel as soon as it was looked at, and ours stay until the receiver has them.
//
// The layout is the kernel's (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst): page 0 holds the consumer position
// (writable), page 1 the producer position, then come the data pages, mapped twice one behind the other so that no
// record is ever split. A record is a 8-byte header (length, bit 31 = being written, bit 30 = discarded) and its bytes,
// padded to 8.
//
// Threads: one, beside the kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "daemon/base/result.h"
#include "daemon/tracker/bpf_object.h"

namespace understudy {

class RingReader {
 public:
  struct Record {
    std::span<const std::byte> bytes;  // in the ring; valid until release() of `end` or more
    std::uint64_t end = 0;             // position just behind the record
  };

  // Maps the ring buffer map `fd` of `ring_bytes` data bytes; the descriptor is not kept.
  static Result<RingReader> open(int fd, std::uint64_t ring_bytes);
  // Over memory that looks like a ring: `consumer` and `producer` are the two positions, `data` is mapped (or copied)
  // twice, 2 * ring_bytes long. For tests.
  RingReader(std::uint64_t* consumer, const std::uint64_t* producer, const std::byte* data, std::uint64_t ring_bytes);

  // The record at the cursor, which moves behind it. Discarded ones are passed over. A record that is being written is
  // waited for: the program writing it runs on another CPU, cannot sleep and is there within microseconds.
  std::optional<Record> next();

  std::uint64_t tail() const;
  std::uint64_t cursor() const { return cursor_; }
  std::uint64_t head() const;
  std::uint64_t ring_bytes() const { return ring_bytes_; }
  // Moves the cursor to a record boundary between tail() and head(); kInvalidArgument otherwise.
  Status seek(std::uint64_t position);
  // Moves the cursor to head(), over whatever is there.
  void skip_to_head() { cursor_ = head(); }
  // Gives everything before `position` back. At or below tail(): nothing happens. Above cursor(): a bug (CHECK).
  void release(std::uint64_t position);

 private:
  struct Header {
    std::uint32_t length;
    bool discarded;
  };
  Header wait_for_header(std::uint64_t position) const;

  MappedMemory consumer_memory_;
  MappedMemory producer_memory_;
  std::uint64_t* consumer_ = nullptr;
  const std::uint64_t* producer_ = nullptr;
  const std::byte* data_ = nullptr;
  std::uint64_t ring_bytes_ = 0;
  std::uint64_t cursor_ = 0;
};

}  // namespace understudy
