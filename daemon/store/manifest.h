// SPDX-License-Identifier: Apache-2.0
// MANIFEST: what a store is. Lines of text with a checksum line at the end (FORMAT.md), replaced atomically.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/store.h"

namespace understudy {

inline constexpr std::uint32_t kManifestVersion = 1;
inline constexpr std::uint32_t kManifestIncompatibleKnown = 0;
inline constexpr std::size_t kManifestBytesMax = 16 << 10;

struct Manifest {
  Uuid store;  // of this store, to tell copies of one server's stream apart
  StoreIdentity identity;
  std::string base_directory;  // empty = "base" beside the MANIFEST
  std::uint64_t segment_bytes_max = 0;
  Seq durable_seq = 0;  // everything up to here was durable when this was written; a lower bound
  std::uint32_t compatible_flags = 0;
  std::uint32_t incompatible_flags = 0;
};

std::string encode_manifest(const Manifest& manifest);
// kCorrupt when damaged, kUnsupported (named) for a newer version or unknown incompatible flags.
Result<Manifest> decode_manifest(std::span<const std::byte> text);

Result<Manifest> read_manifest(FileSystem& file_system, const std::string& directory);
// New file, fsync, rename, fsync of the directory.
Status write_manifest(FileSystem& file_system, const std::string& directory, const Manifest& manifest);

}  // namespace understudy
