// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/text.h"

#include <doctest/doctest.h>

#include <time.h>

#include <cstdlib>

using namespace understudy;

TEST_CASE("byte sizes are read with and without a unit") {
  CHECK(parse_bytes("0") == 0u);
  CHECK(parse_bytes("4096") == 4096u);
  CHECK(parse_bytes("256MiB") == 256ull << 20);
  CHECK(parse_bytes("16777215TiB") == 16777215ull << 40);
}

TEST_CASE("what is no byte size is refused") {
  for (const char* text :
       {"", "MiB", "-1", "+1", " 1", "1 MiB", "1.5GiB", "3TB", "1mib", "16777216TiB", "0x10", "18446744073709551616"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_bytes(text).has_value());
  }
}

TEST_CASE("durations need a unit and come back in nanoseconds") {
  CHECK(parse_duration_ns("250ms") == 250'000'000u);
  CHECK(parse_duration_ns("5s") == 5'000'000'000u);
  CHECK(parse_duration_ns("2min") == 120'000'000'000u);
  CHECK(parse_duration_ns("1d") == 86'400'000'000'000u);
  CHECK_FALSE(parse_duration_ns("5").has_value());
  CHECK_FALSE(parse_duration_ns("5m").has_value());
  CHECK_FALSE(parse_duration_ns("999999999999d").has_value());
}

TEST_CASE("exact forms can be read back") {
  for (const std::uint64_t value : {0ull, 1ull, 1023ull, 1024ull, 4097ull, 1ull << 20, 3ull << 40, ~0ull}) {
    CHECK(parse_bytes(format_bytes_exact(value)) == value);
    CHECK(parse_duration_ns(format_duration_exact_ns(value)) == value);
  }
  CHECK(format_bytes_exact(256u << 20) == "256MiB");
  CHECK(format_duration_exact_ns(1'500'000'000) == "1500ms");
  CHECK(format_duration_exact_ns(0) == "0s");
}

TEST_CASE("sizes for people never show 1024 of a unit") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1536) == "1.5 KiB");
  CHECK(format_bytes(256u << 20) == "256 MiB");
  CHECK(format_bytes((1u << 20) - 1) == "1 MiB");
  CHECK(format_bytes(1ull << 40) == "1 TiB");
  CHECK(format_bytes(~0ull) == "16777216 TiB");
}

TEST_CASE("durations for people use one or two units") {
  CHECK(format_duration_ns(0) == "0 ns");
  CHECK(format_duration_ns(12'300'000) == "12.3 ms");
  CHECK(format_duration_ns(1'200'000'000) == "1.2 s");
  CHECK(format_duration_ns(59'990'000'000) == "1 min");
  CHECK(format_duration_ns(185'000'000'000) == "3 min 5 s");
  CHECK(format_duration_ns(7'800'000'000'000) == "2 h 10 min");
  CHECK(format_duration_ns(90'000'000'000'000) == "1 d 1 h");
}

TEST_CASE("times are shown with milliseconds") {
  CHECK(format_time_utc(1'700'000'000'250'999'999) == "2023-11-14T22:13:20.250Z");
  CHECK(format_time_utc(0) == "1970-01-01T00:00:00.000Z");
  ::setenv("TZ", "UTC-8", 1);
  ::tzset();
  CHECK(format_time_local(1'700'000'000'250'000'000) == "2023-11-15 06:13:20.250");
  ::unsetenv("TZ");
  ::tzset();
}

TEST_CASE("control characters and broken UTF-8 are made visible") {
  CHECK(printable("plain") == "plain");
  CHECK(printable("müßig 容灾") == "müßig 容灾");
  CHECK(printable("a\x1b[31m\n") == "a\\x1b[31m\\x0a");
  CHECK(printable("\xff\xc3") == "\\xff\\xc3");
  CHECK(printable("\xc0\xaf") == "\\xc0\\xaf");           // overlong
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // surrogate
  CHECK(printable("\xc2\x9b") == "\\xc2\\x9b");           // C1 control
}

TEST_CASE("a mistyped word finds the one that was meant") {
  const std::vector<std::string> words{"server", "disks", "receiver", "tls"};
  CHECK(nearest_word("sever", words) == "server");
  CHECK(nearest_word("reciever", words) == "receiver");
  CHECK(nearest_word("disk", words) == "disks");
  CHECK_FALSE(nearest_word("quotas", words).has_value());
  CHECK_FALSE(nearest_word("x", {"tls"}).has_value());
}
