// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/send_buffer.h"

#include <sys/socket.h>

#include "daemon/base/limits.h"
#include "daemon/base/unique_fd.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kMib = 1 << 20;

}  // namespace

TEST_CASE("a send buffer grows while it limits the connection for a good part of the time") {
  SendBufferRule rule;
  CHECK_FALSE(rule.look(1000 * kMillisecond, 900'000, kMib));  // what was before is nobody's business
  CHECK(rule.look(1500 * kMillisecond, 950'000, kMib) == 2 * kMib);        // 50 of 500 ms
  CHECK_FALSE(rule.look(2000 * kMillisecond, 999'000, 2 * kMib));          // 49 of 500 ms
  CHECK_FALSE(rule.look(2500 * kMillisecond, 999'000, 2 * kMib));          // not at all
  CHECK(rule.look(3000 * kMillisecond, 1'499'000, 2 * kMib) == 4 * kMib);  // all the time
}

TEST_CASE("a send buffer grows to its bound, no further, and not at all when its size is not known") {
  SendBufferRule rule;
  std::uint64_t now_ns = 0;
  std::uint64_t limited_us = 0;
  std::uint64_t bytes = 3 * kMib;
  CHECK_FALSE(rule.look(now_ns, limited_us, bytes));
  for (int i = 0; i < 20; ++i) {
    bytes = rule.look(now_ns += 250 * kMillisecond, limited_us += 250'000, bytes).value_or(bytes);
    CHECK(bytes <= kLinkSendBufferBytesMax);
  }
  CHECK(bytes == kLinkSendBufferBytesMax);
  CHECK_FALSE(rule.look(now_ns += 250 * kMillisecond, limited_us += 250'000, 0));
  CHECK_FALSE(rule.look(now_ns, limited_us, kMib));  // no time has passed
}

TEST_CASE("what is no TCP socket keeps its buffer") {
  int ends[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  SendBuffer buffer(one.get());
  const std::uint64_t before = buffer.bytes();
  CHECK(before > 0);
  for (std::uint64_t at = 1; at < 5; ++at) buffer.look(at * 250 * kMillisecond);
  CHECK(buffer.bytes() == before);
  CHECK(SendBuffer(-1).bytes() == 0);
}

}  // namespace understudy
