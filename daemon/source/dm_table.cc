// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "daemon/base/unique_fd.h"
#include "daemon/source/volumes.h"

namespace understudy {
namespace {

constexpr std::size_t kAnswerBytesMax = 16u << 20;

// What the kernel put into `answer`, every offset checked.
Result<std::vector<DmTarget>> parse(const std::vector<char>& answer) {
  dm_ioctl head{};
  std::memcpy(&head, answer.data(), sizeof(head));
  std::vector<DmTarget> targets;
  std::size_t at = head.data_start;
  for (std::uint32_t i = 0; i < head.target_count; ++i) {
    dm_target_spec spec{};
    if (at > answer.size() || answer.size() - at < sizeof(spec))
      return Error(ErrorKind::kCorrupt, "dm table ends early");
    std::memcpy(&spec, answer.data() + at, sizeof(spec));
    const char* parameters = answer.data() + at + sizeof(spec);
    const std::size_t left = answer.size() - at - sizeof(spec);
    targets.push_back({std::string(spec.target_type, ::strnlen(spec.target_type, sizeof(spec.target_type))),
                       std::string(parameters, ::strnlen(parameters, left)), spec.sector_start * 512,
                       spec.length * 512});
    if (spec.next > answer.size()) return Error(ErrorKind::kCorrupt, "dm table ends early");
    at = head.data_start + spec.next;  // from the beginning of the data
  }
  return targets;
}

}  // namespace

Result<std::vector<DmTarget>> dm_table(std::uint32_t device) {
  UniqueFd fd(::open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
  if (!fd.valid())
    return Error(ErrorKind::kUnsupported, "open '/dev/mapper/control': " + std::string(std::strerror(errno)), errno);
  for (std::size_t bytes = 16u << 10; bytes <= kAnswerBytesMax; bytes *= 4) {
    std::vector<char> buffer(bytes);
    dm_ioctl head{};
    head.version[0] = DM_VERSION_MAJOR;
    head.data_size = static_cast<std::uint32_t>(bytes);
    head.data_start = sizeof(head);
    head.flags = DM_STATUS_TABLE_FLAG;
    // huge_encode_dev: minor in bits 0-7 and 20-31, major in between.
    const std::uint32_t low = device & 0xfffff;
    head.dev = (low & 0xff) | (device >> 20) << 8 | (low & ~0xffu) << 12;
    std::memcpy(buffer.data(), &head, sizeof(head));
    if (::ioctl(fd.get(), DM_TABLE_STATUS, buffer.data()) != 0) return Error::from_errno(errno, "read dm table");
    std::memcpy(&head, buffer.data(), sizeof(head));
    if ((head.flags & DM_BUFFER_FULL_FLAG) == 0) return parse(buffer);
  }
  return Error(ErrorKind::kUnsupported, "read dm table: it is too long");
}

}  // namespace understudy
