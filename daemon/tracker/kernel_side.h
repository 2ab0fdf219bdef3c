// SPDX-License-Identifier: Apache-2.0
// The pinned kernel side of one server's capture: creating it (load, pin, attach), finding it again, removing it.
//
//   <bpffs>/understudy/<server>/       complete; all of it or nothing counts
//   <bpffs>/understudy/<server>+new/   being made: renamed when complete, removed when found
//
// Names below: maps ring, dirty, in_flight, control, table; programs program_*; links link_*.
// A flock on <bpffs>/understudy is held while captures are created or searched, one on the server's directory as long
// as a process has the capture open.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <linux/types.h>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"
#include "daemon/tracker/bpf_object.h"
#include "kmod-shim/bpf/layout.h"

namespace understudy {

// A field that kernel and user space share.
template <typename T>
T shared_load(const T& field) {
  return std::atomic_ref<T>(const_cast<T&>(field)).load(std::memory_order_acquire);
}
template <typename T>
void shared_store(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_seq_cst);
}

struct KernelSideSizes {
  std::uint64_t ring_bytes = 0;
  std::uint32_t dirty_pages = 0;  // of UNDERSTUDY_DIRTY_PAGE_BYTES
  std::uint32_t in_flight_max = 0;
};

class KernelSide {
 public:
  // Loads the programs with `constants`, pins everything below `directory` (which must not exist yet), attaches note,
  // capture, settle and the completing ones, in this order. No disk is watched yet. `with_bpf_loop` false takes the
  // bounded variant; true falls back to it where the kernel has no bpf_loop.
  static Result<KernelSide> create(const std::string& directory, const KernelSideSizes& sizes,
                                   const understudy_constants& constants, bool with_bpf_loop);
  // What is pinned below `directory`. kNotFound when something is missing: a half-made set. kRefused for another ABI
  // version.
  static Result<KernelSide> open(const std::string& directory);

  understudy_control& control() const { return *reinterpret_cast<understudy_control*>(control_.data()); }
  understudy_disk_table& table() const { return *reinterpret_cast<understudy_disk_table*>(table_.data()); }
  std::uint8_t* dirty_states() const { return reinterpret_cast<std::uint8_t*>(dirty_.data()); }
  const KernelSideSizes& sizes() const { return sizes_; }
  int ring_fd() const { return ring_fd_.get(); }
  int in_flight_fd() const { return in_flight_fd_.get(); }
  // Skipped runs of the first program since it was loaded.
  Result<std::uint64_t> note_misses() const { return program_recursion_misses(note_fd_.get()); }
  // Attaches the further copies of the completing programs for as long as the descriptors are kept.
  Result<std::vector<UniqueFd>> attach_completion_copies() const;

 private:
  static Result<KernelSide> map_all(KernelSide side);

  UniqueFd ring_fd_, dirty_fd_, in_flight_fd_, control_fd_, table_fd_, note_fd_;
  std::vector<UniqueFd> completion_copies_;
  KernelSideSizes sizes_;
  MappedMemory control_, table_, dirty_;
};

// --- the pins in the file system ---

// A server's name as a file name: bpffs allows no dots; those and everything unusual become %xx. kInvalidArgument
// when it is empty, longer than 64 bytes or has control characters or '/'.
Result<std::string> pin_name(const std::string& server);
std::string server_of_pin_name(const std::string& name);

// <bpffs>/understudy, made if missing. kNotFound if `bpffs` is not one.
Result<std::string> pin_root(const std::string& bpffs);
// Unpins everything in `directory` and removes it; links go first, so that capture ends before its maps do. Nothing
// there is no error.
Status remove_pins(const std::string& directory);
// flock(2) on a directory; kBusy (naming `what`) when another process has it and does not give it within `wait_ms`.
Result<UniqueFd> lock_directory(const std::string& directory, const std::string& what, int wait_ms);
// The server other than `own_directory`'s that captures the disk `device`; empty = none.
Result<std::string> server_capturing(const std::string& root, const std::string& own_directory, std::uint32_t device);

}  // namespace understudy
