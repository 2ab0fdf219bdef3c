// SPDX-License-Identifier: Apache-2.0
// The base images of a store, as its writer sees them: one sparse file per disk that takes the payloads of the first
// full copy. Used by the writer thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "daemon/base/result.h"
#include "daemon/record/record.h"
#include "daemon/store/file_system.h"

namespace understudy {

class BaseImages {
 public:
  BaseImages(FileSystem& file_system, std::string directory);

  // Puts a COPY in its place: the payload, or a hole for zeros. Makes the image, as large as the disk, when needed.
  Status write(const Record& copy, const DiskGeometry& disk);
  // Makes everything written durable, and on the first call everything that was there before.
  Status sync();
  bool dirty() const { return dirty_; }
  // Images that exist already: an earlier process may have left unsynced bytes in them.
  Status open_existing();
  Result<std::uint64_t> allocated_bytes() const;

 private:
  struct Image {
    std::unique_ptr<File> file;
    std::uint64_t size_bytes = 0;
    bool dirty = false;
  };
  Result<Image*> image_of(const DiskGeometry& disk);

  FileSystem& file_system_;
  std::string directory_;
  std::map<std::uint16_t, Image> images_;
  bool dirty_ = false;
  bool names_dirty_ = false;
};

}  // namespace understudy
