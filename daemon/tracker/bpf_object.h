// SPDX-License-Identifier: Apache-2.0
// libbpf behind RAII and Result: loading an embedded object, its maps and programs, mapped map memory, kernel types.
// libbpf's own messages are collected and put into errors in place of being printed.
//
// Threads: use by one thread at a time; loading changes libbpf's print function for the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"

struct bpf_object;
struct bpf_map;
struct bpf_program;

namespace understudy {

// Memory of mmap(2). Unmapped on destruction.
class MappedMemory {
 public:
  MappedMemory() = default;
  MappedMemory(MappedMemory&& other) noexcept;
  MappedMemory& operator=(MappedMemory&& other) noexcept;
  ~MappedMemory();

  // `protection` as in mmap(2); shared.
  static Result<MappedMemory> map(int fd, std::size_t size, int protection, std::uint64_t offset = 0);

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Page size rounded up: what mmap of an array map of that many value bytes needs.
std::size_t mapped_array_bytes(std::size_t value_bytes, std::size_t entries);

class BpfObject {
 public:
  using Prepare = std::function<Status(BpfObject&)>;

  // Opens `bytes`, calls `prepare` (sizes of maps, constants), loads. Error kUnsupported when the kernel refuses it,
  // with the end of what libbpf or the verifier said.
  static Result<BpfObject> load(const std::string& name, std::span<const std::byte> bytes, const Prepare& prepare);

  BpfObject(BpfObject&&) noexcept = default;
  BpfObject& operator=(BpfObject&&) noexcept = default;

  // Before loading.
  Status set_map_entries(const char* map, std::uint32_t entries);
  Status set_constants(std::span<const std::byte> bytes);  // the whole of .rodata
  // A program that shall not be loaded.
  Status disable_program(const char* program);

  // After loading; the descriptors belong to the object.
  Result<int> map_fd(const char* map) const;
  Result<int> program_fd(const char* program) const;
  // Attaches a tp_btf program; closing the descriptor detaches it, unless the link is pinned.
  Result<UniqueFd> attach(const char* program) const;

 private:
  explicit BpfObject(bpf_object* object) : object_(object) {}
  struct Closer {
    void operator()(bpf_object* object) const;
  };
  std::unique_ptr<bpf_object, Closer> object_;
};

// Attaches an already loaded tp_btf program, for instance one that was pinned.
Result<UniqueFd> attach_raw_tracepoint(int program_fd);

// How often the kernel skipped a program because it was already running on that CPU. 0 on kernels that do not count it
// (before 5.12: these do not skip it either; see kernel-side README).
Result<std::uint64_t> program_recursion_misses(int program_fd);

// What the running kernel's BTF says.
struct KernelTypes {
  std::uint32_t queue_argument = 0;      // position of the bio among block_bio_queue's arguments
  bool counts_recursion_misses = false;  // bpf_prog_info.recursion_misses exists
};
// kUnsupported: no BTF, or no block tracepoints in it.
Result<KernelTypes> read_kernel_types();

}  // namespace understudy
