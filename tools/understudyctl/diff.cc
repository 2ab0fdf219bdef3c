// SPDX-License-Identifier: Apache-2.0
// diff: what changed between two points, by blocks or (--files) by files.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "tools/restore/commands.h"
#include "tools/understudyctl/block_diff.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/tree_diff.h"
#include "tools/understudyctl/view_mount.h"

namespace understudy {
namespace {

struct TwoPoints {
  StorePlace store;
  std::string first;
  std::string second;
};

Result<TwoPoints> parse_points(const ControlOptions& options) {
  const std::uint64_t now_ns = system_clock().wall_ns();
  ASSIGN_OR_RETURN(const ServerPoint first, parse_server_point(options.words[0], now_ns));
  // The server need not be repeated: "web-1@T1 @T2" or "web-1@T1 web-1@T2".
  ASSIGN_OR_RETURN(const ServerPoint second, parse_server_point(options.words[1], now_ns));
  if (!second.server.empty() && second.server != first.server)
    return Error(ErrorKind::kInvalidArgument, "points of two servers, " + quote(first.server) + " and " +
                                                  quote(second.server) + ", cannot be compared");
  ASSIGN_OR_RETURN(const StorePlace store, find_store(options, first.server));
  return TwoPoints{store, first.point, second.point};
}

Json json_of(const Point& point) {
  Json json = Json::object();
  json["seq"] = point.seq;
  json["time_ns"] = point.time_ns;
  json["time"] = format_time_utc(point.time_ns);
  json["barrier_aligned"] = point.barrier_aligned;
  return json;
}

const char* kind_name(DiskDiff::Kind kind) {
  switch (kind) {
    case DiskDiff::Kind::kAdded: return "added";
    case DiskDiff::Kind::kRemoved: return "removed";
    case DiskDiff::Kind::kBoth: break;
  }
  return "both";
}

Json json_of(const DiskDiff& diff) {
  Json json = Json::object();
  json["slot"] = std::uint64_t{diff.disk.disk};
  json["name"] = diff.disk.name;
  json["kind"] = kind_name(diff.kind);
  json["size_bytes"] = diff.disk.size_bytes;
  json["old_size_bytes"] = diff.kind == DiskDiff::Kind::kBoth ? Json(diff.old_size_bytes) : Json();
  json["changed_bytes"] = diff.changed_bytes();
  json["ranges"] = Json::array();
  for (const ChangedRange& range : diff.ranges) {
    Json item = Json::object();
    item["offset_bytes"] = range.offset_bytes;
    item["length_bytes"] = range.length_bytes;
    json["ranges"].push_back(std::move(item));
  }
  return json;
}

void print_disk(const DiskDiff& diff) {
  const std::string name = "disk " + std::to_string(diff.disk.disk) + " (" + printable(diff.disk.name) + ")";
  if (diff.kind != DiskDiff::Kind::kBoth) {
    std::printf("%s: %s, %s\n", name.c_str(), kind_name(diff.kind), format_bytes(diff.disk.size_bytes).c_str());
    return;
  }
  if (diff.old_size_bytes != diff.disk.size_bytes)
    std::printf("%s: %s, was %s\n", name.c_str(), format_bytes(diff.disk.size_bytes).c_str(),
                format_bytes(diff.old_size_bytes).c_str());
  std::printf("%s: %s in %zu ranges differ\n", name.c_str(), format_bytes(diff.changed_bytes()).c_str(),
              diff.ranges.size());
  for (const ChangedRange& range : diff.ranges)
    std::printf("  %llu +%llu\n", static_cast<unsigned long long>(range.offset_bytes),
                static_cast<unsigned long long>(range.length_bytes));
}

Result<std::unique_ptr<PointInTimeView>> open_point(const Store& store, const Timeline& timeline,
                                                    const std::string& text) {
  ASSIGN_OR_RETURN(const Point point, resolve_point(timeline, text));
  return PointInTimeView::open(store, point);
}

Status diff_by_blocks(const ControlOptions& options, const TwoPoints& points) {
  StoreOptions store_options;
  store_options.directory = points.store.directory;
  store_options.base_directory = points.store.base_directory;
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                   Store::open(store_options, OpenMode::kReadOnly, [](const Damage&) {}));
  ASSIGN_OR_RETURN(const Timeline timeline, read_timeline(*store));
  ASSIGN_OR_RETURN(const std::unique_ptr<PointInTimeView> first, open_point(*store, timeline, points.first));
  ASSIGN_OR_RETURN(const std::unique_ptr<PointInTimeView> second, open_point(*store, timeline, points.second));
  std::vector<DiskDiff> diffs;
  {
    ProgressLine progress("comparing", options.json);
    ASSIGN_OR_RETURN(diffs, diff_blocks(*first, *second, [&](std::uint64_t done, std::uint64_t total) {
                       progress.update(done, total);
                     }));
  }
  if (!options.disk.empty()) {
    std::erase_if(diffs, [&](const DiskDiff& diff) {
      return std::to_string(diff.disk.disk) != options.disk && diff.disk.name != options.disk;
    });
    if (diffs.empty())
      return Error(ErrorKind::kNotFound, "there is no disk " + quote(options.disk) + " at either point");
  }
  if (!options.json) {
    for (const DiskDiff& diff : diffs) print_disk(diff);
    return ok_status();
  }
  Json json = Json::object();
  json["first"] = json_of(first->point());
  json["second"] = json_of(second->point());
  json["disks"] = Json::array();
  for (const DiskDiff& diff : diffs) json["disks"].push_back(json_of(diff));
  std::printf("%s\n", json.dump_indented().c_str());
  return ok_status();
}

// A point mounted below the registry for as long as it is compared.
class TemporaryMount {
 public:
  explicit TemporaryMount(ViewRegistry& registry) : registry_(registry) {}
  TemporaryMount(const TemporaryMount&) = delete;
  TemporaryMount& operator=(const TemporaryMount&) = delete;
  ~TemporaryMount() {
    if (view_.number != 0) static_cast<void>(registry_.close(view_, true));
  }

