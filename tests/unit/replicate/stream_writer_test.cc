// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/checksum.h"
#include "daemon/replicate/stream_writer.h"
#include "tests/unit/replicate/replicate_harness.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

struct Fixture {
  Fixture() : writer(options(), clock) { writer.resume(10, 3, {Uuid{}, 1000, 0}, 0); }
  static StreamWriterOptions options() {
    StreamWriterOptions stream;
    stream.server = Uuid::random();
    stream.epoch = 5;
    return stream;
  }
  CaptureEvent event(std::uint64_t position, std::span<const std::byte> data) {
    CaptureEvent e;
    e.offset_bytes = 4096;
    e.length_bytes = data.size();
    e.boot_time_ns = clock.boot;
    e.position = position;
    e.data = data;
    return e;
  }
  std::pair<BatchInfo, std::vector<Record>> encoded(const ClosedBatch& closed) {
    bytes.clear();
    const BatchInfo info = closed.batch->batch.encode({Codec::kNone, 0}, bytes);
    auto decoded = BatchReader::decode(bytes, Verify::kRecords);
    REQUIRE(decoded.ok());
    reader = std::move(decoded).value();
    return {info, reader.records()};
  }
  ManualClock clock;
  StreamWriter writer;
  std::vector<std::byte> bytes;
  BatchReader reader;
};

}  // namespace

TEST_CASE("stream writer: flush before, data, FUA behind, in one batch with the ring position after them") {
  Fixture fixture;
  const std::vector<std::byte> data(512, std::byte{7});
  CaptureEvent event = fixture.event(1600, data);
  event.preflush = true;
  event.fua = true;
  CHECK(fixture.writer.add_event(event) == 13);
  const ClosedBatch closed = fixture.writer.close();
  CHECK(closed.last_seq == 13);
  CHECK(closed.oldest_event_ns == event.boot_time_ns);
  const auto [info, records] = fixture.encoded(closed);
  CHECK(info.first_seq == 11);
  CHECK(info.epoch == 5);
  CHECK(info.generation == 3);
  CHECK(info.cursor.position == 1600);
  REQUIRE(records.size() == 3);
  CHECK(records[0].kind == RecordKind::kBarrier);
  CHECK(records[1].kind == RecordKind::kWrite);
  CHECK(records[1].flags == kRecordFua);
  CHECK(records[1].checksum == xxh3_64(data));
  CHECK(records[2].kind == RecordKind::kBarrier);
  CHECK(records[2].flags == kRecordFua);
}

TEST_CASE("stream writer: an empty flush is a barrier, a discard a flagged zero") {
  Fixture fixture;
  CaptureEvent flush = fixture.event(1100, {});
  flush.kind = CaptureKind::kBarrier;
  fixture.writer.add_event(flush);
  CaptureEvent discard = fixture.event(1200, {});
  discard.kind = CaptureKind::kZero;
  discard.length_bytes = 1 << 30;
  discard.discard = true;
  fixture.writer.add_event(discard);
  const auto [info, records] = fixture.encoded(fixture.writer.close());
  REQUIRE(records.size() == 2);
  CHECK(records[0].kind == RecordKind::kBarrier);
  CHECK(records[1].kind == RecordKind::kZero);
  CHECK(records[1].flags == kRecordDiscard);
  CHECK(records[1].length_bytes == 1 << 30);
}

TEST_CASE("stream writer: closes by bytes and by age") {
  Fixture fixture;
  const std::vector<std::byte> data(300 << 10);
  for (std::uint64_t i = 0; i < 3; ++i) {
    CHECK(fixture.writer.fits(data.size()));
    fixture.writer.add_event(fixture.event(2000 + i, data));
  }
  CHECK_FALSE(fixture.writer.fits(data.size()));
  CHECK_FALSE(fixture.writer.due(fixture.clock.boot));
  CHECK(fixture.writer.due(fixture.clock.boot + 5'000'000));
  fixture.writer.close();
  CHECK(fixture.writer.fits(4 << 20));  // an empty batch takes anything
}

TEST_CASE("stream writer: a dropped batch leaves no trace in seq or cursor") {
  Fixture fixture;
  const std::vector<std::byte> data(512);
  fixture.writer.add_event(fixture.event(1500, data));
  fixture.writer.close();
  fixture.writer.add_event(fixture.event(1700, data));
  fixture.writer.add_gap(GapReason::kOverflow);
  CHECK(fixture.writer.drop_open_batch().position == 1500);
  CHECK(fixture.writer.last_seq() == 11);
  CHECK(fixture.writer.cursor().position == 1500);
  CHECK(fixture.writer.oldest_event_ns() == 0);
}

TEST_CASE("stream writer: times are capture times on the wall clock and never fall") {
  Fixture fixture;
  const std::vector<std::byte> data(512);
  const std::uint64_t captured = fixture.clock.boot;
  fixture.clock.boot += 2'000'000'000;  // taken out of the ring later
  CaptureEvent event = fixture.event(1100, data);
  event.boot_time_ns = captured;
  fixture.writer.add_event(event);
  const std::uint64_t first = fixture.writer.last_time_ns();
  CHECK(first == captured + fixture.clock.offset);
  fixture.clock.offset -= 3'600'000'000'000;  // the wall clock is set back by an hour
  fixture.clock.boot += 1'000'000'000;
  fixture.writer.add_event(fixture.event(1200, data));
  CHECK(fixture.writer.last_time_ns() == first);
  fixture.clock.offset += 7'200'000'000'000;
  fixture.clock.boot += 1'000'000'000;
  fixture.writer.add_event(fixture.event(1300, data));
  CHECK(fixture.writer.last_time_ns() > first + 3'000'000'000'000);
}

TEST_CASE("stream writer: a record without an event does not push up the times of events still in the ring") {
  Fixture fixture;
  const std::vector<std::byte> data(512);
  fixture.writer.add_event(fixture.event(1100, data));
  const std::uint64_t captured = fixture.clock.boot + 100'000'000;
  CaptureEvent later = fixture.event(1200, data);
  later.boot_time_ns = captured;
  fixture.clock.boot += 5'000'000'000;  // it waits in the ring for five seconds
  fixture.writer.add_geometry({});
  fixture.writer.add_gap(GapReason::kOverflow);
  fixture.writer.add_heal();
  fixture.writer.add_event(later);
  CHECK(fixture.writer.last_time_ns() == captured + fixture.clock.offset);
}

TEST_CASE("stream writer: continues behind the time that the store has") {
  Fixture fixture;
  const std::uint64_t ahead = fixture.clock.wall_ns() + 60'000'000'000;
  fixture.writer.resume(20, 4, {}, ahead);
  fixture.writer.add_heal();
  CHECK(fixture.writer.last_time_ns() == ahead);
}

}  // namespace understudy
