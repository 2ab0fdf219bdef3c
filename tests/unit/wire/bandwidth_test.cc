// SPDX-License-Identifier: Apache-2.0
#include "daemon/wire/bandwidth.h"

#include <random>

// Behind our headers: it has a CHECK of its own.
#include <doctest/doctest.h>

using namespace understudy;

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
enum Day { kSunday, kMonday, kTuesday, kWednesday, kThursday, kFriday, kSaturday };

std::tm at(Day day, int hour, int minute) {
  std::tm local{};
  local.tm_wday = day;
  local.tm_hour = hour;
  local.tm_min = minute;
  return local;
}

}  // namespace

TEST_CASE("the first window that holds counts, else the general limit") {
  const BandwidthPlan plan{10, {{8 * 60, 18 * 60, 0x1f, 2}, {12 * 60, 13 * 60, 0x7f, 5}}};
  CHECK(plan.limit_at(at(kMonday, 7, 59)) == 10);
  CHECK(plan.limit_at(at(kMonday, 8, 0)) == 2);
  CHECK(plan.limit_at(at(kFriday, 17, 59)) == 2);
  CHECK(plan.limit_at(at(kFriday, 18, 0)) == 10);
  CHECK(plan.limit_at(at(kMonday, 12, 30)) == 2);
  CHECK(plan.limit_at(at(kSunday, 12, 30)) == 5);
  CHECK(plan.limit_at(at(kSaturday, 9, 0)) == 10);
  CHECK(BandwidthPlan{}.limit_at(at(kSaturday, 9, 0)) == 0);
}

TEST_CASE("a window over midnight belongs to the day on which it begins; a whole day is 00:00 to 24:00") {
  const BandwidthPlan night{0, {{22 * 60, 6 * 60, 1u << 4, 7}}};  // Friday night
  CHECK(night.limit_at(at(kFriday, 5, 0)) == 0);
  CHECK(night.limit_at(at(kFriday, 21, 59)) == 0);
  CHECK(night.limit_at(at(kFriday, 22, 0)) == 7);
  CHECK(night.limit_at(at(kSaturday, 5, 59)) == 7);
  CHECK(night.limit_at(at(kSaturday, 6, 0)) == 0);
  CHECK(night.limit_at(at(kSaturday, 23, 0)) == 0);
  const BandwidthPlan sunday{0, {{0, 24 * 60, 1u << 6, 7}}};
  CHECK(sunday.limit_at(at(kSunday, 0, 0)) == 7);
  CHECK(sunday.limit_at(at(kSunday, 23, 59)) == 7);
  CHECK(sunday.limit_at(at(kMonday, 0, 0)) == 0);
}

TEST_CASE("no limit, no waiting") {
  TokenBucket bucket;
  CHECK(bucket.available(5) == SIZE_MAX);
  bucket.take(1ull << 40);
  CHECK(bucket.wait_ns(6) == 0);
}

TEST_CASE("over any time no more goes than the rate and one burst, and nearly as much when there is always something") {
  std::mt19937_64 random(4);
  for (const std::uint64_t rate : {64ull << 10, 10ull << 20, 100ull << 30}) {
    CAPTURE(rate);
    TokenBucket bucket;
    std::uint64_t now = 77;
    bucket.set_rate(rate, now);
    const std::uint64_t begin = now;
    const std::uint64_t burst = bucket.available(now);
    CHECK(burst >= 16u << 10);
    std::uint64_t sent = 0;
    while (now < begin + 20 * kSecond) {
      std::size_t bytes = bucket.available(now);
      if (bytes > 0 && random() % 8 == 0) bytes += random() % 1000;  // TLS adds what nobody asked for
      bucket.take(bytes);
      sent += bytes;
      const double seconds = static_cast<double>(now - begin) / 1e9;
      REQUIRE(static_cast<double>(sent) <= static_cast<double>(rate) * seconds + static_cast<double>(burst) + 2000);
      const std::uint64_t wait = bucket.wait_ns(now);
      REQUIRE(wait > 0);
      REQUIRE(wait <= kSecond);
      now += wait + random() % 1'000'000;
    }
    CHECK(static_cast<double>(sent) >= 0.97 * static_cast<double>(rate) * 20);
  }
}

TEST_CASE("a pause is not saved up, a debt is worked off, a new rate holds at once") {
  TokenBucket bucket;
  bucket.set_rate(1 << 20, 0);
  const std::size_t burst = bucket.available(0);
  CHECK(bucket.available(3600 * kSecond) == burst);
  bucket.take(burst + (2 << 20));
  CHECK(bucket.available(3600 * kSecond) == 0);
  CHECK(bucket.available(3601 * kSecond) == 0);
  CHECK(bucket.available(3603 * kSecond) == burst);
  bucket.set_rate(20 << 20, 3603 * kSecond);
  bucket.take(bucket.available(3603 * kSecond));
  CHECK(bucket.available(3603 * kSecond + kSecond / 40) == (20u << 20) / 40);
  bucket.set_rate(0, 3604 * kSecond);
  CHECK(bucket.available(3604 * kSecond) == SIZE_MAX);
}
