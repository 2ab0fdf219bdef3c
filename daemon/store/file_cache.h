// SPDX-License-Identifier: Apache-2.0
// Files that are read now and then, of which only some are open at a time: the least recently used one is closed for a
// new one and opened again when it is needed. Thread-safe.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "daemon/store/file_system.h"

namespace understudy {

class FileCache {
 public:
  FileCache(FileSystem& file_system, std::size_t open_max) : file_system_(file_system), open_max_(open_max) {}

  // The result stays open while it is held.
  Result<std::shared_ptr<const File>> open(const std::string& path) {
    const std::lock_guard lock(mutex_);
    const auto it = places_.find(path);
    if (it != places_.end()) {
      files_.splice(files_.begin(), files_, it->second);
      return files_.front().second;
    }
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, file_system_.open(path, FileMode::kRead));
    files_.emplace_front(path, std::shared_ptr<const File>(std::move(file)));
    places_[path] = files_.begin();
    if (files_.size() > open_max_) {
      places_.erase(files_.back().first);
      files_.pop_back();
    }
    return files_.front().second;
  }
  // The next open() finds what has taken this file's place.
  void forget(const std::string& path) {
    const std::lock_guard lock(mutex_);
    const auto it = places_.find(path);
    if (it == places_.end()) return;
    files_.erase(it->second);
    places_.erase(it);
  }

 private:
  using Files = std::list<std::pair<std::string, std::shared_ptr<const File>>>;
  FileSystem& file_system_;
  const std::size_t open_max_;
  std::mutex mutex_;
  Files files_;  // newest use first
  std::map<std::string, Files::iterator> places_;
};

// A file of such a cache, for reading.
class CachedFile final : public File {
 public:
  CachedFile(std::shared_ptr<FileCache> cache, std::string path) : cache_(std::move(cache)), path_(std::move(path)) {}

  Result<std::size_t> read(std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, cache_->open(path_));
    return file->read(offset_bytes, out);
  }
  Result<std::uint64_t> size() const override {
    ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, cache_->open(path_));
    return file->size();
  }
  Result<std::uint64_t> allocated_bytes() const override {
    ASSIGN_OR_RETURN(const std::shared_ptr<const File> file, cache_->open(path_));
    return file->allocated_bytes();
  }
  Status write(std::uint64_t, std::span<const std::byte>) override { return read_only(); }
  Status sync() override { return read_only(); }
  Status truncate(std::uint64_t) override { return read_only(); }
  Status write_zeros(std::uint64_t, std::uint64_t) override { return read_only(); }

 private:
  static Error read_only() { return Error(ErrorKind::kPermission, "the file is only read"); }
  std::shared_ptr<FileCache> cache_;
  std::string path_;
};

}  // namespace understudy
