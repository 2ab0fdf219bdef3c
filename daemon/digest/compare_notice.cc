// SPDX-License-Identifier: Apache-2.0
#include "daemon/digest/compare_notice.h"

#include "daemon/base/limits.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::string_view kWord = "compare";

// What stands before the next ':', which goes, too.
std::string_view take_word(std::string_view& text) {
  const std::size_t end = text.find(':');
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return word;
}

}  // namespace

std::string compare_notice_code(const CompareRequest& request) {
  return std::string(kWord) + ":" + std::to_string(request.disk) + ":" + std::to_string(request.offset_bytes) + ":" +
         std::to_string(request.length_bytes);
}

std::optional<CompareRequest> parse_compare_notice(std::string_view code) {
  if (take_word(code) != kWord) return std::nullopt;
  const auto disk = parse_unsigned(take_word(code));
  const auto offset = parse_unsigned(take_word(code));
  const auto length = parse_unsigned(code);
  if (!disk || *disk >= kDisksMax || !offset || *offset > kDiskBytesMax || !length || *length == 0 ||
      *length > kDiskBytesMax - *offset)
    return std::nullopt;
  return CompareRequest{static_cast<std::uint16_t>(*disk), *offset, *length};
}

}  // namespace understudy
