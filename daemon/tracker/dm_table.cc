// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/dm_table.h"

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>

#include "daemon/base/unique_fd.h"

namespace understudy {

namespace {

constexpr const char* kControlPath = "/dev/mapper/control";
constexpr std::size_t kBufferBytesMin = 16 * 1024;
constexpr std::size_t kBufferBytesMax = 16 * 1024 * 1024;

// A struct dm_ioctl with room behind it. 8-byte aligned as the kernel's own structures in it are.
class Request {
 public:
  Request(std::uint32_t device, std::size_t bytes, std::uint32_t flags) : words_((bytes + 7) / 8) {
    head().version[0] = DM_VERSION_MAJOR;
    head().data_size = static_cast<__u32>(words_.size() * 8);
    head().data_start = sizeof(dm_ioctl);
    head().flags = flags;
    head().dev = ::makedev(device >> 20, device & 0xfffff);
  }
  dm_ioctl& head() { return *reinterpret_cast<dm_ioctl*>(words_.data()); }
  std::span<char> data() {
    return std::span(reinterpret_cast<char*>(words_.data()), words_.size() * 8).subspan(head().data_start);
  }

 private:
  std::vector<std::uint64_t> words_;
};

Result<UniqueFd> open_control() {
  UniqueFd control(::open(kControlPath, O_RDWR | O_CLOEXEC));
  if (!control.valid() && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
    return Error(ErrorKind::kUnsupported,
                 std::string("'") + kControlPath + "' does not exist: the kernel has no device-mapper loaded");
  if (!control.valid()) return Error::from_errno(errno, std::string("open '") + kControlPath + "'");
  return control;
}

Status call(int control, unsigned long command, Request& request, const std::string& what) {
  if (::ioctl(control, command, &request.head()) == 0) return ok_status();
  if (errno == ENXIO) return Error(ErrorKind::kNotFound, what + ": no device-mapper device", ENXIO);
  return Error::from_errno(errno, what);
}

// The targets that the kernel put behind the head. Lengths are checked: they come from another program's memory.
Result<std::vector<DmLine>> lines_of(Request& request, const std::string& what) {
  std::vector<DmLine> lines;
  const std::span<char> data = request.data();
  std::size_t at = 0;
  for (std::uint32_t i = 0; i < request.head().target_count; ++i) {
    dm_target_spec spec;
    if (at > data.size() || data.size() - at < sizeof(spec))
      return Error(ErrorKind::kInternal, what + ": the answer ends in the middle of a line");
    std::memcpy(&spec, data.data() + at, sizeof(spec));
    const char* const text = data.data() + at + sizeof(spec);
    const std::size_t room = data.size() - at - sizeof(spec);
    lines.push_back({spec.sector_start, spec.length, std::string(spec.target_type, ::strnlen(spec.target_type, 16)),
                     std::string(text, ::strnlen(text, room))});
    at = spec.next;
  }
  return lines;
}

}  // namespace

std::string dm_device_text(std::uint32_t device) {
  return std::to_string(device >> 20) + ":" + std::to_string(device & 0xfffff);
}

Result<DmTable> read_dm_table(std::uint32_t device) {
  const std::string what = "read the table of device " + dm_device_text(device);
  ASSIGN_OR_RETURN(const UniqueFd control, open_control());
  for (std::size_t bytes = kBufferBytesMin;; bytes *= 4) {
    Request request(device, bytes, DM_STATUS_TABLE_FLAG | DM_NOFLUSH_FLAG);
    RETURN_IF_ERROR(call(control.get(), DM_TABLE_STATUS, request, what));
    if ((request.head().flags & DM_BUFFER_FULL_FLAG) != 0) {
      if (bytes >= kBufferBytesMax) return Error(ErrorKind::kUnsupported, what + ": it is longer than 16 MiB");
      continue;
    }
    DmTable table;
    table.name = std::string(request.head().name, ::strnlen(request.head().name, DM_NAME_LEN));
    table.suspended = (request.head().flags & DM_SUSPEND_FLAG) != 0;
    table.has_inactive = (request.head().flags & DM_INACTIVE_PRESENT_FLAG) != 0;
    table.read_only = (request.head().flags & DM_READONLY_FLAG) != 0;
    ASSIGN_OR_RETURN(table.lines, lines_of(request, what));
    return table;
  }
}

Status replace_dm_table(std::uint32_t device, const DmTable& before, const std::vector<DmLine>& lines) {
  const std::string what = "replace the table of device '" + before.name + "' (" + dm_device_text(device) + ")";
  if (before.suspended || before.has_inactive)
    return Error(ErrorKind::kBusy, what + (before.suspended ? ": it is suspended" : ": another table is loaded") +
                                       " by somebody else; dmsetup info tells more");
  ASSIGN_OR_RETURN(const UniqueFd control, open_control());
  std::size_t bytes = sizeof(dm_ioctl);
  const auto line_bytes = [](const DmLine& line) {
    return (sizeof(dm_target_spec) + line.arguments.size() + 1 + 7) / 8 * 8;
  };
  for (const DmLine& line : lines) bytes += line_bytes(line);
  const std::uint32_t mode = before.read_only ? DM_READONLY_FLAG : 0;
  Request load(device, bytes, mode);
  load.head().target_count = static_cast<__u32>(lines.size());
  char* at = load.data().data();
  for (const DmLine& line : lines) {
    dm_target_spec spec{};
    spec.sector_start = line.first_sector;
    spec.length = line.sectors;
    // In this direction `next` counts from this line's own begin.
    spec.next = static_cast<__u32>(line_bytes(line));
    if (line.type.size() >= sizeof(spec.target_type))
      return Error(ErrorKind::kInvalidArgument, what + ": target '" + line.type + "' has too long a name");
    std::memcpy(spec.target_type, line.type.c_str(), line.type.size() + 1);
    std::memcpy(at, &spec, sizeof(spec));
    std::memcpy(at + sizeof(spec), line.arguments.c_str(), line.arguments.size() + 1);
    at += spec.next;
  }
  RETURN_IF_ERROR(call(control.get(), DM_TABLE_LOAD, load, what + ": load"));
  // Without DM_SUSPEND_FLAG this is "resume"; with a table loaded it suspends, exchanges and resumes.
  Request resume(device, kBufferBytesMin, mode | DM_SKIP_LOCKFS_FLAG);
  Status status = call(control.get(), DM_DEV_SUSPEND, resume, what + ": exchange");
  if (status.ok()) return status;
  Request clear(device, kBufferBytesMin, 0);
  // Its own error would hide the first one; a table that stays loaded is found as has_inactive.
  (void)call(control.get(), DM_TABLE_CLEAR, clear, what);
  return status;
}

}  // namespace understudy
