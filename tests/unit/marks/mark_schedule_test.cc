// SPDX-License-Identifier: Apache-2.0
#include "daemon/marks/mark_schedule.h"

#include <cstdlib>
#include <ctime>

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kMinute = 60 * kSecond;
constexpr std::uint64_t kHour = 60 * kMinute;

// A zone of its own for each test.
struct Zone {
  explicit Zone(const char* name) {
    ::setenv("TZ", name, 1);
    ::tzset();
  }
  ~Zone() {
    ::unsetenv("TZ");
    ::tzset();
  }
};

// Rules written out, so that no zone files are needed: Berlin, and a zone whose clocks change at midnight.
constexpr const char* kBerlin = "CET-1CEST,M3.5.0,M10.5.0/3";
constexpr const char* kMidnight = "XST-2XDT,M3.5.0/0,M10.5.0/0";

std::uint64_t utc(int year, int month, int day, int hour, int minute, int second = 0) {
  std::tm time{};
  time.tm_year = year - 1900;
  time.tm_mon = month - 1;
  time.tm_mday = day;
  time.tm_hour = hour;
  time.tm_min = minute;
  time.tm_sec = second;
  return static_cast<std::uint64_t>(::timegm(&time)) * kSecond;
}

// The slots of one span of time.
std::vector<std::uint64_t> slots(const MarkTimes& times, std::uint64_t from, std::uint64_t to) {
  std::vector<std::uint64_t> found;
  for (std::uint64_t at = next_slot_ns(times, from); at != 0 && at <= to; at = next_slot_ns(times, at))
    found.push_back(at);
  return found;
}

}  // namespace

TEST_CASE("mark schedule: every so often, from local midnight on") {
  const Zone zone(kBerlin);
  const MarkTimes times{6 * kHour, {}};
  CHECK(slots(times, utc(2026, 1, 10, 12, 0), utc(2026, 1, 11, 12, 0)) ==
        std::vector<std::uint64_t>{utc(2026, 1, 10, 17, 0), utc(2026, 1, 10, 23, 0), utc(2026, 1, 11, 5, 0),
                                   utc(2026, 1, 11, 11, 0)});
  CHECK(next_slot_ns({15 * kMinute, {}}, utc(2026, 1, 10, 12, 0, 1)) == utc(2026, 1, 10, 12, 15));
  CHECK(next_slot_ns({15 * kMinute, {}}, utc(2026, 1, 10, 12, 15)) == utc(2026, 1, 10, 12, 30));  // later, not at it
  CHECK(next_slot_ns({}, utc(2026, 1, 10, 12, 15)) == 0);
}

TEST_CASE("mark schedule: what does not divide a day begins again at midnight") {
  const Zone zone("UTC0");
  CHECK(slots({7 * kHour, {}}, utc(2026, 1, 10, 0, 0), utc(2026, 1, 11, 7, 0)) ==
        std::vector<std::uint64_t>{utc(2026, 1, 10, 7, 0), utc(2026, 1, 10, 14, 0), utc(2026, 1, 10, 21, 0),
                                   utc(2026, 1, 11, 0, 0), utc(2026, 1, 11, 7, 0)});
}

TEST_CASE("mark schedule: times of day are local, together with the others") {
  const Zone zone(kBerlin);
  CHECK(slots({12 * kHour, {3 * 60, 12 * 60}}, utc(2026, 7, 10, 0, 0), utc(2026, 7, 11, 0, 0)) ==
        std::vector<std::uint64_t>{utc(2026, 7, 10, 1, 0), utc(2026, 7, 10, 10, 0), utc(2026, 7, 10, 22, 0)});
}

