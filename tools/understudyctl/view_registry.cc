// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/view_registry.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "daemon/base/atomic_file.h"
#include "daemon/base/text.h"
#include "tools/understudyctl/mount_table.h"
#include "tools/understudyctl/programs.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRecordBytesMax = 1 << 20;
// "/<number>/<slot>.sock" must still fit into a socket's address of 108 bytes.
constexpr std::size_t kDirectoryBytesMax = 80;

Json json_of(const OpenViewDisk& disk) {
  Json json = Json::object();
  json["slot"] = disk.slot;
  json["name"] = disk.name;
  json["size_bytes"] = disk.size_bytes;
  json["socket"] = disk.socket;
  json["uri"] = disk.uri;
  return json;
}

std::optional<OpenView> read_record(const std::string& directory) {
  const Result<std::string> text = read_file(directory + "/view.json", kRecordBytesMax);
  if (!text.ok()) return std::nullopt;
  const Result<Json> json = Json::parse(*text);
  return json.ok() ? open_view_of(*json) : std::nullopt;
}

Status make_directory(const std::string& path) {
  std::error_code failed;
  fs::create_directories(fs::path(path).parent_path(), failed);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return Error::from_errno(errno, "make '" + path + "'");
  return ok_status();
}

}  // namespace

Json json_of(const OpenView& view) {
  Json json = Json::object();
  json["view"] = view.number;
  json["directory"] = view.directory;
  json["server"] = view.server;
  json["store"] = view.store;
  json["seq"] = view.seq;
  json["time_ns"] = view.time_ns;
  json["time"] = format_time_utc(view.time_ns);
  json["barrier_aligned"] = view.barrier_aligned;
  json["opened_ns"] = view.opened_ns;
  json["disks"] = Json::array();
  for (const OpenViewDisk& disk : view.disks) json["disks"].push_back(json_of(disk));
  json["mounted_at"] = view.mounted_at.empty() ? Json() : Json(view.mounted_at);
  json["processes"] = view.processes;
  return json;
}

std::optional<OpenView> open_view_of(const Json& json) {
  OpenView view;
  view.number = json.at("view").as_unsigned(0);
  view.directory = json.at("directory").as_string("");
  view.server = json.at("server").as_string("");
  view.store = json.at("store").as_string("");
  view.seq = json.at("seq").as_unsigned(0);
  view.time_ns = json.at("time_ns").as_unsigned(0);
  view.barrier_aligned = json.at("barrier_aligned").as_bool(false);
  view.opened_ns = json.at("opened_ns").as_unsigned(0);
  view.mounted_at = json.at("mounted_at").as_string("");
  view.processes = json.at("processes").as_unsigned(0);
  for (const Json& disk : json.at("disks").items())
    view.disks.push_back({disk.at("slot").as_unsigned(0), disk.at("name").as_string(""),
                          disk.at("size_bytes").as_unsigned(0), disk.at("socket").as_string(""),
                          disk.at("uri").as_string("")});
  if (view.number == 0 || view.directory.empty() || view.processes == 0) return std::nullopt;
  return view;
}

std::string describe(const OpenView& view) {
  return "view " + std::to_string(view.number) + " of " + printable(view.server) +
         " at seq:" + std::to_string(view.seq) + ", newest write " + format_time_local(view.time_ns) +
         (view.barrier_aligned ? ", at a barrier" : ", not at a barrier");
}

Result<ViewRegistry> ViewRegistry::open(const std::string& directory, std::vector<std::string>& removed) {
  std::error_code failed;
  const std::string absolute = fs::absolute(directory, failed).lexically_normal().string();
  if (failed || absolute.size() > kDirectoryBytesMax)
    return Error(ErrorKind::kInvalidArgument, "the directory of views " + quote(directory) + " is longer than " +
                                                  std::to_string(kDirectoryBytesMax) +
                                                  " bytes, too long for the sockets in it; choose another");
  RETURN_IF_ERROR(make_directory(absolute));
  UniqueFd lock(::open((absolute + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) return Error::from_errno(errno, "open '" + absolute + "/lock'");
  while (::flock(lock.get(), LOCK_EX) != 0)
    if (errno != EINTR) return Error::from_errno(errno, "lock '" + absolute + "/lock'");
  ViewRegistry registry(absolute, std::move(lock));
  RETURN_IF_ERROR(registry.load(removed));
  return registry;
}

Status ViewRegistry::load(std::vector<std::string>& removed) {
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(directory_, failed)) {
    const auto number = parse_unsigned(entry.path().filename().string());
    if (!number || !entry.is_directory()) continue;
    OpenView unfinished;
    unfinished.number = *number;
    unfinished.directory = entry.path().string();
    const std::optional<OpenView> view = read_record(unfinished.directory);
    if (view && view->number == *number && view->directory == unfinished.directory &&
        processes_with_files_in(view->directory).size() == view->processes) {
      views_.push_back(*view);
      continue;
    }
    // The lock is ours, so nobody is at work on it.
    RETURN_IF_ERROR(close(view.value_or(unfinished), true));
    removed.push_back(view ? describe(*view) + " had lost its server: removed"
                           : "view " + std::to_string(*number) + " was never finished: removed");
  }
  if (failed) return Error(ErrorKind::kIo, "read '" + directory_ + "': " + failed.message());
  std::sort(views_.begin(), views_.end(), [](const OpenView& a, const OpenView& b) { return a.number < b.number; });
  return ok_status();
}

Result<OpenView> ViewRegistry::find(const std::string& name) const {
  const auto number = parse_unsigned(name);
  std::vector<std::string> numbers;
  for (const OpenView& view : views_) {
    if (number && view.number == *number) return view;
    numbers.push_back(std::to_string(view.number));
  }
  return Error(ErrorKind::kNotFound, "there is no view " + quote(name) +
                                         (numbers.empty() ? "; none is open" : "; there are " + quoted_list(numbers)));
}

Result<OpenView> ViewRegistry::find_mount(const std::string& mount_directory) const {
  std::error_code failed;
  const std::string wanted = fs::weakly_canonical(mount_directory, failed).string();
  std::vector<std::string> mounts;
  for (const OpenView& view : views_) {
    if (view.mounted_at.empty()) continue;
    if (view.mounted_at == wanted) return view;
    mounts.push_back(view.mounted_at);
  }
  return Error(ErrorKind::kNotFound, "no view is mounted at " + quote(mount_directory) +
                                         (mounts.empty() ? "; none is mounted" : "; there are " + quoted_list(mounts)));
}

Result<OpenView> ViewRegistry::reserve() {
  OpenView view;
  view.number = views_.empty() ? 1 : views_.back().number + 1;
  view.directory = directory_ + "/" + std::to_string(view.number);
  if (::mkdir(view.directory.c_str(), 0700) != 0) return Error::from_errno(errno, "make '" + view.directory + "'");
  return view;
}

Status ViewRegistry::keep(const OpenView& view) {
  RETURN_IF_ERROR(write_file_atomically(view.directory + "/view.json", json_of(view).dump_indented() + "\n"));
  views_.push_back(view);
  return ok_status();
}

Status ViewRegistry::close(const OpenView& view, bool by_force) {
  RETURN_IF_ERROR(unmount_all_of(view.directory, by_force));
  RETURN_IF_ERROR(end_processes_with_files_in(view.directory));
  std::error_code failed;
  fs::remove_all(view.directory, failed);
  if (failed) return Error(ErrorKind::kIo, "remove '" + view.directory + "': " + failed.message());
  std::erase_if(views_, [&](const OpenView& other) { return other.number == view.number; });
  return ok_status();
}

}  // namespace understudy
