// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/self_test.h"

#include <unistd.h>

#include <cstring>
#include <span>

#include "daemon/tracker/direct_read.h"
#include "daemon/tracker/kernel_side.h"

namespace understudy {

namespace {

constexpr int kAttempts = 3;

// Bytes of our cookie in PROBE records of `disk` behind the cursor.
std::size_t cookie_bytes(RingReader& reader, const TrackedDisk& disk, const Cookie& cookie) {
  std::size_t found = 0;
  while (const auto record = reader.next()) {
    understudy_capture_record head;
    if (record->bytes.size() < sizeof(head)) continue;
    std::memcpy(&head, record->bytes.data(), sizeof(head));
    if (head.kind != UNDERSTUDY_CAPTURE_PROBE || head.disk != disk.slot) continue;
    const std::span<const std::byte> data = record->bytes.subspan(sizeof(head));
    if (head.data_bytes > data.size() || head.data_bytes % cookie.size() != 0) continue;
    for (std::size_t at = 0; at < head.data_bytes; at += cookie.size())
      if (std::memcmp(data.data() + at, cookie.data(), cookie.size()) == 0) found += cookie.size();
  }
  return found;
}

}  // namespace

Status prove_capture(understudy_control& control, RingReader& reader, const TrackedDisk& disk) {
  auto opened = DirectReader::open(disk.path, disk.logical_block_bytes);
  if (!opened) return std::move(opened).error().with_context("self-test of capture");
  DirectReader direct = std::move(opened).value();
  std::string problem;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const Cookie cookie = random_cookie();
    const std::uint64_t seen_before = shared_load(control.self_test_seen);
    reader.skip_to_head();
    shared_store(control.self_test_pid, static_cast<__u32>(::getpid()));
    const Status read = direct.read(cookie);
    shared_store(control.self_test_pid, __u32{0});
    const bool seen = shared_load(control.self_test_seen) != seen_before;
    const bool full = reader.head() - reader.tail() + 2 * direct.block_bytes() > reader.ring_bytes();
    const std::size_t found = cookie_bytes(reader, disk, cookie);
    // A bad first block does not matter: the read was submitted.
    if (found == direct.block_bytes() || (seen && full)) return ok_status();
    if (!seen)
      problem = read.ok() ? "a read of the disk was not seen by the kernel side" : read.error().message();
    else
      problem = "of a read of " + std::to_string(direct.block_bytes()) + " bytes, " + std::to_string(found) +
                " were captured right";
  }
  return Error(ErrorKind::kRefused, "self-test of capture on disk '" + disk.path + "': " + problem);
}

}  // namespace understudy
