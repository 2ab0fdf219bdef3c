// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/bpf_object.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <utility>

namespace understudy {

namespace {

std::mutex message_mutex;
std::string collected_messages;

int collect_message(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  char line[1024];
  vsnprintf(line, sizeof(line), format, arguments);
  std::lock_guard lock(message_mutex);
  collected_messages += line;
  return 0;
}

// While it lives, libbpf's warnings are kept instead of printed.
class MessageCollector {
 public:
  MessageCollector() : previous_(libbpf_set_print(collect_message)) {
    std::lock_guard lock(message_mutex);
    collected_messages.clear();
  }
  ~MessageCollector() { libbpf_set_print(previous_); }
  MessageCollector(const MessageCollector&) = delete;
  MessageCollector& operator=(const MessageCollector&) = delete;

  // The last lines, in one: what the verifier or libbpf ended with.
  static std::string tail() {
    std::lock_guard lock(message_mutex);
    constexpr std::size_t kTailBytes = 600;
    std::string text = collected_messages.size() > kTailBytes
                           ? "... " + collected_messages.substr(collected_messages.size() - kTailBytes)
                           : collected_messages;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    std::replace(text.begin(), text.end(), '\n', '|');
    return text;
  }

 private:
  libbpf_print_fn_t previous_;
};

Error unsupported(const std::string& what, int error_number) {
  Error error = Error::from_errno(error_number, what);
  const std::string tail = MessageCollector::tail();
  const ErrorKind kind =
      error_number == EPERM || error_number == EACCES ? ErrorKind::kPermission : ErrorKind::kUnsupported;
  return Error(kind, error.message() + (tail.empty() ? "" : " (" + tail + ")"), error_number);
}

}  // namespace

MappedMemory::MappedMemory(MappedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedMemory& MappedMemory::operator=(MappedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<MappedMemory> MappedMemory::map(int fd, std::size_t size, int protection, std::uint64_t offset) {
  void* memory = ::mmap(nullptr, size, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (memory == MAP_FAILED)
    return Error::from_errno(errno, "map " + std::to_string(size) + " bytes shared with the kernel");
  MappedMemory result;
  result.data_ = static_cast<std::byte*>(memory);
  result.size_ = size;
  return result;
}

std::size_t mapped_array_bytes(std::size_t value_bytes, std::size_t entries) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t bytes = (value_bytes + 7) / 8 * 8 * entries;
  return (bytes + page - 1) / page * page;
}

void BpfObject::Closer::operator()(bpf_object* object) const { bpf_object__close(object); }

Result<BpfObject> BpfObject::load(const std::string& name, std::span<const std::byte> bytes, const Prepare& prepare) {
  MessageCollector messages;
  bpf_object_open_opts options{};
  options.sz = sizeof(options);
  options.object_name = name.c_str();
  bpf_object* opened = bpf_object__open_mem(bytes.data(), bytes.size(), &options);
  if (opened == nullptr) return unsupported("open BPF object '" + name + "'", errno);
  BpfObject object(opened);
  RETURN_IF_ERROR(prepare(object));
  if (const int error = bpf_object__load(opened); error != 0)
    return unsupported("load BPF object '" + name + "'", -error);
  return object;
}

Status BpfObject::set_map_entries(const char* map, std::uint32_t entries) {
  bpf_map* found = bpf_object__find_map_by_name(object_.get(), map);
  if (found == nullptr) return Error(ErrorKind::kInternal, std::string("BPF object has no map '") + map + "'");
  if (const int error = bpf_map__set_max_entries(found, entries); error != 0)
    return Error::from_errno(-error, std::string("set size of BPF map '") + map + "'");
  return ok_status();
}

Status BpfObject::set_constants(std::span<const std::byte> bytes) {
  bpf_map* found = bpf_object__find_map_by_name(object_.get(), ".rodata");
  if (found == nullptr) return Error(ErrorKind::kInternal, "BPF object has no constants");
  if (const int error = bpf_map__set_initial_value(found, bytes.data(), bytes.size()); error != 0)
    return Error::from_errno(-error, "set constants of BPF object (" + std::to_string(bytes.size()) + " bytes)");
  return ok_status();
}

Status BpfObject::disable_program(const char* program) {
  bpf_program* found = bpf_object__find_program_by_name(object_.get(), program);
  if (found == nullptr) return Error(ErrorKind::kInternal, std::string("BPF object has no program '") + program + "'");
  bpf_program__set_autoload(found, false);
  return ok_status();
}

Result<int> BpfObject::map_fd(const char* map) const {
  const int fd = bpf_object__find_map_fd_by_name(object_.get(), map);
  if (fd < 0) return Error(ErrorKind::kInternal, std::string("BPF object has no map '") + map + "'");
  return fd;
}

Result<int> BpfObject::program_fd(const char* program) const {
  const bpf_program* found = bpf_object__find_program_by_name(object_.get(), program);
  if (found == nullptr) return Error(ErrorKind::kInternal, std::string("BPF object has no program '") + program + "'");
  return bpf_program__fd(found);
}

Result<UniqueFd> BpfObject::attach(const char* program) const {
  ASSIGN_OR_RETURN(const int fd, program_fd(program));
  auto link = attach_raw_tracepoint(fd);
  if (!link) return std::move(link).error().with_context(std::string("attach BPF program '") + program + "'");
  return link;
}

Result<UniqueFd> attach_raw_tracepoint(int program_fd) {
  // The tracepoint of a tp_btf program is fixed at load time: no name here.
  const int link = bpf_raw_tracepoint_open(nullptr, program_fd);
  if (link < 0) return Error::from_errno(-link, "attach to tracepoint");
  return UniqueFd(link);
}

Result<std::uint64_t> program_recursion_misses(int program_fd) {
  bpf_prog_info info{};
  __u32 size = sizeof(info);
  if (const int error = bpf_obj_get_info_by_fd(program_fd, &info, &size); error != 0)
    return Error::from_errno(-error, "read BPF program's counters");
  return info.recursion_misses;
}

Result<KernelTypes> read_kernel_types() {
  MessageCollector messages;
  std::unique_ptr<btf, decltype(&btf__free)> types(btf__load_vmlinux_btf(), &btf__free);
  if (types == nullptr)
    return Error(ErrorKind::kUnsupported,
                 "the kernel has no BTF type information (CONFIG_DEBUG_INFO_BTF): no /sys/kernel/btf/vmlinux", errno);
  const int name = btf__find_by_name_kind(types.get(), "btf_trace_block_bio_queue", BTF_KIND_TYPEDEF);
  if (name < 0) return Error(ErrorKind::kUnsupported, "the kernel has no tracepoint block_bio_queue");
  const btf_type* pointer = btf__type_by_id(types.get(), btf__type_by_id(types.get(), static_cast<__u32>(name))->type);
  if (pointer == nullptr || !btf_is_ptr(pointer))
    return Error(ErrorKind::kUnsupported, "the kernel's BTF describes block_bio_queue in an unknown way");
  const btf_type* prototype = btf__type_by_id(types.get(), pointer->type);
  if (prototype == nullptr || !btf_is_func_proto(prototype) || btf_vlen(prototype) < 2 || btf_vlen(prototype) > 3)
    return Error(ErrorKind::kUnsupported, "the kernel's tracepoint block_bio_queue has unknown arguments");
  KernelTypes result;
  // One more than the tracepoint's own: the first is the probe's private data.
  result.queue_argument = btf_vlen(prototype) == 3 ? 1 : 0;
  const int info = btf__find_by_name_kind(types.get(), "bpf_prog_info", BTF_KIND_STRUCT);
  if (info >= 0) {
    const btf_type* type = btf__type_by_id(types.get(), static_cast<__u32>(info));
    const btf_member* members = btf_members(type);
    for (unsigned i = 0; i < btf_vlen(type); ++i)
      if (std::strcmp(btf__name_by_offset(types.get(), members[i].name_off), "recursion_misses") == 0)
        result.counts_recursion_misses = true;
  }
  return result;
}

}  // namespace understudy
