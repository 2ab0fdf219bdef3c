// SPDX-License-Identifier: Apache-2.0
// restore: a point into a file or a device (as understudy-restore does it), or into a qcow2 by qemu-img.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "daemon/base/atomic_file.h"
#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/base/unique_fd.h"
#include "tools/restore/commands.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/programs.h"
#include "tools/understudyctl/view_server.h"

namespace understudy {
namespace {

Status check_target(const ControlOptions& options) {
  struct stat info;
  if (::stat(options.to.c_str(), &info) != 0) {
    if (errno == ENOENT) return ok_status();
    return Error::from_errno(errno, "look at target " + quote(options.to));
  }
  if (!S_ISREG(info.st_mode))
    return Error(ErrorKind::kInvalidArgument,
                 "target " + quote(options.to) + " is no file; a qcow2 is one (--format raw writes to a device)");
  if (info.st_size > 0 && !options.overwrite)
    return Error(ErrorKind::kAlreadyExists,
                 "target " + quote(options.to) + " exists; give another name, or --overwrite");
  return ok_status();
}

Status sync_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return Error::from_errno(errno, "fsync '" + path + "'");
  return ok_status();
}

// Into a file beside the target, which then takes its place: an interrupted restore is never taken for a whole one.
Status convert(const ControlOptions& options, const OpenView& view) {
  if (view.disks.size() != 1) {
    std::string names;
    for (const OpenViewDisk& disk : view.disks)
      names += (names.empty() ? "" : ", ") + std::to_string(disk.slot) + " (" + disk.name + ")";
    return Error(ErrorKind::kInvalidArgument, "the server has several disks: " + names + "; choose one with --disk");
  }
  const std::string partial = options.to + ".partial";
  std::vector<std::string> argv{"qemu-img", "convert", "-f", "raw", "-O", "qcow2"};
  if (!options.json && ::isatty(STDOUT_FILENO) != 0) argv.emplace_back("-p");
  argv.push_back(view.disks[0].uri);
  argv.push_back(partial);
  Status status = run_program_here(argv);
  if (status.ok()) status = sync_file(partial);
  if (status.ok() && ::rename(partial.c_str(), options.to.c_str()) != 0)
    status = Error::from_errno(errno, "rename '" + partial + "' to " + quote(options.to));
  if (!status.ok()) {
    ::unlink(partial.c_str());
    return status;
  }
  return fsync_directory(parent_directory(options.to));
}

Status restore_qcow2(const ControlOptions& options, const StorePlace& store, const std::string& point) {
  RETURN_IF_ERROR(check_target(options));
  ViewServerOptions server;
  server.store = store;
  server.point = point;
  if (!options.disk.empty()) server.disk = options.disk;
  ASSIGN_OR_RETURN(ViewRegistry registry, open_registry(options));
  ASSIGN_OR_RETURN(OpenView view, registry.reserve());
  view.opened_ns = system_clock().wall_ns();
  Status status = start_view_server(server, "nbd", view);
  if (status.ok()) status = convert(options, view);
  Status closed = registry.close(view, true);
  if (!status.ok()) return std::move(status).error().with_context("restore");
  RETURN_IF_ERROR(std::move(closed));
  if (options.json) {
    Json json = json_of(view);
    json["target"] = options.to;
    json["format"] = "qcow2";
    std::printf("%s\n", json.dump_indented().c_str());
  } else {
    std::printf("restored disk %llu (%s), %s, as of seq:%llu, newest write %s, into %s\n",
                static_cast<unsigned long long>(view.disks[0].slot), view.disks[0].name.c_str(),
                format_bytes(view.disks[0].size_bytes).c_str(), static_cast<unsigned long long>(view.seq),
                format_time_local(view.time_ns).c_str(), quote(options.to).c_str());
  }
  return ok_status();
}

}  // namespace

Status run_point_restore(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const ServerPoint wanted, parse_server_point(options.words[0], system_clock().wall_ns()));
  ASSIGN_OR_RETURN(const StorePlace store, find_store(options, wanted.server));
  if (options.to.empty()) return Error(ErrorKind::kInvalidArgument, "restore needs --to FILE|DEVICE");
  const std::string format = !options.format.empty()          ? options.format
                             : options.to.ends_with(".qcow2") ? "qcow2"
                                                              : "raw";
  if (format == "qcow2") return restore_qcow2(options, store, wanted.point);
  if (format != "raw")
    return Error(ErrorKind::kInvalidArgument, "--format is " + quote(format) + "; wanted raw or qcow2");
  RestoreOptions restore;
  restore.store = store.directory;
  restore.base_directory = store.base_directory;
  restore.point = wanted.point;
  if (!options.disk.empty()) restore.disk = options.disk;
  restore.to = options.to;
  restore.overwrite = options.overwrite;
  restore.json = options.json;
  return run_restore(restore);
}

}  // namespace understudy
