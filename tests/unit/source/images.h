// SPDX-License-Identifier: Apache-2.0
// File systems of many kinds in image files, made by the programs that administrators use, without root.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/source/extents.h"
#include "daemon/source/volume_reader.h"

namespace understudy {

// What a command prints; its failure is a failure of the test.
std::string output_of(const std::string& command);

// A tree of files to fill a file system with: some hundred small ones and a few large ones. Its path.
std::string make_tree(const std::string& directory);

// An image with an ext file system; `options` for mke2fs. Some of its files are deleted again, so that it has holes.
std::string make_ext(const std::string& directory, const std::string& options, std::uint64_t size_bytes);
std::string make_xfs(const std::string& directory, const std::string& options, std::uint64_t size_bytes);

// Free extents as the tools of the file system itself list them.
ExtentList free_by_dumpe2fs(const std::string& image);
ExtentList free_by_xfs_db(const std::string& image);  // and blocks of the AG free lists, which xfs_db counts as free
std::uint64_t blocks_in_xfs_free_lists(const std::string& image);

// A file in memory, to be damaged.
class MemoryVolume final : public VolumeReader {
 public:
  explicit MemoryVolume(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  Status read(std::uint64_t offset_bytes, std::span<std::byte> out) override;
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

std::vector<std::byte> bytes_of_file(const std::string& path);

}  // namespace understudy
