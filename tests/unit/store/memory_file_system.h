// SPDX-License-Identifier: Apache-2.0
// A file system in memory that forgets what was not synced, runs full, and fails on demand: the store's real calls
// run against it, so a test can stop the store at every one of them.
//
// What a power cut leaves: synced bytes; of everything later an arbitrary part, each write torn at an arbitrary byte;
// names as of the last sync_directory(), and of later changes an arbitrary part.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "daemon/store/file_system.h"

namespace understudy {

// One change that the store asks for; numbered from 0 in the order of calls.
struct FileOperation {
  enum class Kind { kCreate, kWrite, kSync, kTruncate, kZeros, kRename, kRemove, kSyncDirectory };
  Kind kind;
  std::string path;
  std::uint64_t number = 0;
};

class MemoryFileSystem final : public FileSystem {
 public:
  struct Node;

  MemoryFileSystem();
  ~MemoryFileSystem() override;

  Result<std::unique_ptr<File>> open(const std::string& path, FileMode mode) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status make_directory(const std::string& path) override;
  Status sync_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override;

  // Called before each change; a returned error is what the store gets, and nothing happens.
  using Fault = std::function<std::optional<Error>(const FileOperation&)>;
  void set_fault(Fault fault) { fault_ = std::move(fault); }
  // Writes that would make all files together longer than this get ENOSPC after a part was written.
  void set_space(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    space_bytes_ = bytes;
  }
  std::uint64_t used_bytes() const;
  std::uint64_t operations() const { return operations_; }

  // Everything later fails, as for a process whose machine is gone, until restart().
  void cut_power() { power_ = false; }
  // The machine is back, with what the disk kept.
  void restart(std::mt19937_64& random);
  // Only the process had died: a new one finds everything that was written, synced or not.
  void restart_process();
  // What a power cut now would leave at worst: nothing but what was synced.
  std::unique_ptr<MemoryFileSystem> after_power_cut() const;

  // A byte-exact copy, for trying many things from one state.
  std::unique_ptr<MemoryFileSystem> clone() const;
  std::vector<std::byte>& content(const std::string& path);
  std::vector<std::string> paths() const;

 private:
  friend class MemoryFile;
  friend class MemoryLock;
  Status check(FileOperation::Kind kind, const std::string& path);
  Status grow_checked(Node& node, std::uint64_t offset, std::span<const std::byte> data);

  mutable std::recursive_mutex mutex_;
  std::map<std::string, std::shared_ptr<Node>> names_;
  std::map<std::string, std::shared_ptr<Node>> durable_names_;
  std::map<std::string, bool> directories_;
  std::map<const Node*, bool> locks_;
  Fault fault_;
  std::uint64_t space_bytes_ = ~std::uint64_t{0};
  std::uint64_t operations_ = 0;
  bool power_ = true;
};

}  // namespace understudy
