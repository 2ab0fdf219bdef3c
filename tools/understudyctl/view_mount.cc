// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/view_mount.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "daemon/base/text.h"
#include "tools/understudyctl/mount_table.h"

namespace understudy {
namespace {

// nbdkit's overlay holds one disk, so each disk has a server of its own; the first one finds the point for all.
Status start_servers(ViewServerOptions options, OpenView& view) {
  OpenView looked_at = view;  // to learn the disks
  RETURN_IF_ERROR(start_view_server(options, "all", looked_at));
  options.overlay = true;
  options.point = "seq:" + std::to_string(looked_at.seq);
  for (const OpenViewDisk& disk : looked_at.disks) {
    options.disk = std::to_string(disk.slot);
    RETURN_IF_ERROR(start_view_server(options, *options.disk, view));
  }
  view.processes = looked_at.processes + looked_at.disks.size();
  return ok_status();
}

Result<std::vector<MountedVolume>> find_volumes_of(OpenView& view) {
  std::vector<MountedVolume> volumes;
  for (const OpenViewDisk& disk : view.disks) {
    ASSIGN_OR_RETURN(const std::string path, start_fuse(view, disk, true));
    ++view.processes;
    ASSIGN_OR_RETURN(const std::vector<ImageVolume> found, find_image_volumes(path));
    for (const ImageVolume& volume : found) {
      const std::string slot = std::to_string(disk.slot);
      volumes.push_back(
          {disk, volume, volume.partition == 0 ? slot : slot + "p" + std::to_string(volume.partition), "", ""});
      if (!volume.file_system)
        volumes.back().problem =
            volume.type.empty() ? "no known file system" : "is " + volume.type + ", no file system";
    }
  }
  return volumes;
}

std::string image_path(const OpenView& view, const MountedVolume& volume) {
  return view.directory + "/fuse-" + std::to_string(volume.disk.slot) + "/disk";
}

std::string list_of(const std::vector<MountedVolume>& volumes) {
  std::string text;
  for (const MountedVolume& volume : volumes) text += (text.empty() ? "" : "; ") + describe(volume);
  return text;
}

}  // namespace

std::string describe(const MountedVolume& volume) {
  return "disk " + std::to_string(volume.disk.slot) + " (" + volume.disk.name + ")" +
         (volume.volume.partition == 0 ? std::string() : ", partition " + std::to_string(volume.volume.partition)) +
         ": " + (volume.volume.type.empty() ? "unknown" : volume.volume.type) + ", " +
         format_bytes(volume.volume.size_bytes);
}

Result<std::vector<MountedVolume>> mount_view(ViewServerOptions options, const std::string& directory, OpenView& view) {
  std::error_code failed;
  const std::string target = std::filesystem::canonical(directory, failed).string();
  if (failed) return Error::from_errno(failed.value(), "mount point " + quote(directory));
  if (!std::filesystem::is_directory(target, failed))
    return Error(ErrorKind::kInvalidArgument, "mount point " + quote(directory) + " is no directory");
  RETURN_IF_ERROR(start_servers(std::move(options), view));
  ASSIGN_OR_RETURN(std::vector<MountedVolume> volumes, find_volumes_of(view));
  const auto wanted = [](const MountedVolume& volume) { return volume.volume.file_system; };
  const auto count = std::count_if(volumes.begin(), volumes.end(), wanted);
  if (count == 0) return Error(ErrorKind::kNotFound, "there is no file system at this point: " + list_of(volumes));
  view.mounted_at = target;
  std::vector<std::string> names;
  for (const MountedVolume& volume : volumes)
    if (wanted(volume)) names.push_back(volume.name);
  if (count > 1) RETURN_IF_ERROR(mount_frame(mount_frame_name(view.directory), target, names));
  std::size_t mounted = 0;
  for (MountedVolume& volume : volumes) {
    if (!wanted(volume)) continue;
    const std::string place = count > 1 ? target + "/" + volume.name : target;
    Status status = mount_image_volume(image_path(view, volume), volume.volume, place);
    if (status.ok()) {
      volume.directory = place;
      ++mounted;
    } else if (count == 1) {
      return std::move(status).error().with_context(describe(volume));
    } else {
      volume.problem = status.error().message();
    }
  }
  if (mounted > 0) return volumes;
  std::string problems;
  for (const MountedVolume& volume : volumes)
    if (wanted(volume)) problems += (problems.empty() ? "" : "; ") + describe(volume) + ": " + volume.problem;
  return Error(ErrorKind::kUnsupported, "none of the file systems can be mounted: " + problems);
}

}  // namespace understudy
