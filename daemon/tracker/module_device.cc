// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/module_device.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace understudy {

namespace {

template <typename T>
Status call(int fd, unsigned long command, T* argument, const std::string& what) {
  while (::ioctl(fd, command, argument) != 0) {
    if (errno != EINTR) return Error::from_errno(errno, what);
  }
  return ok_status();
}

Status store_name(char (&target)[UNDERSTUDY_SERVER_BYTES_MAX + 1], const std::string& name) {
  if (name.empty() || name.size() > UNDERSTUDY_SERVER_BYTES_MAX)
    return Error(ErrorKind::kInvalidArgument,
                 "server name '" + name + "' must have 1 to " + std::to_string(UNDERSTUDY_SERVER_BYTES_MAX) + " bytes");
  std::memcpy(target, name.c_str(), name.size() + 1);
  return ok_status();
}

}  // namespace

Result<ModuleDevice> ModuleDevice::open(const std::string& path) {
  ModuleDevice device;
  device.fd_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!device.fd_.valid() && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
    return Error(ErrorKind::kUnsupported,
                 "the kernel module 'understudy' is not loaded ('" + path + "' does not exist): modprobe understudy");
  if (!device.fd_.valid()) return Error::from_errno(errno, "open '" + path + "'");
  understudy_module_version version{};
  RETURN_IF_ERROR(call(device.fd_.get(), UNDERSTUDY_IOC_VERSION, &version, "ask '" + path + "' for its version"));
  if (version.capture_abi != UNDERSTUDY_CAPTURE_ABI_VERSION || version.module_abi != UNDERSTUDY_MODULE_ABI_VERSION)
    return Error(ErrorKind::kRefused,
                 "the kernel module 'understudy' has ABI version " + std::to_string(version.module_abi) + "." +
                     std::to_string(version.capture_abi) + ", this agent has version " +
                     std::to_string(UNDERSTUDY_MODULE_ABI_VERSION) + "." +
                     std::to_string(UNDERSTUDY_CAPTURE_ABI_VERSION) +
                     ": install module and agent of the same release, end the capture and load the module anew");
  return device;
}

Status ModuleDevice::bind(unsigned long command, const std::string& name, std::uint64_t ring_bytes, const char* what) {
  understudy_module_server server{};
  RETURN_IF_ERROR(store_name(server.name, name));
  server.ring_bytes = ring_bytes;
  RETURN_IF_ERROR(call(fd_.get(), command, &server, std::string(what) + " capture '" + name + "' in the module"));
  name_ = name;
  ring_bytes_ = server.ring_bytes;
  ASSIGN_OR_RETURN(control_, MappedMemory::map(fd_.get(), mapped_array_bytes(sizeof(understudy_module_control), 1),
                                               PROT_READ | PROT_WRITE, UNDERSTUDY_MMAP_CONTROL));
  return ok_status();
}

Status ModuleDevice::create_server(const std::string& name, std::uint64_t ring_bytes) {
  return bind(UNDERSTUDY_IOC_CREATE, name, ring_bytes, "make");
}

Status ModuleDevice::open_server(const std::string& name) { return bind(UNDERSTUDY_IOC_OPEN, name, 0, "open"); }

Result<std::optional<ModuleDevice::Owner>> ModuleDevice::find_disk(std::uint32_t device) const {
  understudy_module_find find{};
  find.dev = device;
  const Status status = call(fd_.get(), UNDERSTUDY_IOC_FIND_DISK, &find, "ask the module for a disk");
  if (!status.ok() && status.error().error_number() == ENOENT) return std::optional<Owner>();
  RETURN_IF_ERROR(status);
  return std::optional<Owner>({std::string(find.name, ::strnlen(find.name, sizeof(find.name))), find.slot});
}

Status ModuleDevice::set_disk(const understudy_module_disk& disk) {
  understudy_module_disk wanted = disk;
  return call(fd_.get(), UNDERSTUDY_IOC_SET_DISK, &wanted, "give slot " + std::to_string(disk.slot) + " to a disk");
}

Result<std::optional<understudy_module_disk>> ModuleDevice::disk(std::uint32_t slot) const {
  understudy_module_disk disk{};
  disk.slot = slot;
  const Status status = call(fd_.get(), UNDERSTUDY_IOC_GET_DISK, &disk, "ask the module for slot");
  if (!status.ok() && status.error().error_number() == ENOENT) return std::optional<understudy_module_disk>();
  RETURN_IF_ERROR(status);
  return std::optional<understudy_module_disk>(disk);
}

Result<std::uint8_t*> ModuleDevice::dirty_states(const understudy_module_disk& disk) {
  auto found = dirty_.find(disk.slot);
  if (found == dirty_.end()) {
    const std::uint64_t granules = ((disk.sectors - 1) >> disk.granule_shift) + 1;
    ASSIGN_OR_RETURN(MappedMemory memory,
                     MappedMemory::map(fd_.get(), mapped_array_bytes(granules, 1), PROT_READ | PROT_WRITE,
                                       UNDERSTUDY_MMAP_DIRTY + disk.slot * UNDERSTUDY_MMAP_DIRTY_STRIDE));
    found = dirty_.emplace(disk.slot, std::move(memory)).first;
  }
  return reinterpret_cast<std::uint8_t*>(found->second.data());
}

Status ModuleDevice::release_disk(std::uint32_t slot) {
  while (::ioctl(fd_.get(), UNDERSTUDY_IOC_RELEASE_DISK, static_cast<unsigned long>(slot)) != 0)
    if (errno != EINTR) return Error::from_errno(errno, "release slot " + std::to_string(slot));
  return ok_status();
}

Result<std::vector<understudy_module_in_flight>> ModuleDevice::in_flight() const {
  std::vector<understudy_module_in_flight> writes(1024);
  for (;;) {
    understudy_module_in_flight_list list{};
    list.buffer = reinterpret_cast<std::uintptr_t>(writes.data());
    list.capacity = static_cast<__u32>(writes.size());
    RETURN_IF_ERROR(call(fd_.get(), UNDERSTUDY_IOC_IN_FLIGHT, &list, "ask the module for writes under way"));
    if (list.count <= writes.size()) {
      writes.resize(list.count);
      return writes;
    }
    if (list.count > UNDERSTUDY_IN_FLIGHT_CAPACITY_MAX / 2)
      return Error(ErrorKind::kNoSpace, std::to_string(list.count) + " writes are under way at once; at most " +
                                            std::to_string(UNDERSTUDY_IN_FLIGHT_CAPACITY_MAX / 2) +
                                            " can be asked for");
    writes.resize(std::size_t{list.count} * 2);
  }
}

Status ModuleDevice::destroy() {
  return call<void>(fd_.get(), UNDERSTUDY_IOC_DESTROY, nullptr, "end capture '" + name_ + "' in the module");
}

}  // namespace understudy
