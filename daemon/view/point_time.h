// SPDX-License-Identifier: Apache-2.0
// The times an operator may write for a point. Pure; local forms depend on TZ.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace understudy {

// RFC 3339 ("2026-03-01T12:03:17.250Z", also with an offset), "2026-03-01 12:03:17[.250]" (local), "12:03:17[.250]"
// (local, the most recent one at or before `newest_ns`), or "-90s", "-10m", "-2h", "-500ms" (before `newest_ns`). The
// result is nanoseconds since 1970; nullopt = none of these.
std::optional<std::uint64_t> parse_point_time(std::string_view text, std::uint64_t newest_ns);

}  // namespace understudy
