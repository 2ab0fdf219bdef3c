// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/view_server.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "daemon/base/atomic_file.h"
#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "tools/understudyctl/programs.h"

namespace understudy {
namespace {

constexpr std::size_t kInfoBytesMax = 1 << 20;
constexpr std::uint64_t kStartTimeoutNs = 30'000'000'000;
constexpr unsigned kPollUs = 5'000;

// In a build tree the plugin lies beside us; installed, nbdkit knows it by name.
std::string plugin_path() {
  char self[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof(self) - 1);
  if (length > 0) {
    const std::string beside =
        parent_directory(parent_directory(std::string_view(self, static_cast<std::size_t>(length)))) +
        "/nbdkit/nbdkit-understudy-plugin.so";
    if (::access(beside.c_str(), R_OK) == 0) return beside;
  }
  return "understudy";
}

// What the plugin wrote (tools/nbdkit/served_view.h).
Status read_info(const std::string& path, const std::string& socket, OpenView& view) {
  ASSIGN_OR_RETURN(const std::string text, read_file(path, kInfoBytesMax));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == "server") std::getline(words >> std::ws, view.server);
    if (key == "seq") words >> view.seq;
    if (key == "time_ns") words >> view.time_ns;
    if (key == "barrier_aligned") words >> view.barrier_aligned;
    if (key == "disk") {
      OpenViewDisk disk;
      words >> disk.slot >> disk.size_bytes;
      words.get();
      std::getline(words, disk.name);
      disk.socket = socket;
      disk.uri = "nbd+unix:///" + std::to_string(disk.slot) + "?socket=" + socket;
      view.disks.push_back(disk);
    }
    if (words.fail())
      return Error(ErrorKind::kInternal, "the plugin's description of the view is broken: " + quote(line));
  }
  return ok_status();
}

Status wait_until_there(const std::string& path, const std::string& what) {
  const std::uint64_t deadline = system_clock().boot_ns() + kStartTimeoutNs;
  while (::access(path.c_str(), F_OK) != 0) {
    if (system_clock().boot_ns() > deadline)
      return Error(ErrorKind::kTimeout, what + " did not start within " + format_duration_ns(kStartTimeoutNs));
    ::usleep(kPollUs);
  }
  return ok_status();
}

}  // namespace

Status start_view_server(const ViewServerOptions& options, const std::string& socket_name, OpenView& view) {
  const std::string base = view.directory + "/" + socket_name;
  const std::string socket = base + ".sock";
  const std::string info = base + ".info";
  const std::string pid = base + ".pid";
  std::vector<std::string> argv{"nbdkit", "--unix", socket, "--pidfile", pid};
  if (options.overlay)
    argv.emplace_back("--filter=cow");
  else
    argv.emplace_back("--readonly");
  argv.push_back(plugin_path());
  argv.push_back("store=" + options.store.directory);
  if (!options.store.base_directory.empty()) argv.push_back("base=" + options.store.base_directory);
  argv.push_back("point=" + options.point);
  if (options.disk) argv.push_back("disk=" + *options.disk);
  argv.push_back("info=" + info);
  // nbdkit goes to the background once it listens.
  RETURN_IF_ERROR(run_program(argv, base + ".log"));
  RETURN_IF_ERROR(wait_until_there(pid, "nbdkit"));
  ++view.processes;
  view.store = options.store.directory;
  RETURN_IF_ERROR(read_info(info, socket, view));
  if (!options.store.server.empty() && printable(options.store.server) != view.server)
    return Error(ErrorKind::kInvalidArgument, quote(options.store.directory) + " is the store of server '" +
                                                  view.server + "', not of " + quote(options.store.server));
  return ok_status();
}

Result<std::string> start_fuse(const OpenView& view, const OpenViewDisk& disk, bool writable) {
  const std::string base = view.directory + "/fuse-" + std::to_string(disk.slot);
  const std::string pid = base + ".pid";
  if (::mkdir(base.c_str(), 0700) != 0) return Error::from_errno(errno, "make '" + base + "'");
  const std::string file = base + "/disk";
  std::vector<std::string> argv{"nbdfuse", "--pidfile", pid};
  if (!writable) argv.emplace_back("--readonly");
  argv.push_back(file);
  argv.push_back(disk.uri);
  ASSIGN_OR_RETURN(const pid_t child, start_program(argv, base + ".log"));
  const std::uint64_t deadline = system_clock().boot_ns() + kStartTimeoutNs;
  while (::access(pid.c_str(), F_OK) != 0 || ::access(file.c_str(), F_OK) != 0) {
    if (has_ended(child)) {
      const std::string said = last_line_said(base + ".log");
      return Error(ErrorKind::kUnsupported,
                   "nbdfuse ended" + (said.empty() ? std::string() : ": " + said) + " (it needs /dev/fuse, and root)");
    }
    if (system_clock().boot_ns() > deadline)
      return Error(ErrorKind::kTimeout, "nbdfuse did not start within " + format_duration_ns(kStartTimeoutNs));
    ::usleep(kPollUs);
  }
  return file;
}

}  // namespace understudy
