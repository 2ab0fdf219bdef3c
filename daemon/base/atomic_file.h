// SPDX-License-Identifier: Apache-2.0
// Whole small files: read with a bound, replaced so that a crash leaves either the old or the new content.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace understudy {

// Replaces `path` by `content`: writes a new file beside it, fsyncs it, renames it over `path`, fsyncs the directory.
// The file gets exactly `mode`. On an error the old file stands unchanged and no file is left behind, except that a
// failed fsync of the directory leaves the new content in place without proof that it survives a crash.
Status write_file_atomically(const std::string& path, std::string_view content, mode_t mode = 0600);
Status write_file_atomically(const std::string& path, std::span<const std::byte> content, mode_t mode = 0600);

// The whole file. kInvalidArgument when it is longer than `bytes_max`; works for /proc and /sys files, too.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max);

// Makes the entries of a directory durable (after create, rename or unlink in it).
Status fsync_directory(const std::string& directory);

// "/a/b" -> "/a", "b" -> ".", "/a" -> "/".
std::string parent_directory(std::string_view path);

}  // namespace understudy
