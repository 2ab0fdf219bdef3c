// SPDX-License-Identifier: Apache-2.0
#include "tools/nbdkit/served_view.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "daemon/base/atomic_file.h"
#include "daemon/base/text.h"

namespace understudy {
namespace {

bool is_named(const ServedDisk& disk, std::string_view name) {
  return disk.export_name == name || disk.geometry.name == name;
}

// A cache file with room for less is not worth it.
constexpr std::uint64_t kCacheBytesMin = 16 << 20;

std::string default_cache_directory() {
  const char* directory = std::getenv("TMPDIR");
  return directory != nullptr && directory[0] == '/' ? directory : "/var/tmp";
}

// Half of what is free there, for us.
Result<std::uint64_t> half_of_free_bytes(const std::string& directory) {
  struct statvfs info;
  if (::statvfs(directory.c_str(), &info) != 0) return Error::from_errno(errno, "free space of '" + directory + "'");
  return std::uint64_t{info.f_bavail} * info.f_frsize / 2;
}

}  // namespace

Status ServedView::set(std::string_view key, std::string value) {
  if (value.empty()) return Error(ErrorKind::kInvalidArgument, "parameter '" + printable(key) + "' is empty");
  if (key == "store")
    store_ = std::move(value);
  else if (key == "base")
    base_directory_ = std::move(value);
  else if (key == "point")
    point_text_ = std::move(value);
  else if (key == "disk")
    disk_ = std::move(value);
  else if (key == "info")
    info_path_ = std::move(value);
  else if (key == "cache")
    cache_directory_ = std::move(value);
  else if (key == "cache_bytes") {
    const auto bytes = parse_bytes(value);
    if (!bytes || (*bytes != 0 && *bytes < kCacheBytesMin))
      return Error(ErrorKind::kInvalidArgument, "parameter 'cache_bytes' is " + quote(value) +
                                                    ": wanted 0 (no cache file) or a size of at least " +
                                                    format_bytes_exact(kCacheBytesMin) + ", like '2GiB'");
    cache_bytes_max_ = *bytes;
  } else
    return Error(ErrorKind::kInvalidArgument,
                 "unknown parameter '" + printable(key) +
                     "'; wanted 'store', 'point', 'disk', 'base', 'info', 'cache' or 'cache_bytes'");
  return ok_status();
}

Status ServedView::open_view(const Store& store, const Point& point) {
  ViewOptions options;
  if (cache_bytes_max_ != 0) {
    const std::string directory = cache_directory_.empty() ? default_cache_directory() : cache_directory_;
    const Result<std::uint64_t> room = half_of_free_bytes(directory);
    if (!room.ok()) {
      cache_problem_ = room.error().message();
    } else if (*room < kCacheBytesMin) {
      cache_problem_ = "less than " + format_bytes(2 * kCacheBytesMin) + " are free in '" + directory + "'";
    } else {
      options.spill_directory = directory;
      options.spill_bytes_max = std::min(cache_bytes_max_, *room);
      Result<std::unique_ptr<PointInTimeView>> view = PointInTimeView::open(store, point, options);
      if (view.ok()) {
        view_ = std::move(*view);
        return ok_status();
      }
      cache_problem_ = view.error().message();
    }
    if (!cache_directory_.empty()) return Error(ErrorKind::kInvalidArgument, "parameter 'cache': " + cache_problem_);
  }
  ASSIGN_OR_RETURN(view_, PointInTimeView::open(store, point));
  return ok_status();
}

Status ServedView::open(const DamageReport& report) {
  StoreOptions options;
  options.directory = store_;
  options.base_directory = base_directory_;
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::open(options, OpenMode::kReadOnly, report));
  ASSIGN_OR_RETURN(const Timeline timeline, read_timeline(*store));
  ASSIGN_OR_RETURN(const Point point, resolve_point(timeline, point_text_));
  RETURN_IF_ERROR(open_view(*store, point));
  const std::string where = " of " + printable(store->identity().server_name) +
                            " at seq:" + std::to_string(view_->point().seq) + ", newest write " +
                            format_time_local(view_->point().time_ns);
  for (const DiskGeometry& geometry : view_->disks()) {
    disks_.push_back({geometry, std::to_string(geometry.disk), printable(geometry.name) + where});
  }
  if (disks_.empty()) return Error(ErrorKind::kNotFound, "the server had no disks at this point");
  if (disk_) {
    ASSIGN_OR_RETURN(const ServedDisk* chosen, find(*disk_));
    disks_ = std::vector<ServedDisk>{*chosen};
  }
  return info_path_.empty() ? ok_status() : write_info(store->identity().server_name);
}

Status ServedView::write_info(const std::string& server) const {
  std::string text = "server " + printable(server) + "\nseq " + std::to_string(point().seq) + "\ntime_ns " +
                     std::to_string(point().time_ns) + "\nbarrier_aligned " + (point().barrier_aligned ? "1" : "0") +
                     "\n";
  for (const ServedDisk& disk : disks_)
    text += "disk " + disk.export_name + " " + std::to_string(disk.geometry.size_bytes) + " " +
            printable(disk.geometry.name) + "\n";
  return write_file_atomically(info_path_, text);
}

Result<const ServedDisk*> ServedView::find(std::string_view export_name) const {
  std::string names;
  for (const ServedDisk& disk : disks_) {
    if (is_named(disk, export_name) || (export_name.empty() && disks_.size() == 1)) return &disk;
    names += (names.empty() ? "" : ", ") + disk.export_name + " (" + printable(disk.geometry.name) + ")";
  }
  return Error(ErrorKind::kNotFound,
               (export_name.empty() ? "the server has several disks, name one of them"
                                    : "there is no disk " + quote(export_name) + " at this point") +
                   "; there are: " + names);
}

Status ServedView::read(const ServedDisk& disk, std::uint64_t offset_bytes, std::span<std::byte> out) const {
  try {
    return view_->read(disk.geometry.disk, offset_bytes, out);
  } catch (const std::exception& error) {  // memory, mostly: the client gets an error, the others go on
    return Error(ErrorKind::kInternal, std::string("read: ") + error.what());
  }
}

}  // namespace understudy
