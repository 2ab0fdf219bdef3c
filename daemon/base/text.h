// SPDX-License-Identifier: Apache-2.0
// Numbers, sizes, durations and times as people write and read them. All functions are pure and thread-safe, except
// that local times depend on TZ.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace understudy {

// --- parsing: nullopt = not of this form, or out of the type's range ---

// Decimal digits only.
std::optional<std::uint64_t> parse_unsigned(std::string_view text);
// Digits with an optional KiB, MiB, GiB or TiB directly behind: "4096", "256MiB".
std::optional<std::uint64_t> parse_bytes(std::string_view text);
// Digits with a unit: ns, us, ms, s, min, h or d: "250ms", "5s", "2h". Result in nanoseconds.
std::optional<std::uint64_t> parse_duration_ns(std::string_view text);

// --- printing ---

// For people, at most one decimal: "0 B", "1.5 KiB", "256 MiB".
std::string format_bytes(std::uint64_t bytes);
// The form parse_bytes() takes, exact: "256MiB", "4097".
std::string format_bytes_exact(std::uint64_t bytes);
// For people, two to three digits: "850 ns", "12 ms", "1.2 s", "3 min 5 s", "2 h 10 min", "4 d 3 h".
std::string format_duration_ns(std::uint64_t duration_ns);
// The form parse_duration_ns() takes, exact: "5s", "1500ms".
std::string format_duration_exact_ns(std::uint64_t duration_ns);
// RFC 3339 with milliseconds, UTC: "2026-03-01T12:03:17.250Z".
std::string format_time_utc(std::uint64_t wall_ns);
// As an operator reads it, in the machine's zone: "2026-03-01 12:03:17.250".
std::string format_time_local(std::uint64_t wall_ns);

// "a, b and c" with each item in single quotes.
std::string quoted_list(const std::vector<std::string>& items);
// The text with control characters and invalid bytes shown as \xNN, so that it cannot disturb a terminal or a log line.
std::string printable(std::string_view text);

// printable() in single quotes: how messages show what a user gave.
std::string quote(std::string_view text);

// The candidate that a mistyped word most likely meant; nullopt when none is near.
std::optional<std::string> nearest_word(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace understudy
