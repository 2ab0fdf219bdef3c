// SPDX-License-Identifier: Apache-2.0
// /dev/understudy, the kernel module's side of a server's capture (kmod-shim/module_abi.h): its calls and mappings.
//
// Threads: one, but for the memory that is mapped, which is atomics and read-only data.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <linux/types.h>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"
#include "daemon/tracker/bpf_object.h"
#include "daemon/tracker/tracker.h"
#include "kmod-shim/module_abi.h"

namespace understudy {

class ModuleDevice {
 public:
  // Opens the device and compares versions. kUnsupported when the module is not loaded, kRefused (naming both versions)
  // when it is older or newer than this program, kPermission without CAP_SYS_ADMIN.
  static Result<ModuleDevice> open(const std::string& path = UNDERSTUDY_MODULE_DEVICE);

  // Binds to the server's capture; `name` as pin_name() makes it. create(): kAlreadyExists; open_server(): kNotFound,
  // kBusy when another process is bound. Once per object.
  Status create_server(const std::string& name, std::uint64_t ring_bytes);
  Status open_server(const std::string& name);

  struct Owner {
    std::string server;  // a name as pin_name() makes it
    std::uint32_t slot = 0;
  };
  // Who captures the disk `device`; nullopt = nobody.
  Result<std::optional<Owner>> find_disk(std::uint32_t device) const;

  // --- bound ---
  int fd() const { return fd_.get(); }
  std::uint64_t ring_bytes() const { return ring_bytes_; }
  understudy_module_control& control() const { return *reinterpret_cast<understudy_module_control*>(control_.data()); }
  // A free slot becomes this disk's, with a dirty map that is all clean.
  Status set_disk(const understudy_module_disk& disk);
  // nullopt = the slot was never used.
  Result<std::optional<understudy_module_disk>> disk(std::uint32_t slot) const;
  // The dirty map of a slot in use; mapped at the first call, valid as long as the object.
  Result<std::uint8_t*> dirty_states(const understudy_module_disk& disk);
  Status release_disk(std::uint32_t slot);
  // Writes under way in any disk of the server.
  Result<std::vector<understudy_module_in_flight>> in_flight() const;
  // kBusy while a table names the server.
  Status destroy();

 private:
  Status bind(unsigned long command, const std::string& name, std::uint64_t ring_bytes, const char* what);

  UniqueFd fd_;
  std::string name_;
  std::uint64_t ring_bytes_ = 0;
  MappedMemory control_;
  std::map<std::uint32_t, MappedMemory> dirty_;
};

}  // namespace understudy
