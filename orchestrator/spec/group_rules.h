// SPDX-License-Identifier: Apache-2.0
// Numbers, names and lists of the rules for groups and servers, in one place: the reader and the schema both use them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/yaml_config.h"

namespace understudy {

// Letters, digits and '-', beginning with a letter, ending with a letter or digit.
struct NameRule {
  std::size_t length_min;
  std::size_t length_max;
  bool allows(std::string_view name) const;
  std::string text() const;     // "2 to 60 letters, digits or '-', ..."
  std::string pattern() const;  // as a regular expression
};
inline constexpr NameRule kSiteNameRule{2, 60};
inline constexpr NameRule kGroupNameRule{2, 121};  // every "<site>-<site>" is one
inline constexpr NameRule kHostNameRule{2, 15};

inline constexpr std::uint64_t kHourNs = 3'600'000'000'000;
inline constexpr std::uint64_t kMinuteNs = 60'000'000'000;
inline constexpr ConfigRange kVcpus{2, 4096};
inline constexpr ConfigRange kMemoryBytes{4ull << 30, 64ull << 40};
inline constexpr ConfigRange kPointInterval{kHourNs, 24 * kHourNs};
inline constexpr ConfigRange kWindow{kMinuteNs, 365 * 24 * kHourNs};
inline constexpr ConfigRange kRetention{kHourNs, 3660 * 24 * kHourNs};
inline constexpr ConfigRange kRpoMax{1'000'000'000, 24 * kHourNs};
inline constexpr ConfigRange kThrottle{64ull << 10, 100ull << 30};
inline constexpr ConfigRange kParallel{1, 64};
inline constexpr ConfigRange kAutoRollback{kMinuteNs, 7 * 24 * kHourNs};
inline constexpr ConfigRange kHealthTimeout{1'000'000'000, kHourNs};
inline constexpr ConfigRange kPort{1, 65535};
inline constexpr ConfigRange kOrders{0, 1'000'000'000};
inline constexpr ConfigRange kServerCount{0, 200};
inline constexpr ConfigRange kDiskCount{1, 64};
inline constexpr ConfigRange kSubnetCount{1, 256};
inline constexpr ConfigRange kHealthCount{0, 16};
inline constexpr ConfigRange kBootAfterCount{0, 200};
inline constexpr ConfigRange kDiskTypeCount{0, 64};
inline constexpr ConfigRange kMountCount{0, 64};

inline constexpr std::uint64_t kPointIntervalDefault = 6 * kHourNs;
inline constexpr std::uint64_t kWindowDefault = 24 * kHourNs;
inline constexpr std::uint64_t kRetentionDefault = 7 * 24 * kHourNs;
inline constexpr std::uint64_t kRpoMaxDefault = 5 * kMinuteNs;
inline constexpr std::uint64_t kHealthTimeoutDefault = 2 * kMinuteNs;
inline constexpr std::uint32_t kParallelDefault = 4;

// Servers that one change may add to a group, and clients of a region.
inline constexpr std::size_t kServersAddedMax = 10;
inline constexpr std::uint32_t kQuotaDefault = 20;
inline constexpr ConfigRange kQuota{1, 200};

inline constexpr std::string_view kGroupType = "zone-to-zone";
const std::vector<std::string_view>& os_families();
// Whether this release of the family is one that is tested; others are taken with a warning.
bool is_tested_os(std::string_view family, std::string_view version);

}  // namespace understudy
