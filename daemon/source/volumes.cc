// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/volumes.h"

#include <blkid.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kSectorBytes = 512;

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<blkid_struct_probe, FreeProbe>;

std::string attribute(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<std::uint32_t> device_number(const std::string& text) {  // "253:1"
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) return std::nullopt;
  const auto high = parse_unsigned(std::string_view(text).substr(0, colon));
  const auto low = parse_unsigned(std::string_view(text).substr(colon + 1));
  if (!high || !low || *high >= 1u << 12 || *low >= 1u << 20) return std::nullopt;
  return static_cast<std::uint32_t>(*high << 20 | *low);
}

fs::path sysfs_of(std::uint32_t device) {
  std::error_code error;
  return fs::canonical("/sys/dev/block/" + std::to_string(device >> 20) + ":" + std::to_string(device & 0xfffff),
                       error);
}

struct Region {
  std::uint64_t begin_bytes = 0;
  std::uint64_t size_bytes = 0;
  bool overlaps(const Region& other) const {
    return begin_bytes < other.begin_bytes + other.size_bytes && other.begin_bytes < begin_bytes + size_bytes;
  }
  bool operator==(const Region&) const = default;
};

struct KernelPartition {
  std::string name;  // "vda1"
  std::uint32_t device = 0;
  Region region;
  std::vector<std::string> holders;
};

std::vector<KernelPartition> kernel_partitions(const fs::path& directory) {
  std::vector<KernelPartition> partitions;
  for (const std::string& name : names_in(directory)) {
    std::error_code error;
    if (!fs::exists(directory / name / "partition", error)) continue;
    const auto start = parse_unsigned(attribute(directory / name / "start"));
    const auto size = parse_unsigned(attribute(directory / name / "size"));
    const auto device = device_number(attribute(directory / name / "dev"));
    partitions.push_back({name,
                          device.value_or(0),
                          {start.value_or(0) * kSectorBytes, size.value_or(0) * kSectorBytes},
                          names_in(directory / name / "holders")});
  }
  return partitions;
}

// What libblkid says of a stretch of a device.
struct Signature {
  std::string type;   // empty: none, or more than one
  std::string table;  // kind of partition table
  std::vector<Region> partitions;
};

std::string value_of(blkid_probe probe, const char* name) {
  const char* value = nullptr;
  return blkid_probe_lookup_value(probe, name, &value, nullptr) == 0 && value != nullptr ? value : "";
}

std::optional<Signature> look_at(const std::string& path, Region region, bool with_table) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return std::nullopt;
  // What was read before through this node may be older than what others wrote to the medium.
  (void)::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  Probe probe(blkid_new_probe());
  if (!probe || blkid_probe_set_device(probe.get(), fd.get(), static_cast<blkid_loff_t>(region.begin_bytes),
                                       static_cast<blkid_loff_t>(region.size_bytes)) != 0) {
    return std::nullopt;
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE);
  blkid_probe_enable_partitions(probe.get(), with_table ? 1 : 0);
  Signature found;
  const int done = blkid_do_safeprobe(probe.get());
  if (done == 1) return found;  // nothing
  if (done != 0) {              // ambivalent, or an error
    found.type = done == -2 ? "ambivalent" : "";
    return found;
  }
  found.type = value_of(probe.get(), "TYPE");
  if (!with_table) return found;
  found.table = value_of(probe.get(), "PTTYPE");
  if (found.table.empty() || !found.type.empty()) return found;
  blkid_partlist list = blkid_probe_get_partitions(probe.get());
  for (int i = 0; list != nullptr && i < blkid_partlist_numof_partitions(list); ++i) {
    blkid_partition partition = blkid_partlist_get_partition(list, i);
    if (partition == nullptr || blkid_partition_is_extended(partition)) continue;
    const auto start = static_cast<std::uint64_t>(blkid_partition_get_start(partition));
    const auto size = static_cast<std::uint64_t>(blkid_partition_get_size(partition));
    found.partitions.push_back({start * kSectorBytes, size * kSectorBytes});
  }
  return found;
}

class Finder {
 public:
  Finder(const std::vector<SurveyDisk>& disks, std::vector<std::string>& remarks) : disks_(disks), remarks_(remarks) {}

  std::vector<Volume> find() {
    for (const SurveyDisk& disk : disks_) look_at_disk(disk);
    for (const std::string& holder : holders_) look_at_holder(holder);
    return std::move(volumes_);
  }

 private:
  // A protected piece that dm tables may name.
  struct Piece {
    std::uint16_t slot = 0;
    Region region;  // on the disk
  };

  void look_at_disk(const SurveyDisk& disk) {
    const fs::path directory = sysfs_of(disk.device);
    if (directory.empty()) {
      remarks_.push_back("disk " + quote(disk.path) + ": not in sysfs");
      return;
    }
    pieces_[disk.device] = {disk.slot, {0, disk.size_bytes}};
    const std::vector<KernelPartition> known = kernel_partitions(directory);
    for (const KernelPartition& partition : known) {
      if (partition.region.begin_bytes + partition.region.size_bytes <= disk.size_bytes) {
        pieces_[partition.device] = {disk.slot, partition.region};
      }
    }
    const std::vector<std::string> holders = names_in(directory / "holders");
    holders_.insert(holders.begin(), holders.end());
    for (const KernelPartition& partition : known) holders_.insert(partition.holders.begin(), partition.holders.end());
    if (!holders.empty()) return;  // a container of something else
    const auto signature = look_at(disk.path, {0, disk.size_bytes}, true);
    if (!signature) {
      remarks_.push_back("disk " + quote(disk.path) + ": its signatures cannot be read");
      return;
    }
    if (signature->table.empty()) {
      if (known.empty()) add_volume(disk, {0, disk.size_bytes}, disk.path, disk.path, 0, disk.device, signature->type);
      return;
    }
    if (!signature->type.empty()) {
      remarks_.push_back("disk " + quote(disk.path) + ": has a partition table and a signature of " +
                         quote(signature->type));
      return;
    }
    for (std::size_t i = 0; i < signature->partitions.size(); ++i) look_at_partition(disk, *signature, i, known);
  }

