// SPDX-License-Identifier: Apache-2.0
// How two directories differ: names, types, modes, owners, sizes, times, extended attributes, targets of links, and the
// contents of all files (a file may change without its size or time). Other file systems mounted inside are not
// entered.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

struct TreeChange {
  enum class Kind : std::uint8_t { kAdded, kRemoved, kChanged } kind = Kind::kChanged;
  std::string path;  // below the directory; any bytes but NUL
  std::vector<std::string>
      what;  // kChanged: "type", "mode", "owner", "size", "content", "time", "target", "attributes"
  std::uint64_t old_size_bytes = 0;  // of files
  std::uint64_t new_size_bytes = 0;
  bool is_directory = false;
};

// Sorted by path. What lies in an added or removed directory is listed, too.
Result<std::vector<TreeChange>> diff_trees(const std::string& first, const std::string& second);

}  // namespace understudy
