// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/ring_reader.h"

#include <doctest/doctest.h>
#include <linux/bpf.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace understudy {
namespace {

constexpr std::uint64_t kRingBytes = 4096;

// The kernel's half of a ring: writes records as kernel/bpf/ringbuf.c does, into memory that stands there twice.
class FakeRing {
 public:
  FakeRing() : words_(2 * kRingBytes / 8) {}

  RingReader reader() { return RingReader(&consumer_, &producer_, bytes(), kRingBytes); }
  bool reserve(std::uint32_t length, std::uint64_t& at) {
    const std::uint64_t size = (length + 8 + 7) / 8 * 8;
    if (producer_ + size - consumer_ > kRingBytes - 1) return false;
    at = producer_;
    set_header(at, length | BPF_RINGBUF_BUSY_BIT);
    std::atomic_ref<std::uint64_t>(producer_).store(producer_ + size, std::memory_order_release);
    return true;
  }
  void submit(std::uint64_t at, std::uint32_t length, const std::string& data, bool discard = false) {
    for (std::size_t i = 0; i < data.size(); ++i) put(at + 8 + i, data[i]);
    set_header(at, discard ? length | BPF_RINGBUF_DISCARD_BIT : length);
  }
  void add(const std::string& data, bool discard = false) {
    std::uint64_t at = 0;
    REQUIRE(reserve(static_cast<std::uint32_t>(data.size()), at));
    submit(at, static_cast<std::uint32_t>(data.size()), data, discard);
  }
  std::uint64_t& consumer() { return consumer_; }
  std::uint64_t& producer() { return producer_; }

 private:
  const std::byte* bytes() const { return reinterpret_cast<const std::byte*>(words_.data()); }
  void put(std::uint64_t position, char byte) {
    auto* data = reinterpret_cast<char*>(words_.data());
    data[position % kRingBytes] = byte;
    data[position % kRingBytes + kRingBytes] = byte;
  }
  void set_header(std::uint64_t position, std::uint32_t value) {
    auto* data = reinterpret_cast<char*>(words_.data());
    for (const std::uint64_t copy : {std::uint64_t{0}, kRingBytes}) {
      auto* header = reinterpret_cast<std::uint32_t*>(data + position % kRingBytes + copy);
      std::atomic_ref<std::uint32_t>(*header).store(value, std::memory_order_release);
    }
  }
  std::vector<std::uint64_t> words_;
  std::uint64_t consumer_ = 0;
  std::uint64_t producer_ = 0;
};

std::string text(const RingReader::Record& record) {
  return std::string(reinterpret_cast<const char*>(record.bytes.data()), record.bytes.size());
}

TEST_CASE("records are read in order and stay in the ring until they are released") {
  FakeRing ring;
  ring.add("first");
  ring.add("second record");
  RingReader reader = ring.reader();
  CHECK(reader.head() == 16 + 24);
  auto first = reader.next();
  REQUIRE(first.has_value());
  CHECK(text(*first) == "first");
  CHECK(first->end == 16);
  auto second = reader.next();
  REQUIRE(second.has_value());
  CHECK(text(*second) == "second record");
  CHECK(!reader.next().has_value());
  CHECK(ring.consumer() == 0);
  CHECK(text(*first) == "first");
  reader.release(first->end);
  CHECK(ring.consumer() == 16);
  reader.release(8);  // below the tail: nothing
  CHECK(reader.tail() == 16);
  CHECK(reader.cursor() == 40);
}

TEST_CASE("discarded records are passed over") {
  FakeRing ring;
  ring.add("dropped", true);
  ring.add("kept");
  ring.add("dropped too", true);
  RingReader reader = ring.reader();
  auto kept = reader.next();
  REQUIRE(kept.has_value());
  CHECK(text(*kept) == "kept");
  CHECK(!reader.next().has_value());
  CHECK(reader.cursor() == reader.head());
}

TEST_CASE("a record that is being written is waited for, not skipped") {
  FakeRing ring;
  std::uint64_t at = 0;
  REQUIRE(ring.reserve(4, at));
  ring.add("behind");
  RingReader reader = ring.reader();
  std::thread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ring.submit(at, 4, "slow");
  });
  auto slow = reader.next();
  writer.join();
  REQUIRE(slow.has_value());
  CHECK(text(*slow) == "slow");
  CHECK(text(*reader.next()) == "behind");
}

TEST_CASE("a record over the end of the ring is one piece") {
  FakeRing ring;
  RingReader reader = ring.reader();
  for (int i = 0; i < 40; ++i) {
    const std::string data(700 + static_cast<std::size_t>(i), static_cast<char>('a' + i % 26));
    ring.add(data);
    auto record = reader.next();
    REQUIRE(record.has_value());
    CHECK(text(*record) == data);
    reader.release(record->end);
  }
  CHECK(reader.tail() > 6 * kRingBytes);
}

TEST_CASE("a full ring takes no more until something is released") {
  FakeRing ring;
  RingReader reader = ring.reader();
  std::uint64_t at = 0;
  for (int i = 0; i < 3; ++i) ring.add(std::string(1000, 'x'));
  CHECK(!ring.reserve(1100, at));
  reader.release(reader.next()->end);
  CHECK(ring.reserve(1100, at));
}

TEST_CASE("the cursor goes to record boundaries only") {
  FakeRing ring;
  ring.add("first");
  ring.add("second record");
  ring.add("third");
  RingReader reader = ring.reader();
  reader.release(reader.next()->end);
  CHECK(reader.seek(40).ok());
  CHECK(text(*reader.next()) == "third");
  CHECK(reader.seek(16).ok());
  CHECK(text(*reader.next()) == "second record");
  CHECK(reader.seek(reader.head()).ok());
  CHECK(!reader.next().has_value());
  for (const std::uint64_t wrong : {std::uint64_t{0}, std::uint64_t{24}, std::uint64_t{57}, reader.head() + 8}) {
    const Status status = reader.seek(wrong);
    REQUIRE(!status.ok());
    CHECK(status.error().kind() == ErrorKind::kInvalidArgument);
    CHECK(reader.cursor() == reader.head());
  }
}

}  // namespace
}  // namespace understudy
