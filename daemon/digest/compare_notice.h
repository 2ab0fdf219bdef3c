// SPDX-License-Identifier: Apache-2.0
// How a receiver asks for bytes that it has lost: a NOTICE (wire/FORMAT.md) whose code names an extent of a disk, which
// the agent then compares next, and copies anew where it differs. An agent that does not know the code shows its text.
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace understudy {

struct CompareRequest {
  std::uint16_t disk = 0;  // slot
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;  // > 0
  bool operator==(const CompareRequest&) const = default;
};

// "compare:0:4096:65536": disk, offset and length in decimal.
std::string compare_notice_code(const CompareRequest& request);
// nullopt = another code, or an extent that cannot be.
std::optional<CompareRequest> parse_compare_notice(std::string_view code);

}  // namespace understudy
