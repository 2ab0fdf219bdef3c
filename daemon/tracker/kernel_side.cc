// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/kernel_side.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "kmod-shim/bpf/objects.h"

namespace understudy {

namespace {

namespace fs = std::filesystem;

struct PinnedMap {
  const char* in_object;
  const char* pin;
};
constexpr PinnedMap kMaps[] = {{"ring", "ring"},
                               {"dirty", "dirty"},
                               {"in_flight", "in_flight"},
                               {".data.control", "control"},
                               {".data.table", "table"}};
// In the order of attachment, which is the order in which the kernel runs them.
constexpr const char* kAttached[] = {"note", "capture", "settle", "complete_request", "complete_bio"};
constexpr const char* kAttachedOnDemand[] = {"complete_request_second", "complete_request_third", "complete_bio_second",
                                             "complete_bio_third"};

std::string program_pin(const std::string& directory, const char* program) { return directory + "/program_" + program; }
std::string link_pin(const std::string& directory, const char* program) { return directory + "/link_" + program; }

Status pin(int fd, const std::string& path) {
  if (const int error = bpf_obj_pin(fd, path.c_str()); error != 0)
    return Error::from_errno(-error, "pin '" + path + "'");
  return ok_status();
}

Result<UniqueFd> open_pin(const std::string& path) {
  const int fd = bpf_obj_get(path.c_str());
  if (fd < 0) return Error::from_errno(-fd, "open pin '" + path + "'");
  return UniqueFd(fd);
}

Result<bpf_map_info> map_info(int fd) {
  bpf_map_info info{};
  __u32 size = sizeof(info);
  if (const int error = bpf_obj_get_info_by_fd(fd, &info, &size); error != 0)
    return Error::from_errno(-error, "ask about a pinned BPF map");
  return info;
}

Result<BpfObject> load_capture(const KernelSideSizes& sizes, const understudy_constants& constants,
                               bool with_bpf_loop) {
  const auto prepare = [&](BpfObject& object) -> Status {
    RETURN_IF_ERROR(object.set_map_entries("ring", static_cast<std::uint32_t>(sizes.ring_bytes)));
    RETURN_IF_ERROR(object.set_map_entries("dirty", sizes.dirty_pages));
    RETURN_IF_ERROR(object.set_map_entries("in_flight", sizes.in_flight_max));
    return object.set_constants(std::as_bytes(std::span(&constants, 1)));
  };
  std::size_t size = 0;
  std::string first_problem;
  if (with_bpf_loop) {
    const auto* bytes = static_cast<const std::byte*>(understudy_capture_loop_object(&size));
    auto object = BpfObject::load("understudy", {bytes, size}, prepare);
    if (object.ok() || object.error().kind() == ErrorKind::kPermission) return object;
    first_problem = object.error().message();
  }
  const auto* bytes = static_cast<const std::byte*>(understudy_capture_bounded_object(&size));
  auto object = BpfObject::load("understudy", {bytes, size}, prepare);
  if (!object.ok() && !first_problem.empty())
    return Error(object.error().kind(), object.error().message() + "; with bpf_loop: " + first_problem,
                 object.error().error_number());
  return object;
}

}  // namespace

Result<KernelSide> KernelSide::create(const std::string& directory, const KernelSideSizes& sizes,
                                      const understudy_constants& constants, bool with_bpf_loop) {
  ASSIGN_OR_RETURN(BpfObject object, load_capture(sizes, constants, with_bpf_loop));
  if (::mkdir(directory.c_str(), 0700) != 0) return Error::from_errno(errno, "make '" + directory + "'");
  for (const PinnedMap& map : kMaps) {
    ASSIGN_OR_RETURN(const int fd, object.map_fd(map.in_object));
    RETURN_IF_ERROR(pin(fd, directory + "/" + map.pin));
  }
  for (const auto& programs :
       {std::span<const char* const>(kAttached), std::span<const char* const>(kAttachedOnDemand)})
    for (const char* program : programs) {
      ASSIGN_OR_RETURN(const int fd, object.program_fd(program));
      RETURN_IF_ERROR(pin(fd, program_pin(directory, program)));
    }
  for (const char* program : kAttached) {
    ASSIGN_OR_RETURN(UniqueFd link, object.attach(program));
    RETURN_IF_ERROR(pin(link.get(), link_pin(directory, program)));
  }
  // Written before anyone can open() it: the version is what open() asks for first.
  ASSIGN_OR_RETURN(const int control, object.map_fd(".data.control"));
  ASSIGN_OR_RETURN(MappedMemory memory, MappedMemory::map(control, mapped_array_bytes(sizeof(understudy_control), 1),
                                                          PROT_READ | PROT_WRITE));
  shared_store(reinterpret_cast<understudy_control*>(memory.data())->abi_version,
               __u32{UNDERSTUDY_CAPTURE_ABI_VERSION});
  return open(directory);
}

Result<KernelSide> KernelSide::open(const std::string& directory) {
  KernelSide side;
  UniqueFd* const maps[] = {&side.ring_fd_, &side.dirty_fd_, &side.in_flight_fd_, &side.control_fd_, &side.table_fd_};
  static_assert(std::size(maps) == std::size(kMaps));
  for (std::size_t i = 0; i < std::size(kMaps); ++i) {
    ASSIGN_OR_RETURN(*maps[i], open_pin(directory + "/" + kMaps[i].pin));
  }
  ASSIGN_OR_RETURN(side.note_fd_, open_pin(program_pin(directory, "note")));
  for (const char* program : kAttachedOnDemand) {
    ASSIGN_OR_RETURN(UniqueFd fd, open_pin(program_pin(directory, program)));
    side.completion_copies_.push_back(std::move(fd));
  }
  for (const char* program : kAttached) {
    ASSIGN_OR_RETURN(const UniqueFd link, open_pin(link_pin(directory, program)));
  }
  auto mapped = map_all(std::move(side));
  if (!mapped) return std::move(mapped).error().with_context("open capture '" + directory + "'");
  return mapped;
}

Result<KernelSide> KernelSide::map_all(KernelSide side) {
  ASSIGN_OR_RETURN(const bpf_map_info control, map_info(side.control_fd_.get()));
  ASSIGN_OR_RETURN(side.control_, MappedMemory::map(side.control_fd_.get(), mapped_array_bytes(control.value_size, 1),
                                                    PROT_READ | PROT_WRITE));
  const std::uint32_t version = shared_load(side.control().abi_version);
  if (version != UNDERSTUDY_CAPTURE_ABI_VERSION)
    return Error(ErrorKind::kRefused, "the capture in the kernel has ABI version " + std::to_string(version) +
                                          ", this agent has version " + std::to_string(UNDERSTUDY_CAPTURE_ABI_VERSION) +
                                          ": start the agent that made it, or remove the capture and copy anew");
  ASSIGN_OR_RETURN(const bpf_map_info table, map_info(side.table_fd_.get()));
  ASSIGN_OR_RETURN(const bpf_map_info dirty, map_info(side.dirty_fd_.get()));
  ASSIGN_OR_RETURN(const bpf_map_info ring, map_info(side.ring_fd_.get()));
  ASSIGN_OR_RETURN(const bpf_map_info in_flight, map_info(side.in_flight_fd_.get()));
  if (control.value_size != sizeof(understudy_control) || table.value_size != sizeof(understudy_disk_table) ||
      dirty.value_size != UNDERSTUDY_DIRTY_PAGE_BYTES || in_flight.value_size != sizeof(understudy_in_flight))
    return Error(ErrorKind::kRefused, "the capture in the kernel has other sizes than this agent's ABI version " +
                                          std::to_string(UNDERSTUDY_CAPTURE_ABI_VERSION));
  side.sizes_ = {ring.max_entries, dirty.max_entries, in_flight.max_entries};
  ASSIGN_OR_RETURN(side.table_, MappedMemory::map(side.table_fd_.get(), mapped_array_bytes(table.value_size, 1),
                                                  PROT_READ | PROT_WRITE));
  ASSIGN_OR_RETURN(side.dirty_,
                   MappedMemory::map(side.dirty_fd_.get(), mapped_array_bytes(dirty.value_size, dirty.max_entries),
                                     PROT_READ | PROT_WRITE));
  return side;
}

Result<std::vector<UniqueFd>> KernelSide::attach_completion_copies() const {
  std::vector<UniqueFd> links;
  for (const UniqueFd& program : completion_copies_) {
    ASSIGN_OR_RETURN(UniqueFd link, attach_raw_tracepoint(program.get()));
    links.push_back(std::move(link));
  }
  return links;
}

Result<std::string> pin_name(const std::string& server) {
  constexpr std::size_t kNameBytesMax = 64;
  if (server.empty() || server.size() > kNameBytesMax)
    return Error(ErrorKind::kInvalidArgument, "server name '" + server + "' must have 1 to 64 bytes");
  std::string name;
  for (const char character : server) {
    const auto byte = static_cast<unsigned char>(character);
    if (character == '/' || byte < ' ' || byte == 0x7f)
      return Error(ErrorKind::kInvalidArgument,
                   "server name '" + server + "' must have no '/' and no control characters");
    if (std::isalnum(byte) != 0 || character == '-' || character == '_') {
      name += character;
    } else {
      char text[4];
      std::snprintf(text, sizeof(text), "%%%02x", byte);
      name += text;
    }
  }
  return name;
}

std::string server_of_pin_name(const std::string& name) {
  std::string server;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '%' && i + 2 < name.size()) {
      server += static_cast<char>(std::stoi(name.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      server += name[i];
    }
  }
  return server;
}

Result<std::string> pin_root(const std::string& bpffs) {
  struct statfs status {};
  if (::statfs(bpffs.c_str(), &status) != 0) return Error::from_errno(errno, "bpffs '" + bpffs + "'");
  if (static_cast<unsigned long>(status.f_type) != BPF_FS_MAGIC)
    return Error(ErrorKind::kNotFound, "'" + bpffs + "' is not a mounted bpffs: mount -t bpf bpf " + bpffs);
  std::string root = bpffs + "/understudy";
  if (::mkdir(root.c_str(), 0700) != 0 && errno != EEXIST) return Error::from_errno(errno, "make '" + root + "'");
  return root;
}

Status remove_pins(const std::string& directory) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    entries.push_back(entry->path());
  if (error == std::errc::no_such_file_or_directory) return ok_status();
  if (error) return Error::from_errno(error.value(), "list '" + directory + "'");
  std::stable_partition(entries.begin(), entries.end(),
                        [](const fs::path& path) { return path.filename().string().starts_with("link_"); });
  for (const fs::path& path : entries)
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
      return Error::from_errno(errno, "unpin '" + path.string() + "'");
  if (::rmdir(directory.c_str()) != 0 && errno != ENOENT) return Error::from_errno(errno, "remove '" + directory + "'");
  return ok_status();
}

