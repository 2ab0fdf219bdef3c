// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <numeric>

namespace understudy {

namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::array<Unit, 5> kByteUnits{
    {{"", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40}}};
constexpr std::array<Unit, 7> kDurationUnits{{{"ns", 1},
                                              {"us", 1'000},
                                              {"ms", 1'000'000},
                                              {"s", 1'000'000'000},
                                              {"min", 60'000'000'000},
                                              {"h", 3'600'000'000'000},
                                              {"d", 86'400'000'000'000}}};

template <std::size_t N>
std::optional<std::uint64_t> parse_with_unit(std::string_view text, const std::array<Unit, N>& units) {
  const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = parse_unsigned(text.substr(0, digits));
  if (!number) return std::nullopt;
  for (const Unit& unit : units) {
    if (text.substr(digits) != unit.name) continue;
    std::uint64_t result = 0;
    if (__builtin_mul_overflow(*number, unit.factor, &result)) return std::nullopt;
    return result;
  }
  return std::nullopt;
}

// The largest unit that divides the value, so that nothing is rounded.
template <std::size_t N>
std::string format_exact(std::uint64_t value, const std::array<Unit, N>& units) {
  const Unit* best = &units.front();
  for (const Unit& unit : units) {
    if (value != 0 && value % unit.factor == 0) best = &unit;
  }
  return std::to_string(value / best->factor) + std::string(best->name);
}

std::string one_decimal(double value, std::string_view unit) {
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), value >= 99.95 ? "%.0f" : "%.1f", value);
  std::string text = buffer;
  if (text.size() > 2 && text.ends_with(".0")) text.resize(text.size() - 2);
  return text + " " + std::string(unit);
}

std::string two_units(std::uint64_t whole, std::string_view unit, std::uint64_t rest, std::string_view rest_unit) {
  std::string text = std::to_string(whole) + " " + std::string(unit);
  if (rest != 0) text += " " + std::to_string(rest) + " " + std::string(rest_unit);
  return text;
}

std::string format_time(std::uint64_t wall_ns, bool utc) {
  const auto seconds = static_cast<std::time_t>(wall_ns / 1'000'000'000u);
  std::tm parts{};
  if ((utc ? gmtime_r(&seconds, &parts) : localtime_r(&seconds, &parts)) == nullptr) return std::to_string(wall_ns);
  char date[64];
  std::strftime(date, sizeof(date), utc ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &parts);
  char text[80];
  std::snprintf(text, sizeof(text), "%s.%03u%s", date, static_cast<unsigned>(wall_ns / 1'000'000u % 1000u),
                utc ? "Z" : "");
  return text;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// Length of the well-formed UTF-8 sequence at the start of `text`; 0 = none. Overlong forms and surrogates are refused.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  std::size_t length = 0;
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf)
    length = 2;
  else if (first >= 0xe0 && first <= 0xef)
    length = 3;
  else if (first >= 0xf0 && first <= 0xf4)
    length = 4;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
      (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  // C1 control characters can steer a terminal too.
  return first == 0xc2 && second < 0xa0 ? 0 : length;
}

}  // namespace

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stopped != end) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) { return parse_with_unit(text, kByteUnits); }

std::optional<std::uint64_t> parse_duration_ns(std::string_view text) { return parse_with_unit(text, kDurationUnits); }

std::string format_bytes(std::uint64_t bytes) {
  std::size_t unit = 0;
  // Steps up already where rounding would show 1024 of the smaller unit.
  while (unit + 1 < kByteUnits.size() &&
         static_cast<double>(bytes) >= 1023.5 * static_cast<double>(kByteUnits[unit].factor)) {
    ++unit;
  }
  if (unit == 0) return std::to_string(bytes) + " B";
  return one_decimal(static_cast<double>(bytes) / static_cast<double>(kByteUnits[unit].factor), kByteUnits[unit].name);
}

std::string format_bytes_exact(std::uint64_t bytes) { return format_exact(bytes, kByteUnits); }

std::string format_duration_ns(std::uint64_t duration_ns) {
  const double value = static_cast<double>(duration_ns);
  if (duration_ns < 1'000) return std::to_string(duration_ns) + " ns";
  if (value < 999.5e3) return one_decimal(value / 1e3, "us");
  if (value < 999.5e6) return one_decimal(value / 1e6, "ms");
  if (value < 59.95e9) return one_decimal(value / 1e9, "s");
  const std::uint64_t seconds = (duration_ns + 500'000'000u) / 1'000'000'000u;
  if (seconds < 3600) return two_units(seconds / 60, "min", seconds % 60, "s");
  const std::uint64_t minutes = seconds / 60;
  if (minutes < 24 * 60) return two_units(minutes / 60, "h", minutes % 60, "min");
  return two_units(minutes / (24 * 60), "d", minutes / 60 % 24, "h");
}

std::string format_duration_exact_ns(std::uint64_t duration_ns) {
  return duration_ns == 0 ? "0s" : format_exact(duration_ns, kDurationUnits);
}

std::string format_time_utc(std::uint64_t wall_ns) { return format_time(wall_ns, /* utc= */ true); }
std::string format_time_local(std::uint64_t wall_ns) { return format_time(wall_ns, /* utc= */ false); }

std::string quoted_list(const std::vector<std::string>& items) {
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i != 0) text += i + 1 == items.size() ? " and " : ", ";
    text += quote(items[i]);
  }
  return text;
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text.front());
    std::size_t length = utf8_length(text);
    if (length == 0 || first < 0x20 || first == 0x7f) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\x%02x", first);
      out += escaped;
      length = 1;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string quote(std::string_view text) { return "'" + printable(text) + "'"; }

std::optional<std::string> nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string* best = nullptr;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    // A word with nothing in common is no suggestion, however short both are.
    if (distance < best_distance && distance < std::max(word.size(), candidate.size())) {
      best = &candidate;
      best_distance = distance;
    }
  }
  if (best == nullptr) return std::nullopt;
  return *best;
}

}  // namespace understudy
