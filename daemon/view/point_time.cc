// SPDX-License-Identifier: Apache-2.0
#include "daemon/view/point_time.h"

#include <ctime>
#include <string>

#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

// Takes exactly `count` digits off the front.
std::optional<int> take_digits(std::string_view& text, std::size_t count) {
  if (text.size() < count) return std::nullopt;
  int value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool take_char(std::string_view& text, char wanted) {
  if (text.empty() || text.front() != wanted) return false;
  text.remove_prefix(1);
  return true;
}

struct DayTime {
  int hour = 0, minute = 0, second = 0;
  std::uint64_t fraction_ns = 0;
};

// "HH:MM:SS[.fraction]"
std::optional<DayTime> take_day_time(std::string_view& text) {
  DayTime time;
  const auto hour = take_digits(text, 2);
  if (!hour || !take_char(text, ':')) return std::nullopt;
  const auto minute = take_digits(text, 2);
  if (!minute || !take_char(text, ':')) return std::nullopt;
  const auto second = take_digits(text, 2);
  if (!second || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  time.hour = *hour;
  time.minute = *minute;
  time.second = *second;
  if (!take_char(text, '.')) return time;
  std::uint64_t unit = kSecondNs / 10;
  std::size_t digits = 0;
  for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; text.remove_prefix(1), ++digits) {
    time.fraction_ns += static_cast<std::uint64_t>(text.front() - '0') * unit;
    unit /= 10;
  }
  return digits > 0 && digits <= 9 ? std::optional(time) : std::nullopt;
}

// "YYYY-MM-DD" into the fields of `date`.
bool take_date(std::string_view& text, std::tm& date) {
  const auto year = take_digits(text, 4);
  if (!year || !take_char(text, '-')) return false;
  const auto month = take_digits(text, 2);
  if (!month || !take_char(text, '-')) return false;
  const auto day = take_digits(text, 2);
  if (!day || *year < 1970 || *month < 1 || *month > 12 || *day < 1 || *day > 31) return false;
  date.tm_year = *year - 1900;
  date.tm_mon = *month - 1;
  date.tm_mday = *day;
  return true;
}

void set_day_time(std::tm& date, const DayTime& time) {
  date.tm_hour = time.hour;
  date.tm_min = time.minute;
  date.tm_sec = time.second;
  date.tm_isdst = -1;
}

std::optional<std::uint64_t> to_ns(std::int64_t seconds, std::uint64_t fraction_ns) {
  if (seconds < 0) return std::nullopt;
  return static_cast<std::uint64_t>(seconds) * kSecondNs + fraction_ns;
}

// 31 February and its like turn into another day: refused.
bool same_day(const std::tm& wanted, const std::tm& got) {
  return wanted.tm_mday == got.tm_mday && wanted.tm_mon == got.tm_mon;
}

// "Z", "+hh:mm" or "-hh:mm", in seconds east of UTC.
std::optional<std::int64_t> take_zone(std::string_view& text) {
  if (take_char(text, 'Z') || take_char(text, 'z')) return 0;
  const bool west = take_char(text, '-');
  if (!west && !take_char(text, '+')) return std::nullopt;
  const auto hours = take_digits(text, 2);
  if (!hours || !take_char(text, ':')) return std::nullopt;
  const auto minutes = take_digits(text, 2);
  if (!minutes || *hours > 23 || *minutes > 59) return std::nullopt;
  const std::int64_t seconds = *hours * 3600 + *minutes * 60;
  return west ? -seconds : seconds;
}

std::optional<std::uint64_t> parse_dated(std::string_view text) {
  std::tm date{};
  if (!take_date(text, date)) return std::nullopt;
  const bool rfc = take_char(text, 'T') || take_char(text, 't');
  if (!rfc && !take_char(text, ' ')) return std::nullopt;
  const auto time = take_day_time(text);
  if (!time) return std::nullopt;
  set_day_time(date, *time);
  std::tm normal = date;
  if (text.empty() && !rfc) {
    const std::time_t seconds = ::mktime(&normal);
    if (!same_day(date, normal)) return std::nullopt;
    return to_ns(seconds, time->fraction_ns);
  }
  const auto zone = take_zone(text);
  if (!zone || !text.empty()) return std::nullopt;
  const std::time_t seconds = ::timegm(&normal);
  if (!same_day(date, normal) && time->second < 60) return std::nullopt;
  return to_ns(seconds - *zone, time->fraction_ns);
}

std::optional<std::uint64_t> parse_day_time(std::string_view text, std::uint64_t newest_ns) {
  const auto time = take_day_time(text);
  if (!time || !text.empty()) return std::nullopt;
  const auto newest_seconds = static_cast<std::time_t>(newest_ns / kSecondNs);
  for (int days_back = 0; days_back < 2; ++days_back) {
    std::tm date{};
    if (::localtime_r(&newest_seconds, &date) == nullptr) return std::nullopt;
    date.tm_mday -= days_back;
    set_day_time(date, *time);
    const auto ns = to_ns(::mktime(&date), time->fraction_ns);
    if (ns && *ns <= newest_ns) return ns;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> parse_relative(std::string_view text, std::uint64_t newest_ns) {
  if (!take_char(text, '-')) return std::nullopt;
  std::string duration(text);
  // Operators write minutes as "m".
  if (duration.ends_with("m")) duration += "in";
  const auto back_ns = parse_duration_ns(duration);
  if (!back_ns) return std::nullopt;
  return *back_ns <= newest_ns ? newest_ns - *back_ns : 0;
}

}  // namespace

std::optional<std::uint64_t> parse_point_time(std::string_view text, std::uint64_t newest_ns) {
  if (const auto relative = parse_relative(text, newest_ns)) return relative;
  if (const auto dated = parse_dated(text)) return dated;
  return parse_day_time(text, newest_ns);
}

}  // namespace understudy
