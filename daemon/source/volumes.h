// SPDX-License-Identifier: Apache-2.0
// The volumes that lie on protected disks: whole disks, partitions, logical volumes made of linear pieces; and what
// each holds by its signatures.
//
// Sources: libblkid (partition tables, signatures); sysfs (partitions, holders); <linux/dm-ioctl.h> (tables of dm
// devices). Volumes that are not understood are not listed (a container of something else, other dm targets, tables of
// which kernel and disk say different things): what lies there is data.
// Thread-safe: no state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/source/extents.h"

namespace understudy {

struct SurveyDisk {
  std::uint16_t slot = 0;
  std::string path;
  std::uint32_t device = 0;  // kernel dev_t: major << 20 | minor
  std::uint64_t size_bytes = 0;
  std::uint32_t granule_bytes = 0;
};

// A stretch of a volume, and where it lies on a protected disk.
struct VolumeSegment {
  std::uint64_t volume_offset_bytes = 0;
  std::uint16_t slot = 0;
  std::uint64_t disk_offset_bytes = 0;
  std::uint64_t length_bytes = 0;
};

// One target of a dm device.
struct DmTarget {
  std::string type;
  std::string parameters;
  std::uint64_t start_bytes = 0;
  std::uint64_t length_bytes = 0;
  bool operator==(const DmTarget&) const = default;
};

struct Volume {
  std::string name;               // for people: "/dev/vda2", "/dev/mapper/vg-root"
  std::string path;               // of the device it is read from
  std::uint64_t begin_bytes = 0;  // on that device
  std::uint64_t size_bytes = 0;
  std::uint32_t device = 0;  // by which it is mounted; 0 = the kernel does not know it as a device
  std::string type;          // libblkid's TYPE: "ext4", "xfs", "swap", "btrfs" ...; empty = no signature, or several
  std::vector<VolumeSegment> segments;  // ascending by volume_offset_bytes
  std::vector<DmTarget> table;          // of a logical volume
  bool complete = true;                 // all of it lies on protected disks
};

// In the order of the disks; logical volumes last. What could not be looked at (a device that is gone, a dm table that
// may not be read) is left out, with a line in `remarks`.
std::vector<Volume> find_volumes(const std::vector<SurveyDisk>& disks, std::vector<std::string>& remarks);

// Whether it still lies where it did: the table of a logical volume may be changed at any time.
bool unchanged(const Volume& volume);

// Extents of the volume as extents of its disk `slot`.
ExtentList on_disk(const Volume& volume, const ExtentList& extents, std::uint16_t slot);

// The live table of a dm device. kUnsupported: no device mapper.
Result<std::vector<DmTarget>> dm_table(std::uint32_t device);

}  // namespace understudy
