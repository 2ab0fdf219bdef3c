// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/whole_disks.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "daemon/base/atomic_file.h"
#include "daemon/base/text.h"

namespace understudy {

namespace {

namespace fs = std::filesystem;

// Loop on file on loop on ...: deeper is not followed.
constexpr int kDepthMax = 16;

std::uint64_t kernel_dev(unsigned major_number, unsigned minor_number) {
  return (std::uint64_t{major_number} << 20) | minor_number;
}

// "8:1" -> 8, 1; false when it is not of this form.
bool parse_numbers(std::string text, unsigned& major_number, unsigned& minor_number) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) return false;
  const auto first = parse_unsigned(std::string_view(text).substr(0, colon));
  const auto second = parse_unsigned(std::string_view(text).substr(colon + 1));
  if (!first || !second) return false;
  major_number = static_cast<unsigned>(*first);
  minor_number = static_cast<unsigned>(*second);
  return true;
}

class Walk {
 public:
  void add_path(std::string path, int depth) {
    if (depth > kDepthMax) return;
    struct stat status;
    while (::stat(path.c_str(), &status) != 0) {
      const std::string parent = parent_directory(path);
      if (parent == path) return;
      path = parent;
    }
    if (S_ISBLK(status.st_mode)) {
      add_device(major(status.st_rdev), minor(status.st_rdev), depth);
    } else if (major(status.st_dev) != 0) {
      add_device(major(status.st_dev), minor(status.st_dev), depth);
    } else {
      add_anonymous(minor(status.st_dev), depth);
    }
  }

  std::vector<std::uint64_t> disks() const { return {disks_.begin(), disks_.end()}; }

 private:
  void add_device(unsigned major_number, unsigned minor_number, int depth) {
    if (depth > kDepthMax) return;
    std::error_code error;
    fs::path node =
        fs::canonical("/sys/dev/block/" + std::to_string(major_number) + ":" + std::to_string(minor_number), error);
    if (error) return;
    if (fs::exists(node / "partition", error)) node = node.parent_path();
    const auto numbers = read_file((node / "dev").string(), 64);
    if (!numbers.ok() || !parse_numbers(*numbers, major_number, minor_number)) return;
    if (!disks_.insert(kernel_dev(major_number, minor_number)).second) return;
    add_slaves(node, depth);
    if (const auto file = read_file((node / "loop/backing_file").string(), 8192); file.ok()) {
      std::string path = *file;
      while (!path.empty() && path.back() == '\n') path.pop_back();
      add_path(path, depth + 1);
    }
  }

  void add_slaves(const fs::path& node, int depth) {
    std::error_code error;
    for (const auto& slave : fs::directory_iterator(node / "slaves", error)) {
      unsigned major_number = 0;
      unsigned minor_number = 0;
      const auto numbers = read_file((slave.path() / "dev").string(), 64);
      if (numbers.ok() && parse_numbers(*numbers, major_number, minor_number)) {
        add_device(major_number, minor_number, depth + 1);
      }
    }
  }

  // File systems with a device number of their own (btrfs, overlayfs): the mount table knows where they come from.
  void add_anonymous(unsigned minor_number, int depth) {
    std::ifstream mounts("/proc/self/mountinfo");
    std::string line;
    while (std::getline(mounts, line)) {
      std::istringstream fields(line);
      std::string id, parent, device, word, type, source;
      fields >> id >> parent >> device;
      if (device != "0:" + std::to_string(minor_number)) continue;
      while (fields >> word && word != "-") {
      }
      fields >> type >> source;
      if (source.starts_with("/dev/")) add_path(source, depth + 1);
      if (type == "overlay") add_overlay(line, depth);
    }
  }

  // What is written to an overlay lands in its upper directory.
  void add_overlay(const std::string& line, int depth) {
    constexpr std::string_view kKey = "upperdir=";
    const std::size_t begin = line.find(kKey);
    if (begin == std::string::npos) return;
    const std::size_t from = begin + kKey.size();
    add_path(line.substr(from, line.find(',', from) - from), depth + 1);
  }

  std::set<std::uint64_t> disks_;
};

}  // namespace

std::vector<std::uint64_t> whole_disks_under(const std::string& path) {
  Walk walk;
  walk.add_path(path, 0);
  return walk.disks();
}

}  // namespace understudy
