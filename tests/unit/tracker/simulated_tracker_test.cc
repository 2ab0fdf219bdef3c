// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/simulated_tracker.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace understudy {
namespace {

std::vector<std::byte> bytes(std::size_t length, int value) {
  return std::vector<std::byte>(length, static_cast<std::byte>(value));
}

SimulatedCaptureOptions two_disks(std::uint64_t ring_bytes = 1024 * 1024) {
  SimulatedCaptureOptions options;
  options.disks = {{"/dev/a", 4 << 20, 512}, {"/dev/b", 1 << 20, 4096}};
  options.ring_bytes = ring_bytes;
  return options;
}

TEST_CASE("events of all disks come in the order of submission, large ones in pieces") {
  SimulatedCapture capture(two_disks());
  auto tracker = capture.open();
  capture.write(1, 4096, bytes(8192, 1), {.preflush = true, .fua = true});
  capture.write(0, 0, bytes(100 * 1024, 2), {.preflush = true, .fua = true});
  capture.zero(0, 65536, 1 << 20, true);
  capture.flush(1);
  auto event = tracker->next();
  REQUIRE(event.has_value());
  CHECK(event->disk == 1);
  CHECK(event->offset_bytes == 4096);
  CHECK(event->preflush);
  CHECK(event->fua);
  event = tracker->next();
  CHECK(event->data.size() == 64 * 1024);
  CHECK(event->preflush);
  CHECK(!event->fua);
  event = tracker->next();
  CHECK(event->offset_bytes == 64 * 1024);
  CHECK(event->data.size() == 36 * 1024);
  CHECK(!event->preflush);
  CHECK(event->fua);
  CHECK(event->data[5] == std::byte{2});
  event = tracker->next();
  CHECK(event->kind == CaptureKind::kZero);
  CHECK(event->discard);
  CHECK(event->length_bytes == 1 << 20);
  event = tracker->next();
  CHECK(event->kind == CaptureKind::kBarrier);
  CHECK(!tracker->next().has_value());
  CHECK(tracker->cursor() == tracker->head());
  CHECK(tracker->losses().total == 0);
}

TEST_CASE("the ring keeps events over the agent's death until they are released") {
  SimulatedCapture capture(two_disks());
  auto tracker = capture.open();
  const Uuid id = tracker->capture_id();
  capture.write(0, 0, bytes(4096, 1));
  capture.write(0, 4096, bytes(4096, 2));
  const auto first = tracker->next();
  tracker->next();
  tracker->release(first->position);
  tracker.reset();
  capture.write(0, 8192, bytes(4096, 3));
  tracker = capture.open();
  CHECK(tracker->capture_id() == id);
  CHECK(tracker->tail() == first->position);
  CHECK(tracker->next()->data[0] == std::byte{2});
  const auto third = tracker->next();
  CHECK(third->data[0] == std::byte{3});
  CHECK(tracker->seek(first->position).ok());
  CHECK(tracker->next()->data[0] == std::byte{2});
  CHECK(!tracker->seek(first->position + 8).ok());
  CHECK(!tracker->seek(0).ok());
}

TEST_CASE("what the full ring does not take is dirty, and counted in the next event") {
  SimulatedCapture capture(two_disks(40 * 1024));
  auto tracker = capture.open();
  capture.write(0, 0, bytes(32 * 1024, 1));
  const std::uint64_t lost = capture.submit_write(0, 1 << 20, bytes(200 * 1024, 2));
  CHECK(tracker->losses().ring_full == 1);
  CHECK(tracker->dirty().dirty_count(0) == 4);
  auto in_flight = tracker->in_flight();
  REQUIRE(in_flight.ok());
  REQUIRE(in_flight->size() == 1);
  CHECK(in_flight->front().lost);
  CHECK(tracker->next()->loss_count == 0);
  tracker->release(tracker->cursor());
  capture.write(0, 0, bytes(512, 3));
  CHECK(tracker->next()->loss_count == 1);
  // Read again before it completes: stale, so completion makes it dirty once more.
  auto range = tracker->dirty().claim_next(0, 0, 100);
  REQUIRE(range.has_value());
  tracker->dirty().finish(*range);
  CHECK(tracker->dirty().pending_count(0) == 0);
  capture.complete(lost);
  CHECK(tracker->dirty().dirty_count(0) == 4);
  CHECK(tracker->in_flight()->empty());
}

TEST_CASE("copy mode settles when no earlier write is under way, and then knows every one") {
  SimulatedCapture capture(two_disks());
  auto tracker = capture.open();
  const std::uint64_t early = capture.submit_write(0, 0, bytes(4096, 1));
  CHECK(tracker->set_copy_mode(true).value() == false);
  const std::uint64_t late = capture.submit_write(0, 8192, bytes(4096, 2));
  capture.complete(early);
  CHECK(tracker->set_copy_mode(true).value() == true);
  REQUIRE(tracker->in_flight()->size() == 1);
  CHECK(tracker->in_flight()->front().offset_bytes == 8192);
  std::vector<std::byte> now(4096);
  capture.read_disk(0, 8192, now);
  CHECK(now[0] == std::byte{0});  // captured, but not on the disk yet
  capture.apply(late);
  capture.read_disk(0, 8192, now);
  CHECK(now[0] == std::byte{2});
  capture.complete(late);
  CHECK(tracker->in_flight()->empty());
  CHECK(tracker->losses().total == 0);
  CHECK(tracker->set_copy_mode(false).value());
}

TEST_CASE("skipped, unreadable and missed writes are told apart") {
  SimulatedCapture capture(two_disks());
  auto tracker = capture.open();
  const Uuid id = tracker->capture_id();
  capture.skip_next(1);
  capture.write(0, 0, bytes(512, 1));
  capture.fail_reads_next(1);
  capture.write(0, 1 << 20, bytes(512, 1));
  capture.miss_first_program(2);
  capture.write(0, 2 << 20, bytes(512, 1));
  capture.write(1, 0, bytes(512, 1));
  const Losses losses = tracker->losses();
  CHECK(losses.skipped == 1);
  CHECK(losses.unreadable == 1);
  CHECK(losses.unprovable == 2);
  CHECK(losses.total == 2);
  CHECK(tracker->dirty().dirty_count(0) == 2);
  CHECK(tracker->dirty().dirty_count(1) == 0);
  CHECK(!tracker->next().has_value());
  CHECK(tracker->renew_capture_id().ok());
  CHECK(tracker->capture_id() != id);
  CHECK(tracker->losses().unprovable == 0);
}

TEST_CASE("wait ends with an event, with a wake-up, and at its time") {
  SimulatedCapture capture(two_disks());
  auto tracker = capture.open();
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    capture.write(0, 0, bytes(512, 1));
  });
  tracker->wait(std::chrono::seconds(10));
  CHECK(tracker->next().has_value());
  other.join();
  tracker->wake();
  tracker->wait(std::chrono::hours(1));  // a lost wake-up hangs here
  const auto begin = std::chrono::steady_clock::now();
  tracker->wait(std::chrono::milliseconds(5));
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(5));
}

}  // namespace
}  // namespace understudy
