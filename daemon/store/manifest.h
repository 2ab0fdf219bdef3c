// SPDX-License-Identifier: Apache-2.0
// MANIFEST: what a store is. Lines of text with a checksum line at the end (FORMAT.md), replaced atomically.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/checksum.h"
#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/store.h"

namespace understudy {

inline constexpr std::uint32_t kManifestVersion = 1;
inline constexpr std::uint32_t kManifestIncompatibleKnown = 1;
// There are runs: segments that they stand for may be missing.
inline constexpr std::uint32_t kManifestHasRuns = 1;
inline constexpr std::size_t kManifestBytesMax = 1 << 20;

// A run that stands for a stretch of the stream instead of its segments.
struct ManifestRun {
  Seq first_seq = 0;
  Seq last_seq = 0;
  std::uint64_t file_bytes = 0;
  Sha256Digest digest{};  // of the file
  bool operator==(const ManifestRun&) const = default;
};

struct Manifest {
  Uuid store;  // of this store, to tell copies of one server's stream apart
  StoreIdentity identity;
  std::string base_directory;  // empty = "base" beside the MANIFEST
  std::uint64_t segment_bytes_max = 0;
  Seq durable_seq = 0;            // everything up to here was durable when this was written; a lower bound
  std::uint64_t layout = 0;       // counts the changes of `runs`
  std::vector<ManifestRun> runs;  // in order, not overlapping
  std::uint32_t compatible_flags = 0;
  std::uint32_t incompatible_flags = 0;
};

// Whether a run stands for record `seq`.
bool is_in_run(const Manifest& manifest, Seq seq);

std::string encode_manifest(const Manifest& manifest);
// kCorrupt when damaged, kUnsupported (named) for a newer version or unknown incompatible flags.
Result<Manifest> decode_manifest(std::span<const std::byte> text);

Result<Manifest> read_manifest(FileSystem& file_system, const std::string& directory);
// New file, fsync, rename, fsync of the directory.
Status write_manifest(FileSystem& file_system, const std::string& directory, const Manifest& manifest);

}  // namespace understudy
