// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon/base/unique_fd.h"
#include "daemon/store/file_system.h"

namespace understudy {
namespace {

Error error_of(const char* operation, const std::string& path) {
  return Error::from_errno(errno, std::string(operation) + " '" + path + "'");
}

class PosixFile final : public File {
 public:
  PosixFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<std::size_t> read(std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    std::size_t done = 0;
    while (done < out.size()) {
      const ssize_t got =
          ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset_bytes + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return error_of("read", path_);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  Status write(std::uint64_t offset_bytes, std::span<const std::byte> data) override {
    while (!data.empty()) {
      const ssize_t got = ::pwrite(fd_.get(), data.data(), data.size(), static_cast<off_t>(offset_bytes));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return error_of("write", path_);
      data = data.subspan(static_cast<std::size_t>(got));
      offset_bytes += static_cast<std::uint64_t>(got);
    }
    return ok_status();
  }

  void begin_writeback(std::uint64_t offset_bytes, std::uint64_t length_bytes) override {
    (void)::sync_file_range(fd_.get(), static_cast<off64_t>(offset_bytes), static_cast<off64_t>(length_bytes),
                            SYNC_FILE_RANGE_WRITE);
  }
  Status sync() override { return ::fdatasync(fd_.get()) == 0 ? ok_status() : error_of("fdatasync", path_); }

  Status truncate(std::uint64_t size_bytes) override {
    return ::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) == 0 ? ok_status() : error_of("truncate", path_);
  }

  Result<std::uint64_t> size() const override {
    struct stat info;
    if (::fstat(fd_.get(), &info) != 0) return error_of("stat", path_);
    return static_cast<std::uint64_t>(info.st_size);
  }

  Result<std::uint64_t> allocated_bytes() const override {
    struct stat info;
    if (::fstat(fd_.get(), &info) != 0) return error_of("stat", path_);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
  }

  Status write_zeros(std::uint64_t offset_bytes, std::uint64_t length_bytes) override {
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(offset_bytes), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return ok_status();  // only a hole from here on
    if (data >= 0 && static_cast<std::uint64_t>(data) >= offset_bytes + length_bytes) return ok_status();
    if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset_bytes),
                    static_cast<off_t>(length_bytes)) == 0)
      return ok_status();
    if (errno != EOPNOTSUPP) return error_of("punch hole in", path_);
    static const std::vector<std::byte> kZeros(1 << 20);
    while (length_bytes > 0) {
      const std::uint64_t piece = std::min<std::uint64_t>(length_bytes, kZeros.size());
      RETURN_IF_ERROR(write(offset_bytes, std::span(kZeros).first(piece)));
      offset_bytes += piece;
      length_bytes -= piece;
    }
    return ok_status();
  }

 private:
  UniqueFd fd_;
  std::string path_;
};

class PosixLock final : public FileLock {
 public:
  explicit PosixLock(UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  UniqueFd fd_;
};

// "<pid> <program>" as the holder wrote it, for the error only.
std::string holder_of(int fd) {
  char text[128];
  const ssize_t got = ::pread(fd, text, sizeof(text), 0);
  std::string holder(text, got > 0 ? static_cast<std::size_t>(got) : 0);
  for (char& c : holder)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  while (!holder.empty() && holder.back() == ' ') holder.pop_back();
  return holder.empty() ? "another process" : "process " + holder;
}

class PosixFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, FileMode mode) override {
    const int flags = mode == FileMode::kRead    ? O_RDONLY
                      : mode == FileMode::kWrite ? O_RDWR
                                                 : O_RDWR | O_CREAT | O_EXCL;
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, 0600));
    if (!fd.valid()) return error_of(mode == FileMode::kCreate ? "create" : "open", path);
    return std::unique_ptr<File>(std::make_unique<PosixFile>(std::move(fd), path));
  }

  Status rename(const std::string& from, const std::string& to) override {
    return ::rename(from.c_str(), to.c_str()) == 0 ? ok_status() : error_of("rename", from);
  }

  Status remove(const std::string& path) override {
    return ::unlink(path.c_str()) == 0 ? ok_status() : error_of("remove", path);
  }

  Status make_directory(const std::string& path) override {
    if (::mkdir(path.c_str(), 0700) == 0) return ok_status();
    const int error_number = errno;
    struct stat info;
    if (error_number == EEXIST && ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return ok_status();
    return Error::from_errno(error_number, "make directory '" + path + "'");
  }

  Status sync_directory(const std::string& path) override {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return error_of("open directory", path);
    return ::fsync(fd.get()) == 0 ? ok_status() : error_of("fsync directory", path);
  }

  Result<std::vector<std::string>> list(const std::string& path) override {
    std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), &::closedir);
    if (directory == nullptr) return error_of("list directory", path);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(directory.get())) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    if (errno != 0) return error_of("list directory", path);
    return names;
  }

  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    // Another user's: reading is enough to see whether it is held.
    if (!fd.valid() && errno == EACCES) fd = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return error_of("open lock", path);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return error_of("lock", path);
      return Error(ErrorKind::kBusy, "lock '" + path + "': held by " + holder_of(fd.get()), EWOULDBLOCK);
    }
    (void)!::fchmod(fd.get(), 0644);  // whatever the umask says; who may come here at all says the directory
    // Who holds it is only information: that it can't be written does not matter.
    const std::string holder = std::to_string(::getpid()) + " (" + program_invocation_short_name + ")\n";
    if (::ftruncate(fd.get(), 0) == 0) (void)!::pwrite(fd.get(), holder.data(), holder.size(), 0);
    return std::unique_ptr<FileLock>(std::make_unique<PosixLock>(std::move(fd)));
  }
};

}  // namespace

FileSystem& posix_file_system() {
  static PosixFileSystem file_system;
  return file_system;
}

Result<std::vector<std::byte>> read_whole_file(FileSystem& file_system, const std::string& path,
                                               std::size_t bytes_max) {
  ASSIGN_OR_RETURN(const std::unique_ptr<File> file, file_system.open(path, FileMode::kRead));
  ASSIGN_OR_RETURN(const std::uint64_t size, file->size());
  if (size > bytes_max)
    return Error(ErrorKind::kInvalidArgument, "read '" + path + "': " + std::to_string(size) + " bytes, at most " +
                                                  std::to_string(bytes_max) + " are possible");
  std::vector<std::byte> content(size);
  ASSIGN_OR_RETURN(const std::size_t got, file->read(0, content));
  content.resize(got);
  return content;
}

}  // namespace understudy
