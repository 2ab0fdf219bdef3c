// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/tree_diff.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <set>
#include <span>

#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"

namespace understudy {
namespace {

constexpr std::size_t kReadBytes = 256 << 10;

Error error_of(const std::string& operation, const std::string& path) {
  return Error::from_errno(errno, operation + " " + quote(path));
}

Result<struct stat> look_at(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return error_of("look at", path);
  return info;
}

Result<std::set<std::string>> names_in(const std::string& directory) {
  struct Close {
    void operator()(DIR* open) const { ::closedir(open); }
  };
  const std::unique_ptr<DIR, Close> open(::opendir(directory.c_str()));
  if (open == nullptr) return error_of("read directory", directory);
  std::set<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(open.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.insert(name);
    errno = 0;
  }
  if (errno != 0) return error_of("read directory", directory);
  return names;
}

// All attributes as one text that is equal when they are.
Result<std::string> attributes_of(const std::string& path) {
  std::string names(XATTR_LIST_MAX, '\0');
  const ssize_t length = ::llistxattr(path.c_str(), names.data(), names.size());
  if (length < 0) {
    if (errno == ENOTSUP) return std::string();
    return error_of("list attributes of", path);
  }
  std::set<std::string> sorted;
  for (const char* name = names.data(); name < names.data() + length; name += std::strlen(name) + 1)
    sorted.insert(name);
  std::string all;
  std::string value(XATTR_SIZE_MAX, '\0');
  for (const std::string& name : sorted) {
    const ssize_t bytes = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (bytes < 0) return error_of("read an attribute of", path);
    all += name + '\0' + std::to_string(bytes) + ':' + value.substr(0, static_cast<std::size_t>(bytes));
  }
  return all;
}

Result<std::string> target_of(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = ::readlink(path.c_str(), target, sizeof(target));
  if (length < 0) return error_of("read link", path);
  return std::string(target, static_cast<std::size_t>(length));
}

Result<std::size_t> read_some(int fd, std::span<char> out, const std::string& path) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::read(fd, out.data() + done, out.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_of("read", path);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Result<bool> same_content(const std::string& first, const std::string& second) {
  const UniqueFd left(::open(first.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!left.valid()) return error_of("open", first);
  const UniqueFd right(::open(second.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!right.valid()) return error_of("open", second);
  std::vector<char> a(kReadBytes);
  std::vector<char> b(kReadBytes);
  while (true) {
    ASSIGN_OR_RETURN(const std::size_t bytes, read_some(left.get(), a, first));
    ASSIGN_OR_RETURN(const std::size_t others, read_some(right.get(), b, second));
    if (bytes != others || std::memcmp(a.data(), b.data(), bytes) != 0) return false;
    if (bytes < a.size()) return true;
  }
}

class TreeDiff {
 public:
  TreeDiff(std::string first, std::string second) : first_(std::move(first)), second_(std::move(second)) {}

  Status run() { return compare(""); }
  std::vector<TreeChange> take() && { return std::move(changes_); }

 private:
  // `path` is "" or begins with '/'.
  Status compare(const std::string& path) {
    ASSIGN_OR_RETURN(const struct stat old, look_at(first_ + path));
    ASSIGN_OR_RETURN(const struct stat now, look_at(second_ + path));
    TreeChange change;
    change.path = path.empty() ? "." : path.substr(1);
    change.is_directory = S_ISDIR(now.st_mode);
    if (S_ISREG(old.st_mode)) change.old_size_bytes = static_cast<std::uint64_t>(old.st_size);
    if (S_ISREG(now.st_mode)) change.new_size_bytes = static_cast<std::uint64_t>(now.st_size);
    RETURN_IF_ERROR(collect(path, old, now, change.what));
    if (!change.what.empty()) changes_.push_back(std::move(change));
    const bool was_directory = S_ISDIR(old.st_mode) && (path.empty() || !is_mount(first_, path));
    const bool is_directory = S_ISDIR(now.st_mode) && (path.empty() || !is_mount(second_, path));
    if (was_directory && is_directory) return compare_names(path);
    if (was_directory) return list_inside(first_, path, TreeChange::Kind::kRemoved);
    return is_directory ? list_inside(second_, path, TreeChange::Kind::kAdded) : ok_status();
  }

  Status compare_names(const std::string& path) {
    ASSIGN_OR_RETURN(const std::set<std::string> old, names_in(first_ + path));
    ASSIGN_OR_RETURN(std::set<std::string> all, names_in(second_ + path));
    const std::set<std::string> now = all;
    all.insert(old.begin(), old.end());
    for (const std::string& name : all) {
      const std::string below = path + "/" + name;
      if (!now.contains(name))
        RETURN_IF_ERROR(list(first_, below, TreeChange::Kind::kRemoved));
      else if (!old.contains(name))
        RETURN_IF_ERROR(list(second_, below, TreeChange::Kind::kAdded));
      else
        RETURN_IF_ERROR(compare(below));
    }
    return ok_status();
  }

  Status collect(const std::string& path, const struct stat& old, const struct stat& now,
                 std::vector<std::string>& what) const {
    if ((old.st_mode & S_IFMT) != (now.st_mode & S_IFMT)) {
      what.emplace_back("type");
      return ok_status();
    }
    if (old.st_mode != now.st_mode) what.emplace_back("mode");
    if (old.st_uid != now.st_uid || old.st_gid != now.st_gid) what.emplace_back("owner");
    if (S_ISREG(now.st_mode)) {
      if (old.st_size != now.st_size) what.emplace_back("size");
      ASSIGN_OR_RETURN(const bool same, same_content(first_ + path, second_ + path));
      if (!same) what.emplace_back("content");
    }
    if (S_ISLNK(now.st_mode)) {
      ASSIGN_OR_RETURN(const std::string old_target, target_of(first_ + path));
      ASSIGN_OR_RETURN(const std::string new_target, target_of(second_ + path));
      if (old_target != new_target) what.emplace_back("target");
    }
    if ((S_ISCHR(now.st_mode) || S_ISBLK(now.st_mode)) && old.st_rdev != now.st_rdev) what.emplace_back("device");
    // The time of a directory says no more than the names in it do.
    if (!S_ISDIR(now.st_mode) &&
        (old.st_mtim.tv_sec != now.st_mtim.tv_sec || old.st_mtim.tv_nsec != now.st_mtim.tv_nsec))
      what.emplace_back("time");
    ASSIGN_OR_RETURN(const std::string old_attributes, attributes_of(first_ + path));
    ASSIGN_OR_RETURN(const std::string new_attributes, attributes_of(second_ + path));
    if (old_attributes != new_attributes) what.emplace_back("attributes");
    return ok_status();
  }

  static bool is_mount(const std::string& root, const std::string& path) {
    struct stat top;
    struct stat here;
    return ::lstat(root.c_str(), &top) == 0 && ::lstat((root + path).c_str(), &here) == 0 && top.st_dev != here.st_dev;
  }

  Status list(const std::string& root, const std::string& path, TreeChange::Kind kind) {
    ASSIGN_OR_RETURN(const struct stat info, look_at(root + path));
    TreeChange change;
    change.kind = kind;
    change.path = path.substr(1);
    change.is_directory = S_ISDIR(info.st_mode);
    const std::uint64_t bytes = S_ISREG(info.st_mode) ? static_cast<std::uint64_t>(info.st_size) : 0;
    (kind == TreeChange::Kind::kAdded ? change.new_size_bytes : change.old_size_bytes) = bytes;
    changes_.push_back(std::move(change));
    return S_ISDIR(info.st_mode) ? list_inside(root, path, kind) : ok_status();
  }

  Status list_inside(const std::string& root, const std::string& path, TreeChange::Kind kind) {
    ASSIGN_OR_RETURN(const std::set<std::string> names, names_in(root + path));
    for (const std::string& name : names) RETURN_IF_ERROR(list(root, path + "/" + name, kind));
    return ok_status();
  }

  std::string first_;
  std::string second_;
  std::vector<TreeChange> changes_;
};

}  // namespace

Result<std::vector<TreeChange>> diff_trees(const std::string& first, const std::string& second) {
  TreeDiff diff(first, second);
  RETURN_IF_ERROR(diff.run());
  return std::move(diff).take();
}

}  // namespace understudy