Result<UniqueFd> lock_directory(const std::string& directory, const std::string& what, int wait_ms) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open '" + directory + "'");
  constexpr int kStepMs = 10;
  for (int waited_ms = 0;; waited_ms += kStepMs) {
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EWOULDBLOCK && errno != EINTR) return Error::from_errno(errno, "lock '" + directory + "'");
    if (waited_ms >= wait_ms) return Error(ErrorKind::kBusy, what + " is in use by another process");
    const timespec pause{0, kStepMs * 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

Result<std::string> server_capturing(const std::string& root, const std::string& own_directory, std::uint32_t device) {
  std::error_code error;
  for (fs::directory_iterator entry(root, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path() == own_directory || entry->path().filename().string().ends_with("+new")) continue;
    // A set that cannot be opened (half-made, other version) captures for nobody that could be told; its table can
    // still be read.
    auto table_fd = open_pin(entry->path() / "table");
    if (!table_fd) continue;
    auto memory = MappedMemory::map(table_fd->get(), mapped_array_bytes(sizeof(understudy_disk_table), 1), PROT_READ);
    if (!memory) continue;
    const auto* table = reinterpret_cast<const understudy_disk_table*>(memory->data());
    for (const understudy_disk& disk : table->disks)
      if (shared_load(disk.dev) == device && shared_load(disk.active) != 0)
        return server_of_pin_name(entry->path().filename());
  }
  if (error) return Error::from_errno(error.value(), "list '" + root + "'");
  return std::string();
}

}  // namespace understudy
