// SPDX-License-Identifier: Apache-2.0
// mount and umount.
#include <cstdio>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/view_mount.h"

namespace understudy {
namespace {

void print_mounted(const OpenView& view, const std::vector<MountedVolume>& volumes, bool as_json) {
  if (as_json) {
    Json json = json_of(view);
    json["volumes"] = Json::array();
    for (const MountedVolume& volume : volumes) {
      Json item = Json::object();
      item["slot"] = volume.disk.slot;
      item["partition"] = std::uint64_t{volume.volume.partition};
      item["type"] = volume.volume.type;
      item["size_bytes"] = volume.volume.size_bytes;
      item["directory"] = volume.directory.empty() ? Json() : Json(volume.directory);
      item["problem"] = volume.problem.empty() ? Json() : Json(volume.problem);
      json["volumes"].push_back(std::move(item));
    }
    std::printf("%s\n", json.dump_indented().c_str());
    return;
  }
  std::printf("%s\n", describe(view).c_str());
  for (const MountedVolume& volume : volumes) {
    if (!volume.directory.empty())
      std::printf("  %s: read-only at %s\n", describe(volume).c_str(), quote(volume.directory).c_str());
    else
      std::printf("  %s: not mounted: %s\n", describe(volume).c_str(), volume.problem.c_str());
  }
}

}  // namespace

Status run_mount(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const ServerPoint wanted, parse_server_point(options.words[0], system_clock().wall_ns()));
  ViewServerOptions server;
  ASSIGN_OR_RETURN(server.store, find_store(options, wanted.server));
  server.point = wanted.point;
  if (!options.disk.empty()) server.disk = options.disk;
  ASSIGN_OR_RETURN(ViewRegistry registry, open_registry(options));
  ASSIGN_OR_RETURN(OpenView view, registry.reserve());
  view.opened_ns = system_clock().wall_ns();
  Result<std::vector<MountedVolume>> volumes = mount_view(server, options.words[1], view);
  Status status = volumes.ok() ? registry.keep(view) : Status(std::move(volumes).error());
  if (!status.ok()) {
    static_cast<void>(registry.close(view, true));  // the reason is what was first wrong
    return std::move(status).error().with_context("mount");
  }
  print_mounted(view, *volumes, options.json);
  return ok_status();
}

Status run_umount(const ControlOptions& options) {
  ASSIGN_OR_RETURN(ViewRegistry registry, open_registry(options));
  ASSIGN_OR_RETURN(const OpenView view, registry.find_mount(options.words[0]));
  RETURN_IF_ERROR(registry.close(view, options.force));
  std::printf("unmounted %s\n", describe(view).c_str());
  return ok_status();
}

}  // namespace understudy
