// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/survey.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <map>

#include "daemon/base/text.h"
#include "daemon/source/ext_free_space.h"
#include "daemon/source/mounted_free_space.h"
#include "daemon/source/xfs_free_space.h"

namespace understudy {
namespace {

// Header and label of a swap area: one page, which may be as large as this.
constexpr std::uint64_t kSwapHeaderBytes = 64u << 10;

bool is_ext(const std::string& type) { return type == "ext2" || type == "ext3" || type == "ext4"; }

class Surveyor {
 public:
  Surveyor(const SurveyOptions& options, const std::atomic<bool>& cancel) : options_(options), cancel_(cancel) {
    for (const SurveyDisk& disk : options_.disks) {
      granule_bytes_min_ = std::min<std::uint64_t>(granule_bytes_min_, disk.granule_bytes);
    }
  }

  Survey run() {
    std::vector<std::string> remarks;
    const std::vector<Volume> volumes = find_volumes(options_.disks, remarks);
    if (auto mounts = read_mounts()) {
      mounts_ = *std::move(mounts);
    } else {
      // Then nothing counts as mounted: what is looks dirty, and is copied as a whole.
      remarks.push_back(mounts.error().message());
    }
    std::vector<FileSystemFacts> facts;
    for (const Volume& volume : volumes) {
      if (cancel_.load(std::memory_order_relaxed)) break;
      facts.push_back(look_at(volume, share_blocks(volume, volumes)));
    }
    for (const SurveyDisk& disk : options_.disks) {
      result_.disks.push_back(
          {disk.slot, whole_granules(normalized(free_[disk.slot]), disk.granule_bytes, disk.size_bytes)});
    }
    std::vector<Finding> findings = judge(facts, mounts_, options_.leave_out_swap);
    findings.insert(findings.end(), result_.findings.begin(), result_.findings.end());
    for (std::string& remark : remarks) findings.push_back({"not-left-out", std::move(remark), ""});
    result_.findings = std::move(findings);
    return std::move(result_);
  }

 private:
  // Volumes that lie over one another (made by hand with dmsetup): what one calls free may be the other's data.
  static bool share_blocks(const Volume& volume, const std::vector<Volume>& volumes) {
    for (const Volume& other : volumes) {
      if (&other == &volume) continue;
      for (const VolumeSegment& a : volume.segments) {
        for (const VolumeSegment& b : other.segments) {
          if (a.slot == b.slot && a.disk_offset_bytes < b.disk_offset_bytes + b.length_bytes &&
              b.disk_offset_bytes < a.disk_offset_bytes + a.length_bytes) {
            return true;
          }
        }
      }
    }
    return false;
  }

  FileSystemFacts look_at(const Volume& volume, bool shared) {
    FileSystemFacts facts;
    facts.name = volume.name;
    facts.type = volume.type;
    facts.complete = volume.complete;
    for (const MountPoint& mount : mounts_) {
      if (volume.device != 0 && mount.device == volume.device) facts.directories.push_back(mount.directory);
    }
    for (const std::string& directory : facts.directories) {
      struct stat status {};
      struct statvfs figures {};
      // Something else may be mounted over it.
      if (::stat(directory.c_str(), &status) != 0 || ::statvfs(directory.c_str(), &figures) != 0) continue;
      if ((major(status.st_dev) << 20 | minor(status.st_dev)) != volume.device) continue;
      facts.size_bytes = std::uint64_t{figures.f_blocks} * figures.f_frsize;
      facts.available_bytes = std::uint64_t{figures.f_bfree} * figures.f_frsize;
      break;
    }
    if (!options_.free_space) return facts;
    Result<ExtentList> free =
        shared ? Error(ErrorKind::kBusy, "another volume lies over it") : free_extents(volume, facts);
    if (free.ok() && !unchanged(volume)) free = Error(ErrorKind::kBusy, "its table was changed meanwhile");
    if (!free.ok()) {
      if (free.error().kind() != ErrorKind::kClosed) {
        result_.findings.push_back(
            {"not-left-out", quote(volume.name) + " (" + volume.type + ") is copied whole: " + free.error().message(),
             free.error().kind() == ErrorKind::kCorrupt ? "check the file system" : ""});
      }
      return facts;
    }
    // Nothing behind the end of the volume, whatever a file system or kernel says.
    const ExtentList within = intersected(*free, {{0, volume.size_bytes}});
    for (const SurveyDisk& disk : options_.disks) {
      const ExtentList extents = on_disk(volume, within, disk.slot);
      free_[disk.slot].insert(free_[disk.slot].end(), extents.begin(), extents.end());
    }
    return facts;
  }

  Result<ExtentList> free_extents(const Volume& volume, const FileSystemFacts& facts) {
    if (volume.type == "swap" && options_.leave_out_swap) {
      if (volume.size_bytes <= kSwapHeaderBytes) return ExtentList{};
      return ExtentList{{kSwapHeaderBytes, volume.size_bytes - kSwapHeaderBytes}};
    }
    if (!is_ext(volume.type) && volume.type != "xfs") return ExtentList{};
    // Read-only, its journal may not have been replayed: then what the kernel calls free is not what a recovery will.
    const bool writable = std::any_of(mounts_.begin(), mounts_.end(), [&](const MountPoint& mount) {
      return volume.device != 0 && mount.device == volume.device && mount.writable();
    });
    if (writable) return mounted(volume, facts);
    ASSIGN_OR_RETURN(const auto reader, open_volume(volume.path, volume.begin_bytes, volume.size_bytes, &cancel_));
    return is_ext(volume.type) ? ext_free_space(*reader, granule_bytes_min_)
                               : xfs_free_space(*reader, granule_bytes_min_);
  }

  Result<ExtentList> mounted(const Volume& volume, const FileSystemFacts& facts) {
    Error last(ErrorKind::kNotFound, "it is mounted nowhere that can be opened");
    for (const std::string& directory : facts.directories) {
      auto found = mounted_free_space(directory, volume.device, granule_bytes_min_, cancel_);
      if (found.ok()) return found;
      last = std::move(found).error();
    }
    return last;
  }

  const SurveyOptions& options_;
  const std::atomic<bool>& cancel_;
  std::uint64_t granule_bytes_min_ = UINT64_MAX;
  std::vector<MountPoint> mounts_;
  std::map<std::uint16_t, std::vector<Extent>> free_;
  Survey result_;
};

}  // namespace

std::uint64_t Survey::free_bytes() const {
  std::uint64_t bytes = 0;
  for (const DiskFreeSpace& disk : disks) bytes += total_bytes(disk.free);
  return bytes;
}

Survey survey(const SurveyOptions& options, const std::atomic<bool>& cancel) { return Surveyor(options, cancel).run(); }

ExtentList whole_granules(const ExtentList& extents, std::uint32_t granule_bytes, std::uint64_t disk_bytes) {
  ExtentList list;
  for (const Extent& extent : extents) {
    if (extent.offset_bytes >= disk_bytes) break;
    const std::uint64_t begin = (extent.offset_bytes + granule_bytes - 1) / granule_bytes * granule_bytes;
    // The last granule of a disk may be shorter; it is copied, so that nothing depends on where exactly the disk ends.
    const std::uint64_t end = std::min(extent.end_bytes(), disk_bytes) / granule_bytes * granule_bytes;
    if (end > begin) list.push_back({begin, end - begin});
  }
  return list;
}

}  // namespace understudy
