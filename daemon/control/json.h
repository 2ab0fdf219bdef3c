// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

// A JSON value. Objects keep the order in which their members were set. Integers are exact over the whole range of
// std::uint64_t and std::int64_t. Text must be UTF-8; dump() replaces what is not.
class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;                                             // null
  Json(bool value) : value_(value) {}                           // NOLINT: implicit by design, as all of these
  Json(std::uint64_t value) : value_(value) {}                  // NOLINT
  Json(std::uint32_t value) : value_(std::uint64_t{value}) {}   // NOLINT
  Json(std::int64_t value) : value_(value) {}                   // NOLINT
  Json(int value) : value_(std::int64_t{value}) {}              // NOLINT
  Json(double value) : value_(value) {}                         // NOLINT
  Json(std::string value) : value_(std::move(value)) {}         // NOLINT
  Json(std::string_view value) : value_(std::string(value)) {}  // NOLINT
  Json(const char* value) : value_(std::string(value)) {}       // NOLINT
  static Json array() { return Json(Array{}); }
  static Json object() { return Json(Object{}); }

  // Untrusted input: bounded depth, nothing behind the value; of duplicate members the last counts. kInvalidArgument
  // with the place.
  static Result<Json> parse(std::string_view text);
  // One line without blanks.
  std::string dump() const;
  // For people: two blanks a level.
  std::string dump_indented() const;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }

  // Readers for input that may have any shape: the fallback when the value is of another type or out of range.
  bool as_bool(bool fallback) const;
  std::uint64_t as_unsigned(std::uint64_t fallback) const;
  double as_double(double fallback) const;  // integers, too
  std::string as_string(std::string_view fallback) const;
  // The member, or null when there is none or this is no object.
  const Json& at(std::string_view name) const;
  // The items, or none when this is no array; the members, or none when this is no object.
  const Array& items() const;
  const Object& members() const;

  // Builders. operator[] makes the member (and an object out of null); a bug on other types.
  Json& operator[](std::string_view name);
  // Appends (and makes an array out of null); a bug on other types.
  void push_back(Json item);

  bool operator==(const Json&) const = default;

 private:
  explicit Json(Array items) : value_(std::move(items)) {}
  explicit Json(Object members) : value_(std::move(members)) {}
  void dump_indented(std::string& out, const std::string& indent) const;

  std::variant<std::monostate, bool, std::uint64_t, std::int64_t, double, std::string, Array, Object> value_;
};

}  // namespace understudy