  void look_at_partition(const SurveyDisk& disk, const Signature& signature, std::size_t index,
                         const std::vector<KernelPartition>& known) {
    const Region region = signature.partitions[index];
    if (region.size_bytes == 0 || region.begin_bytes > disk.size_bytes ||
        region.size_bytes > disk.size_bytes - region.begin_bytes) {
      return;
    }
    for (std::size_t other = 0; other < signature.partitions.size(); ++other) {
      if (other != index && region.overlaps(signature.partitions[other])) return;
    }
    const auto same = std::find_if(known.begin(), known.end(),
                                   [&](const KernelPartition& partition) { return partition.region == region; });
    if (same == known.end()) {
      if (!known.empty()) {
        remarks_.push_back("disk " + quote(disk.path) + ": its partition table is not the one the kernel uses");
        return;
      }
      const auto within = look_at(disk.path, region, false);
      const std::string name = disk.path + " at " + format_bytes_exact(region.begin_bytes);
      if (within) add_volume(disk, region, name, disk.path, region.begin_bytes, 0, within->type);
      return;
    }
    if (!same->holders.empty()) return;
    const std::string path = "/dev/" + same->name;
    const auto within = look_at(disk.path, region, false);
    if (within) add_volume(disk, region, path, disk.path, region.begin_bytes, same->device, within->type);
  }

  void add_volume(const SurveyDisk& disk, Region region, std::string name, std::string path, std::uint64_t begin_bytes,
                  std::uint32_t device, std::string type) {
    Volume volume;
    volume.name = std::move(name);
    volume.path = std::move(path);
    volume.begin_bytes = begin_bytes;
    volume.size_bytes = region.size_bytes;
    volume.device = device;
    volume.type = std::move(type);
    volume.segments.push_back({0, disk.slot, region.begin_bytes, region.size_bytes});
    volumes_.push_back(std::move(volume));
  }

  // A dm device of linear pieces only; anything else is passed over.
  void look_at_holder(const std::string& holder) {
    const fs::path directory = fs::path("/sys/block") / holder;
    const auto device = device_number(attribute(directory / "dev"));
    const std::string dm_name = attribute(directory / "dm" / "name");
    if (!device || dm_name.empty() || !names_in(directory / "holders").empty()) return;
    if (attribute(directory / "dm" / "suspended") == "1") return;
    const auto table = dm_table(*device);
    if (!table.ok()) {
      remarks_.push_back("volume " + quote(dm_name) + ": " + table.error().message());
      return;
    }
    Volume volume;
    volume.name = "/dev/mapper/" + dm_name;
    volume.path = "/dev/" + holder;
    volume.device = *device;
    for (const DmTarget& target : *table) {
      if (!add_target(target, volume)) return;
    }
    volume.table = *table;
    const auto within = look_at(volume.path, {0, volume.size_bytes}, true);
    if (!within || !within->table.empty()) return;  // partitions within a logical volume: data
    volume.type = within->type;
    volumes_.push_back(std::move(volume));
  }

  bool add_target(const DmTarget& target, Volume& volume) {
    if (target.type != "linear" || target.start_bytes != volume.size_bytes) return false;
    const std::size_t blank = target.parameters.find(' ');
    if (blank == std::string::npos) return false;
    const auto below = device_number(target.parameters.substr(0, blank));
    const auto sector = parse_unsigned(std::string_view(target.parameters).substr(blank + 1));
    if (!below || !sector || *sector > UINT64_MAX / kSectorBytes) return false;
    volume.size_bytes += target.length_bytes;
    const auto piece = pieces_.find(*below);
    if (piece == pieces_.end()) {
      volume.complete = false;
      return true;
    }
    const std::uint64_t offset_bytes = *sector * kSectorBytes;
    const Region& region = piece->second.region;
    if (offset_bytes > region.size_bytes || target.length_bytes > region.size_bytes - offset_bytes) return false;
    volume.segments.push_back(
        {target.start_bytes, piece->second.slot, region.begin_bytes + offset_bytes, target.length_bytes});
    return true;
  }

  const std::vector<SurveyDisk>& disks_;
  std::vector<std::string>& remarks_;
  std::vector<Volume> volumes_;
  std::map<std::uint32_t, Piece> pieces_;
  std::set<std::string> holders_;
};

}  // namespace

std::vector<Volume> find_volumes(const std::vector<SurveyDisk>& disks, std::vector<std::string>& remarks) {
  return Finder(disks, remarks).find();
}

bool unchanged(const Volume& volume) {
  if (volume.table.empty()) return true;
  const auto table = dm_table(volume.device);
  return table.ok() && *table == volume.table;
}

ExtentList on_disk(const Volume& volume, const ExtentList& extents, std::uint16_t slot) {
  std::vector<Extent> found;
  for (const VolumeSegment& segment : volume.segments) {
    if (segment.slot != slot) continue;
    for (const Extent& part : intersected(extents, {{segment.volume_offset_bytes, segment.length_bytes}})) {
      found.push_back({part.offset_bytes - segment.volume_offset_bytes + segment.disk_offset_bytes, part.length_bytes});
    }
  }
  return normalized(std::move(found));
}

}  // namespace understudy
