// SPDX-License-Identifier: Apache-2.0
// Points by every name an operator may use, and what the refusals say.
#include <cstdlib>
#include <ctime>
#include <string>

#include "daemon/store/store.h"
#include "daemon/view/change_rate.h"
#include "daemon/view/point_time.h"
#include "daemon/view/view.h"
#include "tests/unit/store/memory_file_system.h"
#include "tests/unit/store/stream_maker.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kStart = 1'760'000'000 * kSecond;  // 2025-10-09 08:53:20 UTC

struct Zone {
  Zone() {
    ::setenv("TZ", "UTC-2", 1);  // two hours east
    ::tzset();
  }
  ~Zone() {
    ::unsetenv("TZ");
    ::tzset();
  }
};

// A stream with one record a second from kStart on: record n at kStart + n s.
struct Fixture : Zone {
  MemoryFileSystem files;
  Uuid server = Uuid::random();
  std::unique_ptr<Store> store;
  Seq next_seq = 1;

  Fixture() {
    StoreOptions options;
    options.directory = "/store";
    options.file_system = &files;
    store = Store::create(options, {server, "web-1", 1}).value();
  }

  void add(RecordKind kind, std::vector<std::byte> payload = {}) {
    const bool extent = kind == RecordKind::kWrite;
    if (extent) payload.assign(512, static_cast<std::byte>(next_seq));
    OwnedRecord owned = make_record(kind, 0, 0, extent ? 512 : 0, std::move(payload));
    owned.record.time_ns = kStart + next_seq * kSecond;
    owned.record.payload = owned.payload;
    BatchWriter writer;
    writer.start(server, next_seq++, 1, 1);
    writer.add(owned.record);
    std::vector<std::byte> batch;
    writer.encode({Codec::kNone, 1}, batch);
    REQUIRE(store->append(batch).ok());
    REQUIRE(store->commit().ok());
  }

  // 1 geometry, 2 gap, 3 heal, 4 write, 5 barrier, 6 write, 7 mark, 8 gap, 9 write, 10 heal, 11 write, 12 barrier,
  // 13 write
  void fill() {
    start();
    for (const RecordKind kind : {RecordKind::kHeal, RecordKind::kWrite, RecordKind::kBarrier, RecordKind::kWrite})
      add(kind);
    add(RecordKind::kMark, encode_mark({"before-upgrade"}));
    add(RecordKind::kGap, encode_gap({GapReason::kOverflow}));
    for (const RecordKind kind :
         {RecordKind::kWrite, RecordKind::kHeal, RecordKind::kWrite, RecordKind::kBarrier, RecordKind::kWrite})
      add(kind);
  }
  void start() {
    add(RecordKind::kGeometry, encode_geometry(std::vector<DiskGeometry>{{0, server, "sda", 65536, 512}}));
    add(RecordKind::kGap, encode_gap({}));
  }

  Result<Point> resolve(std::string_view text) { return resolve_point(read_timeline(*store).value(), text); }
  void expect(std::string_view text, Seq seq, Seq newest_write, bool aligned) {
    CAPTURE(text);
    const Result<Point> point = resolve(text);
    REQUIRE_MESSAGE(point.ok(), point.error().message());
    CHECK(point->seq == seq);
    CHECK(point->barrier_aligned == aligned);
    CHECK(point->time_ns == (newest_write == 0 ? 0 : kStart + newest_write * kSecond));
    const auto view = PointInTimeView::open(*store, *point);
    REQUIRE(view.ok());
    CHECK((*view)->point().seq == seq);
    CHECK((*view)->point().time_ns == point->time_ns);
    CHECK((*view)->point().barrier_aligned == aligned);
  }
  void expect_refused(std::string_view text, std::initializer_list<const char*> words) {
    CAPTURE(text);
    const Result<Point> point = resolve(text);
    REQUIRE(!point.ok());
    for (const char* word : words)
      CHECK_MESSAGE(point.error().message().find(word) != std::string::npos, point.error().message());
  }
};

