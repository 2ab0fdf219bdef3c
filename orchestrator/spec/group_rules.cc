// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/spec/group_rules.h"

#include <algorithm>
#include <array>
#include <utility>

namespace understudy {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_letter_or_digit(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }

}  // namespace

bool NameRule::allows(std::string_view name) const {
  if (name.size() < length_min || name.size() > length_max) return false;
  return is_letter(name.front()) && is_letter_or_digit(name.back()) &&
         std::all_of(name.begin(), name.end(), [](char c) { return is_letter_or_digit(c) || c == '-'; });
}

std::string NameRule::text() const {
  return std::to_string(length_min) + " to " + std::to_string(length_max) +
         " letters, digits or '-', beginning with a letter and ending with a letter or digit";
}

std::string NameRule::pattern() const {
  return "^[A-Za-z][A-Za-z0-9-]{" + std::to_string(length_min - 2) + "," + std::to_string(length_max - 2) +
         "}[A-Za-z0-9]$";
}

const std::vector<std::string_view>& os_families() {
  static const std::vector<std::string_view> kFamilies{"almalinux", "amazon",    "anolis", "centos", "debian",
                                                       "fedora",    "openeuler", "oracle", "rhel",   "rocky",
                                                       "sles",      "ubuntu"};
  return kFamilies;
}

bool is_tested_os(std::string_view family, std::string_view version) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kTested{{
      {"centos", "7.0"}, {"centos", "7.1"}, {"centos", "7.2"}, {"centos", "7.3"}, {"centos", "7.4"},
      {"centos", "7.5"}, {"centos", "7.6"}, {"centos", "7.7"}, {"centos", "7.8"}, {"centos", "7.9"},
      {"ubuntu", "18.04"}, {"debian", "12"}}};
  return std::find(kTested.begin(), kTested.end(), std::pair(family, version)) != kTested.end();
}

}  // namespace understudy
