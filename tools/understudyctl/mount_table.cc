// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/mount_table.h"

#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "daemon/base/atomic_file.h"
#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

constexpr std::size_t kTableBytesMax = 16 << 20;
constexpr std::size_t kPathBytesMax = 8192;
constexpr std::uint64_t kLoopReleaseNs = 5'000'000'000;
constexpr unsigned kPollUs = 5'000;

// "\040" and the like.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7' ? text[at] - '0' : -1;
    };
    if (text[i] == '\\' && digit(i + 1) >= 0 && digit(i + 2) >= 0 && digit(i + 3) >= 0) {
      out += static_cast<char>(digit(i + 1) * 64 + digit(i + 2) * 8 + digit(i + 3));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool is_inside(const std::string& path, const std::string& directory) { return path.starts_with(directory + "/"); }

bool is_loop_on(const std::string& source, const std::string& directory) {
  if (!source.starts_with("/dev/loop")) return false;
  const Result<std::string> file = read_file("/sys/block/" + source.substr(5) + "/loop/backing_file", kPathBytesMax);
  return file.ok() && is_inside(*file, directory);
}

bool stems_from(const MountEntry& mount, const std::string& directory) {
  return is_loop_on(mount.source, directory) || mount.source == mount_frame_name(directory) ||
         (mount.type.starts_with("fuse") && is_inside(mount.directory, directory));
}

// The kernel lets go of a loop device, and so of the file below it, a moment after its file system was unmounted (and
// only when nobody else, udev for one, is looking at it).
bool try_unmount(const MountEntry& mount) {
  const std::uint64_t deadline = system_clock().boot_ns() + (mount.type.starts_with("fuse") ? kLoopReleaseNs : 0);
  while (::umount2(mount.directory.c_str(), UMOUNT_NOFOLLOW) != 0) {
    if (errno != EBUSY || system_clock().boot_ns() >= deadline) return false;
    ::usleep(kPollUs);
  }
  return true;
}

}  // namespace

std::vector<MountEntry> parse_mount_table(std::string_view text) {
  std::vector<MountEntry> entries;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    // id parent major:minor root directory options [fields...] - type source options
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream front(line.substr(0, dash));
    std::istringstream back(line.substr(dash + 3));
    std::string skipped, directory, type, source;
    for (int i = 0; i < 4; ++i) front >> skipped;
    if (!(front >> directory) || !(back >> type >> source)) continue;
    entries.push_back({unescape(directory), type, unescape(source)});
  }
  return entries;
}

std::string mount_frame_name(const std::string& directory) { return "understudy:" + directory; }

Status unmount_all_of(const std::string& directory, bool by_force) {
  ASSIGN_OR_RETURN(const std::string table, read_file("/proc/self/mountinfo", kTableBytesMax));
  const std::vector<MountEntry> entries = parse_mount_table(table);
  for (auto mount = entries.rbegin(); mount != entries.rend(); ++mount) {
    if (!stems_from(*mount, directory)) continue;
    if (try_unmount(*mount)) continue;
    if (by_force && ::umount2(mount->directory.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) == 0) continue;
    if (errno == EBUSY)
      return Error(ErrorKind::kBusy, quote(mount->directory) +
                                         " is in use; end what uses it ('fuser -vm' shows it) or "
                                         "repeat with --force");
    return Error::from_errno(errno, "unmount " + quote(mount->directory));
  }
  return ok_status();
}

}  // namespace understudy