TEST_CASE_FIXTURE(Fixture, "points by seq, mark, latest and time") {
  fill();
  expect("latest", 12, 11, true);
  expect("seq:13", 13, 13, false);
  expect("seq:5", 5, 4, true);
  expect("seq:4", 4, 4, false);
  expect("seq:10", 10, 9, false);  // at the HEAL
  expect("@before-upgrade", 7, 6, false);
  expect("2025-10-09T08:53:26Z", 5, 4, true);  // at 6: newest barrier is 5
  expect("2025-10-09T10:53:25.500+02:00", 5, 4, true);
  expect("2025-10-09 10:53:25", 5, 4, true);  // local
  expect("10:53:25.1", 5, 4, true);
  expect("2025-10-09T08:53:24.999Z", 4, 4, false);  // no barrier yet in this range
  expect("-1s", 12, 11, true);                      // of 13
  expect("-8s", 5, 4, true);
  expect("2025-10-09T08:53:31Z", 11, 11, false);
}

TEST_CASE_FIXTURE(Fixture, "what is no point says what is near") {
  fill();
  expect_refused("seq:8", {"seq 8 lies in a gap (overflow, healed at seq 10)", "seq:5", "before, seq:10", "after"});
  expect_refused("seq:9", {"lies in a gap"});
  expect_refused("2025-10-09T08:53:29.5Z", {"time 2025-10-09 10:53:29.500 lies in a gap (overflow", "seq:5", "seq:10"});
  expect_refused("-4s", {"lies in a gap"});
  // With the time of the point that is named, which is not that of the record before the gap.
  expect_refused("seq:8", {"nearest good points: seq:5 (2025-10-09 10:53:25.000) before, "
                           "seq:10 (2025-10-09 10:53:30.000) after"});
  expect_refused("seq:1", {"seq 1 is before history", "nearest good points: seq:3 (2025-10-09 10:53:23.000) after"});
  expect_refused("seq:2", {"lies in a gap (initial-copy, healed at seq 3)"});
  expect_refused("2020-01-01T00:00:00Z", {"is before history", "seq:3"});
  expect_refused("seq:14", {"in the future: the newest record is seq 13",
                            "good points: seq:12 (2025-10-09 10:53:32.000) before"});
  expect_refused("2030-01-01T00:00:00Z", {"is after the newest record, which is of 2025-10-09 10:53:33.000", "seq:12"});
  expect_refused("@before-upgrad", {"there is no mark 'before-upgrad'", "did you mean '@before-upgrade'?"});
  for (const char* text : {"", "yesterday", "seq:", "seq:0", "seq:-1", "seq:1x", "2025-13-01 00:00:00",
                           "2025-02-31T00:00:00Z", "24:00:00", "-5", "-5x", "2025-10-09"}) {
    CAPTURE(text);
    const Result<Point> point = resolve(text);
    REQUIRE(!point.ok());
    CHECK(point.error().kind() == ErrorKind::kInvalidArgument);
  }
}

