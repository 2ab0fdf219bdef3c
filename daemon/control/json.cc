// SPDX-License-Identifier: Apache-2.0
#include "daemon/control/json.h"

#include <boost/json.hpp>
#include <limits>

#include "daemon/base/text.h"

namespace understudy {

namespace {

constexpr std::size_t kDepthMax = 32;

Result<Json> from_boost(const boost::json::value& value) {
  namespace json = boost::json;
  switch (value.kind()) {
    case json::kind::null: return Json();
    case json::kind::bool_: return Json(value.get_bool());
    case json::kind::uint64: return Json(std::uint64_t{value.get_uint64()});
    case json::kind::int64:
      // One form for a number that both types can hold, so that equal values compare equal.
      if (value.get_int64() >= 0) return Json(static_cast<std::uint64_t>(value.get_int64()));
      return Json(std::int64_t{value.get_int64()});
    case json::kind::double_: return Json(value.get_double());
    case json::kind::string: return Json(std::string_view(value.get_string().data(), value.get_string().size()));
    case json::kind::array: {
      Json array = Json::array();
      for (const json::value& item : value.get_array()) {
        ASSIGN_OR_RETURN(Json converted, from_boost(item));
        array.push_back(std::move(converted));
      }
      return array;
    }
    case json::kind::object: {
      Json object = Json::object();
      for (const auto& member : value.get_object()) {
        ASSIGN_OR_RETURN(Json converted, from_boost(member.value()));
        object[std::string_view(member.key().data(), member.key().size())] = std::move(converted);
      }
      return object;
    }
  }
  return Error(ErrorKind::kInternal, "read JSON: unknown kind of value");
}

std::string dump_string(std::string_view text) {
  // Boost writes strings as they are; what is no UTF-8 would make the whole document unreadable.
  boost::system::error_code error;
  std::string out = boost::json::serialize(boost::json::string_view(text.data(), text.size()));
  boost::json::parse(out, error);
  if (!error) return out;
  const std::string visible = printable(text);
  return boost::json::serialize(boost::json::string_view(visible.data(), visible.size()));
}

}  // namespace

Result<Json> Json::parse(std::string_view text) {
  boost::system::error_code error;
  boost::json::parse_options options;
  options.max_depth = kDepthMax;
  boost::json::stream_parser parser({}, options);
  const std::size_t used = parser.write_some(text.data(), text.size(), error);
  if (!error && used == text.size()) parser.finish(error);
  if (error || used != text.size()) {
    const std::string reason = error ? error.message() : "something follows the value";
    return Error(ErrorKind::kInvalidArgument, "read JSON: " + reason + " near byte " + std::to_string(used));
  }
  return from_boost(parser.release());
}

std::string Json::dump() const {
  if (is_null()) return "null";
  if (const auto* flag = std::get_if<bool>(&value_)) return *flag ? "true" : "false";
  if (const auto* number = std::get_if<std::uint64_t>(&value_)) return std::to_string(*number);
  if (const auto* number = std::get_if<std::int64_t>(&value_)) return std::to_string(*number);
  if (const auto* number = std::get_if<double>(&value_)) {
    // JSON has no NaN and no infinity.
    return *number - *number == 0 ? boost::json::serialize(boost::json::value(*number)) : "null";
  }
  if (const auto* text = std::get_if<std::string>(&value_)) return dump_string(*text);
  std::string out;
  if (const auto* items = std::get_if<Array>(&value_)) {
    for (const Json& item : *items) out += (out.empty() ? "" : ",") + item.dump();
    return "[" + out + "]";
  }
  for (const auto& [name, value] : members()) {
    out += (out.empty() ? "" : ",") + dump_string(name) + ":" + value.dump();
  }
  return "{" + out + "}";
}

std::string Json::dump_indented() const {
  std::string out;
  dump_indented(out, "");
  return out;
}

void Json::dump_indented(std::string& out, const std::string& indent) const {
  const bool block = !items().empty() || !members().empty();
  if (!block) {
    out += dump();
    return;
  }
  const std::string inner = indent + "  ";
  std::string separator = "\n";
  out += is_array() ? "[" : "{";
  for (const Json& item : items()) {
    out += separator + inner;
    item.dump_indented(out, inner);
    separator = ",\n";
  }
  for (const auto& [name, value] : members()) {
    out += separator + inner + dump_string(name) + ": ";
    value.dump_indented(out, inner);
    separator = ",\n";
  }
  out += "\n" + indent + (is_array() ? "]" : "}");
}

bool Json::as_bool(bool fallback) const {
  const auto* value = std::get_if<bool>(&value_);
  return value == nullptr ? fallback : *value;
}

std::uint64_t Json::as_unsigned(std::uint64_t fallback) const {
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return *value;
  const auto* value = std::get_if<std::int64_t>(&value_);
  return value != nullptr && *value >= 0 ? static_cast<std::uint64_t>(*value) : fallback;
}

double Json::as_double(double fallback) const {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*value);
  return fallback;
}

std::string Json::as_string(std::string_view fallback) const {
  const auto* value = std::get_if<std::string>(&value_);
  return value == nullptr ? std::string(fallback) : *value;
}

const Json& Json::at(std::string_view name) const {
  static const Json kNull;
  for (const Member& member : members()) {
    if (member.first == name) return member.second;
  }
  return kNull;
}

const Json::Array& Json::items() const {
  static const Array kNone;
  const auto* items = std::get_if<Array>(&value_);
  return items == nullptr ? kNone : *items;
}

const Json::Object& Json::members() const {
  static const Object kNone;
  const auto* members = std::get_if<Object>(&value_);
  return members == nullptr ? kNone : *members;
}

Json& Json::operator[](std::string_view name) {
  if (is_null()) value_ = Object{};
  auto* members = std::get_if<Object>(&value_);
  CHECK(members != nullptr);
  for (Member& member : *members) {
    if (member.first == name) return member.second;
  }
  return members->emplace_back(std::string(name), Json()).second;
}

void Json::push_back(Json item) {
  if (is_null()) value_ = Array{};
  auto* items = std::get_if<Array>(&value_);
  CHECK(items != nullptr);
  items->push_back(std::move(item));
}

}  // namespace understudy