  Status mount(const ViewServerOptions& options) {
    ASSIGN_OR_RETURN(view_, registry_.reserve());
    const std::string directory = view_.directory + "/files";
    if (::mkdir(directory.c_str(), 0700) != 0) return Error::from_errno(errno, "make '" + directory + "'");
    view_.opened_ns = system_clock().wall_ns();
    ASSIGN_OR_RETURN(volumes_, mount_view(options, directory, view_));
    return registry_.keep(view_);
  }

  const OpenView& view() const { return view_; }
  const MountedVolume* find(const std::string& name) const {
    for (const MountedVolume& volume : volumes_)
      if (volume.name == name && !volume.directory.empty()) return &volume;
    return nullptr;
  }
  const std::vector<MountedVolume>& volumes() const { return volumes_; }

 private:
  ViewRegistry& registry_;
  OpenView view_;
  std::vector<MountedVolume> volumes_;
};

Json json_of(const TreeChange& change) {
  Json json = Json::object();
  json["path"] = printable(change.path);
  json["change"] = change.kind == TreeChange::Kind::kAdded     ? "added"
                   : change.kind == TreeChange::Kind::kRemoved ? "removed"
                                                               : "changed";
  json["what"] = Json::array();
  for (const std::string& what : change.what) json["what"].push_back(what);
  json["directory"] = change.is_directory;
  json["old_size_bytes"] = change.old_size_bytes;
  json["new_size_bytes"] = change.new_size_bytes;
  return json;
}

void print_change(const std::string& volume, const TreeChange& change) {
  const char sign = change.kind == TreeChange::Kind::kAdded     ? '+'
                    : change.kind == TreeChange::Kind::kRemoved ? '-'
                                                                : 'M';
  std::string details;
  for (const std::string& what : change.what) {
    details += (details.empty() ? "  " : ", ") + what;
    if (what == "size")
      details += " " + format_bytes(change.old_size_bytes) + " to " + format_bytes(change.new_size_bytes);
  }
  std::printf("%c %s:/%s%s%s\n", sign, volume.c_str(), change.path == "." ? "" : printable(change.path).c_str(),
              change.is_directory && change.path != "." ? "/" : "", details.c_str());
}

Status diff_by_files(const ControlOptions& options, const TwoPoints& points) {
  ViewServerOptions server;
  server.store = points.store;
  if (!options.disk.empty()) server.disk = options.disk;
  ASSIGN_OR_RETURN(ViewRegistry registry, open_registry(options));
  TemporaryMount first(registry);
  TemporaryMount second(registry);
  server.point = points.first;
  RETURN_IF_ERROR(first.mount(server));
  server.point = points.second;
  RETURN_IF_ERROR(second.mount(server));
  Json volumes = Json::array();
  for (const MountedVolume& volume : second.volumes()) {
    const MountedVolume* old = first.find(volume.name);
    if (volume.directory.empty() || old == nullptr) {
      std::fprintf(stderr, "understudyctl: %s: not compared: %s\n", describe(volume).c_str(),
                   volume.directory.empty() ? volume.problem.c_str() : "no file system at the first point");
      continue;
    }
    ASSIGN_OR_RETURN(const std::vector<TreeChange> changes, diff_trees(old->directory, volume.directory));
    Json item = Json::object();
    item["volume"] = volume.name;
    item["type"] = volume.volume.type;
    item["changes"] = Json::array();
    for (const TreeChange& change : changes) {
      if (!options.json) print_change(volume.name, change);
      item["changes"].push_back(json_of(change));
    }
    volumes.push_back(std::move(item));
  }
  for (const MountedVolume& volume : first.volumes())
    if (!volume.directory.empty() && second.find(volume.name) == nullptr)
      std::fprintf(stderr, "understudyctl: %s: not compared: no file system at the second point\n",
                   describe(volume).c_str());
  if (!options.json) return ok_status();
  Json json = Json::object();
  json["first"] = json_of(Point{first.view().seq, first.view().time_ns, first.view().barrier_aligned});
  json["second"] = json_of(Point{second.view().seq, second.view().time_ns, second.view().barrier_aligned});
  json["volumes"] = std::move(volumes);
  std::printf("%s\n", json.dump_indented().c_str());
  return ok_status();
}

}  // namespace

Status run_diff(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const TwoPoints points, parse_points(options));
  Status status = options.files ? diff_by_files(options, points) : diff_by_blocks(options, points);
  return status.ok() ? ok_status() : Status(std::move(status).error().with_context("diff"));
}

}  // namespace understudy
