// SPDX-License-Identifier: Apache-2.0
// What an operator should know of the disks (source warnings).
#include <algorithm>
#include <cstdio>

#include "daemon/base/text.h"
#include "daemon/source/survey.h"

namespace understudy {
namespace {

// File systems below this much free space grow, move and fragment so much that restores and drills suffer.
constexpr std::uint64_t kFreePercentMin = 15;

bool has_directory(const FileSystemFacts& volume, std::string_view directory) {
  return std::find(volume.directories.begin(), volume.directories.end(), directory) != volume.directories.end();
}

bool is_known_kind(const std::string& type) {
  // vfat: the EFI system partition.
  return type.starts_with("ext") || type == "xfs" || type == "swap" || type == "vfat" || type.empty();
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

void judge_volume(const FileSystemFacts& volume, bool leave_out_swap, std::vector<Finding>& findings) {
  if (volume.type.empty() || volume.type == "ambivalent") {
    findings.push_back({"no-file-system", quote(volume.name) + " holds nothing that is known here: all of it is copied",
                        "nothing to do when an application uses it directly"});
  } else if (volume.type.ends_with("_member")) {
    findings.push_back({"not-left-out",
                        quote(volume.name) + " is a " + quote(volume.type) + " that is not active: all of it is copied",
                        "activate it before the first copy, or remove it"});
  } else if (!is_known_kind(volume.type)) {
    findings.push_back({"file-system-kind",
                        quote(volume.name) + " holds " + quote(volume.type) + ": all of it is copied, used or not",
                        "ext4 and XFS are copied by what they use, and are what is tested"});
  }
  if (volume.type == "swap" && !leave_out_swap) {
    findings.push_back(
        {"swap-copied", quote(volume.name) + " is swap space, and is copied",
         "its content means nothing after a restore: set copy.leave_out_swap: true, or keep swap on a disk "
         "that is not protected"});
  }
  if (!volume.complete) {
    findings.push_back({"volume-elsewhere", quote(volume.name) + " lies partly on disks that are not protected",
                        "protect all disks of its volume group, or it cannot be restored"});
  }
  if (volume.size_bytes != 0 && volume.available_bytes < volume.size_bytes / 100 * kFreePercentMin) {
    findings.push_back(
        {"low-free-space",
         quote(volume.name) +
             (volume.directories.empty() ? "" : ", mounted on " + quote(volume.directories.front()) + ",") + " has " +
             percent(volume.available_bytes, volume.size_bytes) + " of " + format_bytes(volume.size_bytes) + " free",
         "keep " + std::to_string(kFreePercentMin) + " % free"});
  }
}

}  // namespace

std::vector<Finding> judge(const std::vector<FileSystemFacts>& volumes, const std::vector<MountPoint>& mounts,
                           bool leave_out_swap) {
  std::vector<Finding> findings;
  for (const FileSystemFacts& volume : volumes) judge_volume(volume, leave_out_swap, findings);
  const auto is_protected = [&](std::string_view directory) {
    return std::any_of(volumes.begin(), volumes.end(),
                       [&](const FileSystemFacts& volume) { return has_directory(volume, directory); });
  };
  const bool own_boot =
      std::any_of(mounts.begin(), mounts.end(), [](const MountPoint& mount) { return mount.directory == "/boot"; });
  if (!is_protected("/")) {
    findings.push_back({"root-elsewhere", "'/' is on none of the protected disks",
                        "a restore of these disks alone does not boot: protect the disk of '/' too, or see to a system "
                        "to use them with"});
  } else if (own_boot && !is_protected("/boot")) {
    findings.push_back({"boot-elsewhere", "'/boot' is on another disk than '/', which is not protected",
                        "protect that disk too, or move '/boot': what is restored does not boot without it"});
  }
  return findings;
}

}  // namespace understudy
