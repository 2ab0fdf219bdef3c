// SPDX-License-Identifier: Apache-2.0
// The few operating system calls the store makes, behind an interface so that tests can fail each of them, run out of
// space and cut the power. All writes of a file system are lost by a power cut until sync() of the file, and, for
// created, renamed and removed names, sync_directory(), has returned.
//
// Threads: a File may be read from several threads while one writes; a FileSystem may be used from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace understudy {

class File {
 public:
  virtual ~File() = default;
  // Fills `out` from `offset_bytes`; returns how many bytes there were before the end of the file.
  virtual Result<std::size_t> read(std::uint64_t offset_bytes, std::span<std::byte> out) const = 0;
  // Writes all of `data`. After an error an unknown part of it may have been written.
  virtual Status write(std::uint64_t offset_bytes, std::span<const std::byte> data) = 0;
  // Asks for a written range to be brought to the device from now on (sync_file_range(2)), so that a sync() soon after
  // waits for less. Promises nothing.
  virtual void begin_writeback(std::uint64_t /*offset_bytes*/, std::uint64_t /*length_bytes*/) {}
  // Makes written data and the size durable (fdatasync).
  virtual Status sync() = 0;
  virtual Status truncate(std::uint64_t size_bytes) = 0;
  virtual Result<std::uint64_t> size() const = 0;
  // Bytes that take up space.
  virtual Result<std::uint64_t> allocated_bytes() const = 0;
  // Makes a range read as zeros without taking up space where that can be done.
  virtual Status write_zeros(std::uint64_t offset_bytes, std::uint64_t length_bytes) = 0;
};

enum class FileMode : std::uint8_t {
  kRead,
  kWrite,   // read and write, must exist
  kCreate,  // read and write, must not exist
};

// Held until destroyed.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, FileMode mode) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status remove(const std::string& path) = 0;
  // Existing directories are fine; parents must exist.
  virtual Status make_directory(const std::string& path) = 0;
  virtual Status sync_directory(const std::string& path) = 0;
  // Names in a directory, unsorted, without "." and "..".
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;
  // Exclusive among processes; kBusy names the holder's pid and program.
  virtual Result<std::unique_ptr<FileLock>> lock(const std::string& path) = 0;
};

// The machine's.
FileSystem& posix_file_system();

// A small file as a whole; kInvalidArgument when it is longer than `bytes_max`.
Result<std::vector<std::byte>> read_whole_file(FileSystem& file_system, const std::string& path, std::size_t bytes_max);

}  // namespace understudy
