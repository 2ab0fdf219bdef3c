// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/ring_reader.h"

#include <linux/bpf.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <string>
#include <utility>

#include "daemon/base/check.h"

namespace understudy {

namespace {

constexpr std::uint64_t kHeaderBytes = BPF_RINGBUF_HDR_SZ;

std::uint64_t record_bytes(std::uint32_t length) { return (length + kHeaderBytes + 7) / 8 * 8; }

template <typename T>
T load_acquire(const T* value) {
  return std::atomic_ref<T>(*const_cast<T*>(value)).load(std::memory_order_acquire);
}

}  // namespace

Result<RingReader> RingReader::open(int fd, std::uint64_t ring_bytes) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  ASSIGN_OR_RETURN(MappedMemory consumer, MappedMemory::map(fd, page, PROT_READ | PROT_WRITE));
  // The kernel lets only the first page be written.
  ASSIGN_OR_RETURN(MappedMemory producer, MappedMemory::map(fd, page + 2 * ring_bytes, PROT_READ, page));
  RingReader reader(reinterpret_cast<std::uint64_t*>(consumer.data()),
                    reinterpret_cast<const std::uint64_t*>(producer.data()), producer.data() + page, ring_bytes);
  reader.consumer_memory_ = std::move(consumer);
  reader.producer_memory_ = std::move(producer);
  return reader;
}

RingReader::RingReader(std::uint64_t* consumer, const std::uint64_t* producer, const std::byte* data,
                       std::uint64_t ring_bytes)
    : consumer_(consumer), producer_(producer), data_(data), ring_bytes_(ring_bytes) {
  CHECK(std::has_single_bit(ring_bytes));
  cursor_ = tail();
}

std::uint64_t RingReader::tail() const { return load_acquire(consumer_); }
std::uint64_t RingReader::head() const { return load_acquire(producer_); }

RingReader::Header RingReader::wait_for_header(std::uint64_t position) const {
  const auto* header = reinterpret_cast<const std::uint32_t*>(data_ + (position & (ring_bytes_ - 1)));
  for (std::uint64_t turn = 0;; ++turn) {
    const std::uint32_t word = load_acquire(header);
    if ((word & BPF_RINGBUF_BUSY_BIT) == 0) [[likely]]
      return {word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT), (word & BPF_RINGBUF_DISCARD_BIT) != 0};
    // The writer's virtual CPU may have been taken away by its host: then we stop burning ours.
    constexpr std::uint64_t kSpins = 1000;
    if (turn < kSpins) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      const timespec pause{0, 20'000};
      ::nanosleep(&pause, nullptr);
    }
  }
}

std::optional<RingReader::Record> RingReader::next() {
  for (;;) {
    if (cursor_ >= head()) return std::nullopt;
    const Header header = wait_for_header(cursor_);
    const std::uint64_t begin = cursor_;
    CHECK_LE(record_bytes(header.length), ring_bytes_);
    cursor_ += record_bytes(header.length);
    if (header.discarded) continue;
    return Record{{data_ + (begin & (ring_bytes_ - 1)) + kHeaderBytes, header.length}, cursor_};
  }
}

Status RingReader::seek(std::uint64_t position) {
  const std::uint64_t end = head();
  std::uint64_t at = tail();
  while (at < position && at < end) at += record_bytes(wait_for_header(at).length);
  if (at != position || position > end)
    return Error(ErrorKind::kInvalidArgument, "seek in the capture ring: position " + std::to_string(position) +
                                                  " is no record boundary between tail " + std::to_string(tail()) +
                                                  " and head " + std::to_string(end));
  cursor_ = position;
  return ok_status();
}

void RingReader::release(std::uint64_t position) {
  if (position <= tail()) return;
  CHECK_LE(position, cursor_);
  // Release order: our last look at the bytes comes before the kernel may write over them.
  std::atomic_ref<std::uint64_t>(*consumer_).store(position, std::memory_order_release);
}

}  // namespace understudy
