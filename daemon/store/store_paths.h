// SPDX-License-Identifier: Apache-2.0
// The names of a store's files, all in one place.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/base/text.h"
#include "daemon/record/record.h"

namespace understudy {

inline std::string manifest_path(const std::string& store) { return store + "/MANIFEST"; }
inline std::string lock_path(const std::string& store) { return store + "/lock"; }
inline std::string journal_path(const std::string& store) { return store + "/journal"; }
inline std::string runs_path(const std::string& store) { return store + "/runs"; }
inline std::string pins_path(const std::string& store) { return store + "/pins"; }
inline std::string default_base_path(const std::string& store) { return store + "/base"; }

inline std::string base_image_name(std::uint16_t disk) { return std::to_string(disk) + ".img"; }

inline std::string segment_name(Seq first_seq) {
  char name[32];
  std::snprintf(name, sizeof(name), "%020llu.wal", static_cast<unsigned long long>(first_seq));
  return name;
}

// The index beside a sealed segment.
inline std::string index_name(Seq first_seq) {
  char name[32];
  std::snprintf(name, sizeof(name), "%020llu.idx", static_cast<unsigned long long>(first_seq));
  return name;
}

// First seq in the name of a segment; nullopt for any other file.
inline std::optional<Seq> parse_segment_name(std::string_view name) {
  if (name.size() != 24 || name.substr(20) != ".wal") return std::nullopt;
  return parse_unsigned(name.substr(0, 20));
}

inline std::string run_name(Seq first_seq, Seq last_seq) {
  char name[64];
  std::snprintf(name, sizeof(name), "%020llu-%020llu.run", static_cast<unsigned long long>(first_seq),
                static_cast<unsigned long long>(last_seq));
  return name;
}

// First and last seq in the name of a run; nullopt for any other file.
inline std::optional<std::pair<Seq, Seq>> parse_run_name(std::string_view name) {
  if (name.size() != 45 || name[20] != '-' || name.substr(41) != ".run") return std::nullopt;
  const std::optional<Seq> first = parse_unsigned(name.substr(0, 20));
  const std::optional<Seq> last = parse_unsigned(name.substr(21, 20));
  if (!first || !last) return std::nullopt;
  return std::pair(*first, *last);
}

}  // namespace understudy