TEST_CASE_FIXTURE(Fixture, "latest-processed stays in what is sealed") {
  fill();
  Timeline timeline = read_timeline(*store).value();
  CHECK(timeline.processed_seq == timeline.last_seq);  // nothing is sealed yet
  for (const auto& [sealed, expected] : {std::pair<Seq, Seq>{13, 12}, {11, 11}, {8, 5}, {6, 5}, {4, 4}}) {
    CAPTURE(sealed);
    timeline.processed_seq = sealed;
    const Result<Point> point = resolve_point(timeline, "latest-processed");
    REQUIRE(point.ok());
    CHECK(point->seq == expected);
    CHECK(PointInTimeView::open(*store, *point).ok());
  }
  timeline.processed_seq = 2;
  const Result<Point> none = resolve_point(timeline, "latest-processed");
  REQUIRE(!none.ok());
  CHECK(none.error().message().find("no point is processed yet") != std::string::npos);
  CHECK(none.error().message().find("seq:3") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "latest-application is the newest such mark that is a point") {
  fill();
  expect_refused("latest-application", {"there is no application-consistent mark", "'latest'"});
  add(RecordKind::kMark, encode_mark({"good", Consistency::kApplication}));  // 14
  add(RecordKind::kMark, encode_mark({"later"}));
  expect("latest-application", 14, 13, false);
  add(RecordKind::kGap, encode_gap({GapReason::kOverflow}));
  add(RecordKind::kMark, encode_mark({"in the gap", Consistency::kApplication}));
  expect("latest-application", 14, 13, false);
  expect_refused("@in the gap", {"mark 'in the gap' lies in a gap (overflow, not healed yet)", "nearest good points"});
  expect_refused("@nothing like it", {"the newest marks are '@in the gap', '@later', '@good' and '@before-upgrade'"});
}

TEST_CASE_FIXTURE(Fixture, "before the first full copy ended nothing is a point") {
  expect_refused("latest", {"the store is empty"});
  start();
  expect_refused("latest", {"the first full copy has not ended"});
  expect_refused("seq:1", {"the first full copy has not ended"});
  CHECK(PointInTimeView::open(*store, Point{1, 0, false}).error().kind() == ErrorKind::kRefused);
  add(RecordKind::kHeal);
  expect("latest", 3, 0, false);
}

TEST_CASE_FIXTURE(Fixture, "an open gap hides what comes in it, not what was before") {
  fill();
  add(RecordKind::kGap, encode_gap({GapReason::kNewCapture}));
  add(RecordKind::kWrite);
  expect("latest", 12, 11, true);
  expect_refused("seq:15", {"lies in a gap (new-capture, not healed yet)", "seq:12"});
}

TEST_CASE_FIXTURE(Fixture, "what lies behind damage is told from the future") {
  fill();
  Timeline timeline = read_timeline(*store).value();
  timeline.damage = Damage{"1.wal", 0, 8, 14, "gone", false};
  const auto message = [&](const char* text) { return resolve_point(timeline, text).error().message(); };
  CHECK(message("2030-01-01T00:00:00Z").find("(the journal can't be read from the damage at seq 14 on); nearest good "
                                             "points: seq:12") != std::string::npos);
  CHECK(message("seq:20").find("seq 20 is behind the damage at seq 14") != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "a time on another day means the day before when it has not come yet today") {
  const std::uint64_t newest = kStart;  // 10:53:20 local
  CHECK(parse_point_time("10:53:20", newest) == newest);
  CHECK(parse_point_time("10:53:21", newest) == newest + kSecond - 86400 * kSecond);
  CHECK(parse_point_time("-2h", newest) == newest - 7200 * kSecond);
  CHECK(parse_point_time("-10m", newest) == newest - 600 * kSecond);
  CHECK(parse_point_time("-500ms", newest) == newest - kSecond / 2);
}

TEST_CASE_FIXTURE(Fixture, "writes are counted by their time") {
  fill();  // writes 4, 6, 9, 11, 13, one of 512 bytes a second
  const Result<ChangeRate> rate = read_change_rate(*store, kStart + 4 * kSecond, kStart + 12 * kSecond, 4);
  REQUIRE(rate.ok());
  CHECK(rate->bucket_ns == 2 * kSecond);
  REQUIRE(rate->buckets.size() == 4);
  const std::uint64_t expected[] = {512, 512, 512, 512};  // 4; 6; 9; 11; 13 comes too late
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(rate->buckets[i].begin_ns == kStart + (4 + 2 * i) * kSecond);
    CHECK(rate->buckets[i].written_bytes == expected[i]);
    CHECK(rate->buckets[i].records == 1);
    CHECK(rate->buckets[i].zeroed_bytes + rate->buckets[i].copied_bytes == 0);
  }
  CHECK(read_change_rate(*store, 5, 5, 4).error().kind() == ErrorKind::kInvalidArgument);
}

TEST_CASE_FIXTURE(Fixture, "a long stream is searched, not kept") {
  start();
  add(RecordKind::kHeal);
  for (int i = 0; i < 200; ++i) add(i % 10 == 9 ? RecordKind::kBarrier : RecordKind::kWrite);
  for (Seq seq = 13; seq <= 203; ++seq) {
    const Seq barrier = 3 + (seq - 3) / 10 * 10;
    CAPTURE(seq);
    const Result<Point> point = resolve_point(read_timeline(*store).value(), "-" + std::to_string(203 - seq) + "s");
    REQUIRE(point.ok());
    CHECK(point->seq == barrier);
    CHECK(point->time_ns == kStart + (barrier - 1) * kSecond);
  }
}

}  // namespace
}  // namespace understudy
