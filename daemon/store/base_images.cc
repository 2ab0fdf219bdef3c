// SPDX-License-Identifier: Apache-2.0
#include "daemon/store/base_images.h"

#include "daemon/base/limits.h"
#include "daemon/store/store_paths.h"

namespace understudy {

BaseImages::BaseImages(FileSystem& file_system, std::string directory)
    : file_system_(file_system), directory_(std::move(directory)) {}

Status BaseImages::open_existing() {
  for (std::uint16_t disk = 0; disk < kDisksMax; ++disk) {
    Result<std::unique_ptr<File>> file = file_system_.open(directory_ + "/" + base_image_name(disk), FileMode::kWrite);
    if (!file.ok()) {
      if (file.error().kind() == ErrorKind::kNotFound) continue;
      return std::move(file).error();
    }
    ASSIGN_OR_RETURN(const std::uint64_t size, (*file)->size());
    images_[disk] = Image{std::move(*file), size, true};
    dirty_ = true;
    names_dirty_ = true;
  }
  return ok_status();
}

Result<BaseImages::Image*> BaseImages::image_of(const DiskGeometry& disk) {
  Image& image = images_[disk.disk];
  if (image.file == nullptr) {
    const std::string path = directory_ + "/" + base_image_name(disk.disk);
    Result<std::unique_ptr<File>> file = file_system_.open(path, FileMode::kCreate);
    if (!file.ok()) {
      images_.erase(disk.disk);
      return std::move(file).error();
    }
    image.file = std::move(*file);
    names_dirty_ = true;
    dirty_ = true;
  }
  if (image.size_bytes < disk.size_bytes) {  // grows with the disk, never shrinks: older points may need the end
    RETURN_IF_ERROR(image.file->truncate(disk.size_bytes));
    image.size_bytes = disk.size_bytes;
  }
  return &image;
}

Status BaseImages::write(const Record& copy, const DiskGeometry& disk) {
  ASSIGN_OR_RETURN(Image * image, image_of(disk));
  image->dirty = true;
  dirty_ = true;
  if ((copy.flags & kRecordZeros) != 0) return image->file->write_zeros(copy.offset_bytes, copy.length_bytes);
  return image->file->write(copy.offset_bytes, copy.payload);
}

Status BaseImages::sync() {
  for (auto& [disk, image] : images_) {
    if (!image.dirty) continue;
    RETURN_IF_ERROR(image.file->sync());
    image.dirty = false;
  }
  if (names_dirty_) RETURN_IF_ERROR(file_system_.sync_directory(directory_));
  names_dirty_ = false;
  dirty_ = false;
  return ok_status();
}

Result<std::uint64_t> BaseImages::allocated_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [disk, image] : images_) {
    ASSIGN_OR_RETURN(const std::uint64_t allocated, image.file->allocated_bytes());
    bytes += allocated;
  }
  return bytes;
}

}  // namespace understudy
