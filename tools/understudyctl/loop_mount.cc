// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/loop_mount.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"

namespace understudy {
namespace {

constexpr int kAttachTries = 64;  // others may take the free loop device before us
constexpr unsigned long kMountFlags = MS_RDONLY | MS_NODEV | MS_NOSUID;

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<blkid_struct_probe, FreeProbe>;

Result<Probe> probe_of(int fd, std::uint64_t begin_bytes, std::uint64_t size_bytes, const std::string& path) {
  Probe probe(blkid_new_probe());
  if (probe == nullptr || blkid_probe_set_device(probe.get(), fd, static_cast<blkid_loff_t>(begin_bytes),
                                                 static_cast<blkid_loff_t>(size_bytes)) != 0)
    return Error(ErrorKind::kIo, "libblkid cannot look at '" + path + "'");
  return probe;
}

std::string value_of(blkid_probe probe, const char* name) {
  const char* value = nullptr;
  return blkid_probe_lookup_value(probe, name, &value, nullptr) == 0 && value != nullptr ? value : "";
}

// Fills in type and file_system.
Status identify(int fd, const std::string& path, ImageVolume& volume) {
  ASSIGN_OR_RETURN(const Probe probe, probe_of(fd, volume.begin_bytes, volume.size_bytes, path));
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  if (blkid_do_safeprobe(probe.get()) != 0) return ok_status();  // nothing, or things that contradict each other
  volume.type = value_of(probe.get(), "TYPE");
  volume.file_system = value_of(probe.get(), "USAGE") == "filesystem";
  return ok_status();
}

Result<std::vector<ImageVolume>> partitions_of(int fd, std::uint64_t size_bytes, const std::string& path) {
  std::vector<ImageVolume> volumes;
  ASSIGN_OR_RETURN(const Probe probe, probe_of(fd, 0, size_bytes, path));
  blkid_probe_enable_superblocks(probe.get(), 0);
  blkid_probe_enable_partitions(probe.get(), 1);
  blkid_partlist list = blkid_probe_get_partitions(probe.get());
  const int count = list == nullptr ? 0 : blkid_partlist_numof_partitions(list);
  for (int i = 0; i < count; ++i) {
    blkid_partition partition = blkid_partlist_get_partition(list, i);
    if (partition == nullptr || blkid_partition_is_extended(partition) != 0) continue;
    ImageVolume volume;
    volume.partition = static_cast<unsigned>(blkid_partition_get_partno(partition));
    volume.begin_bytes = static_cast<std::uint64_t>(blkid_partition_get_start(partition)) * 512;
    volume.size_bytes = static_cast<std::uint64_t>(blkid_partition_get_size(partition)) * 512;
    if (volume.begin_bytes >= size_bytes || volume.size_bytes > size_bytes - volume.begin_bytes) continue;
    RETURN_IF_ERROR(identify(fd, path, volume));
    volumes.push_back(volume);
  }
  return volumes;
}

struct LoopDevice {
  UniqueFd fd;  // while it is open the device stays
  std::string path;
};

Result<LoopDevice> attach_loop(const std::string& path, const ImageVolume& volume) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file.valid()) return Error::from_errno(errno, "open '" + path + "'");
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) return Error::from_errno(errno, "open '/dev/loop-control'");
  for (int attempt = 0; attempt < kAttachTries; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return Error::from_errno(errno, "find a free loop device");
    LoopDevice device;
    device.path = "/dev/loop" + std::to_string(number);
    device.fd.reset(::open(device.path.c_str(), O_RDWR | O_CLOEXEC));
    if (!device.fd.valid()) return Error::from_errno(errno, "open '" + device.path + "'");
    loop_config config{};
    config.fd = static_cast<std::uint32_t>(file.get());
    config.info.lo_offset = volume.begin_bytes;
    config.info.lo_sizelimit = volume.size_bytes;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    std::snprintf(reinterpret_cast<char*>(config.info.lo_file_name), sizeof(config.info.lo_file_name), "%s",
                  path.c_str());
    if (::ioctl(device.fd.get(), LOOP_CONFIGURE, &config) == 0) return device;
    if (errno != EBUSY) return Error::from_errno(errno, "attach '" + path + "' to '" + device.path + "'");
  }
  return Error(ErrorKind::kBusy, "no loop device is free: others took " + std::to_string(kAttachTries) + " before us");
}

}  // namespace

Result<std::vector<ImageVolume>> find_image_volumes(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open '" + path + "'");
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return Error::from_errno(errno, "look at '" + path + "'");
  ImageVolume whole;
  whole.size_bytes = static_cast<std::uint64_t>(info.st_size);
  RETURN_IF_ERROR(identify(fd.get(), path, whole));
  if (!whole.type.empty()) return std::vector{whole};
  ASSIGN_OR_RETURN(std::vector<ImageVolume> partitions, partitions_of(fd.get(), whole.size_bytes, path));
  return partitions.empty() ? std::vector{whole} : partitions;
}

Status mount_image_volume(const std::string& path, const ImageVolume& volume, const std::string& directory) {
  ASSIGN_OR_RETURN(const LoopDevice device, attach_loop(path, volume));
  const std::string type = volume.type == "ntfs" ? "ntfs3" : volume.type;
  // The same file system may be mounted here already, from the disk itself or from another point.
  const char* data = type == "xfs" ? "nouuid" : nullptr;
  if (::mount(device.path.c_str(), directory.c_str(), type.c_str(), kMountFlags, data) == 0) return ok_status();
  if (errno == ENODEV) return Error(ErrorKind::kUnsupported, "this kernel knows no file system " + quote(volume.type));
  return Error::from_errno(errno, "mount " + volume.type + " at " + quote(directory));
}

Status mount_frame(const std::string& source, const std::string& directory, const std::vector<std::string>& names) {
  constexpr unsigned long kFlags = MS_NODEV | MS_NOSUID | MS_NOEXEC;
  if (::mount(source.c_str(), directory.c_str(), "tmpfs", kFlags, "size=1m,mode=0755") != 0)
    return Error::from_errno(errno, "mount a frame at " + quote(directory));
  for (const std::string& name : names)
    if (::mkdir((directory + "/" + name).c_str(), 0755) != 0)
      return Error::from_errno(errno, "make '" + directory + "/" + name + "'");
  if (::mount(source.c_str(), directory.c_str(), "tmpfs", kFlags | MS_REMOUNT | MS_RDONLY, nullptr) != 0)
    return Error::from_errno(errno, "make the frame at " + quote(directory) + " read-only");
  return ok_status();
}

}  // namespace understudy