TEST_CASE("mark schedule: days of 23 and 25 hours leave no hole and repeat nothing") {
  const Zone zone(kBerlin);
  for (const auto& [from, to] : {std::pair(utc(2026, 3, 28, 12, 0), utc(2026, 3, 30, 12, 0)),
                                 std::pair(utc(2026, 10, 24, 12, 0), utc(2026, 10, 26, 12, 0))}) {
    for (const std::uint64_t every : {15 * kMinute, 1 * kHour, 6 * kHour, 7 * kHour, 24 * kHour}) {
      std::uint64_t last = from;
      for (const std::uint64_t slot : slots({every, {}}, from, to)) {
        CHECK(slot > last);
        CHECK(slot - last <= every);
        last = slot;
      }
      // A day of 25 hours is longer than 24 hours: the next midnight comes an hour after the slot.
      CHECK(to - last < every + kHour);
    }
  }
  // 02:30 does not exist on one of these days and comes twice on the other.
  CHECK(slots({0, {150}}, utc(2026, 3, 28, 12, 0), utc(2026, 3, 30, 12, 0)) ==
        std::vector<std::uint64_t>{utc(2026, 3, 29, 1, 30), utc(2026, 3, 30, 0, 30)});
  CHECK(slots({0, {150}}, utc(2026, 10, 24, 12, 0), utc(2026, 10, 26, 12, 0)).size() == 2);
}

TEST_CASE("mark schedule: a day that begins at 01:00") {
  const Zone zone(kMidnight);
  const auto found = slots({8 * kHour, {0}}, utc(2026, 3, 28, 0, 0), utc(2026, 3, 30, 12, 0));
  REQUIRE(found.size() >= 7);
  for (std::size_t i = 1; i < found.size(); ++i) {
    CHECK(found[i] > found[i - 1]);
    CHECK(found[i] - found[i - 1] <= 8 * kHour);
  }
}

TEST_CASE("mark schedule: each slot is due once") {
  const Zone zone("UTC0");
  const std::uint64_t begin = utc(2026, 1, 10, 12, 1);
  MarkSchedule schedule({15 * kMinute, {}}, begin);
  int due = 0;
  for (std::uint64_t at = begin; at <= begin + kHour; at += kSecond) due += schedule.due(at, at - begin + kSecond);
  CHECK(due == 4);
  CHECK(schedule.next_ns() == utc(2026, 1, 10, 13, 15));
  MarkSchedule never({}, begin);
  CHECK_FALSE(never.due(begin + 48 * kHour, 48 * kHour));
  CHECK(never.next_ns() == 0);
}

TEST_CASE("mark schedule: after a suspend, or a clock put forward, one late mark") {
  const Zone zone("UTC0");
  const std::uint64_t begin = utc(2026, 1, 10, 12, 1);
  MarkSchedule schedule({15 * kMinute, {}}, begin);
  CHECK_FALSE(schedule.due(begin, kSecond));
  CHECK(schedule.due(begin + 9 * kHour, 9 * kHour));
  CHECK_FALSE(schedule.due(begin + 9 * kHour + kSecond, 9 * kHour + kSecond));
  CHECK(schedule.next_ns() == utc(2026, 1, 10, 21, 15));
}

TEST_CASE("mark schedule: a clock that is put back makes no pause") {
  const Zone zone("UTC0");
  MarkSchedule schedule({15 * kMinute, {}}, utc(2026, 1, 10, 12, 1));
  CHECK(schedule.due(utc(2026, 1, 10, 12, 15), 1000 * kSecond));
  CHECK_FALSE(schedule.due(utc(2026, 1, 10, 7, 20), 1001 * kSecond));
  CHECK(schedule.next_ns() == utc(2026, 1, 10, 7, 30));
  CHECK(schedule.due(utc(2026, 1, 10, 7, 30), 1601 * kSecond));
}

TEST_CASE("mark schedule: a clock put back a little repeats no mark") {
  const Zone zone("UTC0");
  MarkSchedule schedule({15 * kMinute, {}}, utc(2026, 1, 10, 12, 1));
  CHECK(schedule.due(utc(2026, 1, 10, 12, 15), 1000 * kSecond));
  CHECK_FALSE(schedule.due(utc(2026, 1, 10, 12, 14, 58), 1001 * kSecond));
  CHECK_FALSE(schedule.due(utc(2026, 1, 10, 12, 15), 1003 * kSecond));
  CHECK(schedule.due(utc(2026, 1, 10, 12, 30), 1903 * kSecond));
}

}  // namespace understudy
