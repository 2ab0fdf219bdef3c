// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/engine_disk_reader.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <sstream>

#include "daemon/base/atomic_file.h"

namespace understudy {

Result<std::unique_ptr<EngineDiskReader>> EngineDiskReader::open(const std::vector<TrackedDisk>& disks,
                                                                 std::unique_ptr<ReadEngine> engine) {
  std::vector<Disk> opened;
  for (const TrackedDisk& disk : disks) {
    UniqueFd fd(::open(disk.path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!fd.valid()) return Error::from_errno(errno, "open disk '" + disk.path + "' for direct reading");
    const std::string number = std::to_string(disk.device >> 20) + ":" + std::to_string(disk.device & 0xfffff);
    opened.push_back({disk.slot, disk.path, std::move(fd), "/sys/dev/block/" + number + "/stat"});
  }
  return std::unique_ptr<EngineDiskReader>(new EngineDiskReader(std::move(opened), std::move(engine)));
}

std::uint32_t EngineDiskReader::buffer_bytes() const {
  return static_cast<std::uint32_t>(engine_->buffer(0).size());
}

Status EngineDiskReader::submit(std::uint16_t disk, std::uint64_t offset_bytes, std::uint32_t bytes,
                                std::uint32_t index, std::uint64_t tag) {
  const Disk* found = find(disk);
  CHECK(found != nullptr);
  return engine_->submit(found->fd.get(), offset_bytes, bytes, index, tag);
}

Result<std::uint64_t> EngineDiskReader::size_bytes(std::uint16_t disk) {
  const Disk* found = find(disk);
  CHECK(found != nullptr);
  std::uint64_t bytes = 0;
  if (::ioctl(found->fd.get(), BLKGETSIZE64, &bytes) != 0) {
    return Error::from_errno(errno, "ask disk '" + found->path + "' for its size");
  }
  return bytes;
}

// Linux: Documentation/block/stat.rst; the seventh figure is sectors written, of 512 bytes.
std::optional<std::uint64_t> EngineDiskReader::written_bytes(std::uint16_t disk) {
  constexpr std::size_t kStatisticsBytesMax = 4096;
  const Disk* found = find(disk);
  CHECK(found != nullptr);
  const auto text = read_file(found->statistics_path, kStatisticsBytesMax);
  if (!text.ok()) return std::nullopt;
  std::istringstream figures(*text);
  std::uint64_t figure = 0;
  for (int i = 0; i < 7; ++i) {
    if (!(figures >> figure)) return std::nullopt;
  }
  return figure * 512;
}

const EngineDiskReader::Disk* EngineDiskReader::find(std::uint16_t slot) const {
  for (const Disk& disk : disks_) {
    if (disk.slot == slot) return &disk;
  }
  return nullptr;
}

}  // namespace understudy
