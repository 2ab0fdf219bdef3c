// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "daemon/base/unique_fd.h"

namespace understudy {

namespace {

Status write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return Error::from_errno(errno, "write '" + path + "'");
    }
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return ok_status();
}

Status fill_and_rename(int fd, const std::string& temporary, const std::string& path, std::string_view content,
                       mode_t mode) {
  // fchmod and not the mode of open(2): the umask must not take part.
  if (::fchmod(fd, mode) != 0) return Error::from_errno(errno, "set mode of '" + temporary + "'");
  RETURN_IF_ERROR(write_all(fd, content, temporary));
  if (::fsync(fd) != 0) return Error::from_errno(errno, "fsync '" + temporary + "'");
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return Error::from_errno(errno, "rename '" + temporary + "' to '" + path + "'");
  }
  return ok_status();
}

}  // namespace

std::string parent_directory(std::string_view path) {
  const auto slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  if (slash == 0) return "/";
  return std::string(path.substr(0, slash));
}

Status fsync_directory(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open directory '" + directory + "'");
  if (::fsync(fd.get()) != 0) return Error::from_errno(errno, "fsync directory '" + directory + "'");
  return ok_status();
}

Status write_file_atomically(const std::string& path, std::string_view content, mode_t mode) {
  std::string temporary = path + ".new-XXXXXX";
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "create a file beside '" + path + "'");
  if (Status status = fill_and_rename(fd.get(), temporary, path, content, mode); !status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return fsync_directory(parent_directory(path));
}

Status write_file_atomically(const std::string& path, std::span<const std::byte> content, mode_t mode) {
  return write_file_atomically(path, std::string_view(reinterpret_cast<const char*>(content.data()), content.size()),
                               mode);
}

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open '" + path + "'");
  std::string content;
  char buffer[16384];
  for (;;) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof(buffer));
    if (count < 0) {
      if (errno == EINTR) continue;
      return Error::from_errno(errno, "read '" + path + "'");
    }
    if (count == 0) return content;
    if (content.size() + static_cast<std::size_t>(count) > bytes_max) {
      return Error(ErrorKind::kInvalidArgument,
                   "read '" + path + "': longer than the allowed " + std::to_string(bytes_max) + " bytes");
    }
    content.append(buffer, static_cast<std::size_t>(count));
  }
}

}  // namespace understudy
