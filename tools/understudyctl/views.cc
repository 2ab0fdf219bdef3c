// SPDX-License-Identifier: Apache-2.0
// view open | list | close.
#include <sys/stat.h>

#include <cstdio>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/view_registry.h"
#include "tools/understudyctl/view_server.h"

namespace understudy {
namespace {

void print_view(const OpenView& view) {
  std::printf("%s%s\n", describe(view).c_str(),
              view.mounted_at.empty() ? "" : (", mounted at " + quote(view.mounted_at)).c_str());
  for (const OpenViewDisk& disk : view.disks)
    std::printf("  disk %llu (%s, %s): %s\n", static_cast<unsigned long long>(disk.slot), disk.name.c_str(),
                format_bytes(disk.size_bytes).c_str(), disk.uri.c_str());
}

Status open_view(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const ServerPoint wanted, parse_server_point(options.words[1], system_clock().wall_ns()));
  ViewServerOptions server;
  ASSIGN_OR_RETURN(server.store, find_store(options, wanted.server));
  server.point = wanted.point;
  if (!options.disk.empty()) server.disk = options.disk;
  ASSIGN_OR_RETURN(ViewRegistry registry, open_registry(options));
  ASSIGN_OR_RETURN(OpenView view, registry.reserve());
  view.opened_ns = system_clock().wall_ns();
  Status status = start_view_server(server, "nbd", view);
  if (status.ok()) status = registry.keep(view);
  if (!status.ok()) {
    static_cast<void>(registry.close(view, true));  // the reason is what was first wrong
    return std::move(status).error().with_context("open view");
  }
  if (options.json)
    std::printf("%s\n", json_of(view).dump_indented().c_str());
  else
    print_view(view);
  return ok_status();
}

Status list_views(const ControlOptions& options) {
  ASSIGN_OR_RETURN(const ViewRegistry registry, open_registry(options));
  if (options.json) {
    Json all = Json::array();
    for (const OpenView& view : registry.views()) all.push_back(json_of(view));
    std::printf("%s\n", all.dump_indented().c_str());
    return ok_status();
  }
  if (registry.views().empty()) std::printf("no view is open\n");
  for (const OpenView& view : registry.views()) print_view(view);
  return ok_status();
}

Status close_view(const ControlOptions& options) {
  ASSIGN_OR_RETURN(ViewRegistry registry, open_registry(options));
  ASSIGN_OR_RETURN(const OpenView view, registry.find(options.words[1]));
  if (!view.mounted_at.empty() && !options.force)
    return Error(ErrorKind::kBusy, "view " + std::to_string(view.number) + " is mounted at " + quote(view.mounted_at) +
                                       "; end it with 'understudyctl umount', or repeat with --force");
  RETURN_IF_ERROR(registry.close(view, options.force));
  std::printf("closed %s\n", describe(view).c_str());
  return ok_status();
}

}  // namespace

Result<ViewRegistry> open_registry(const ControlOptions& options) {
  std::vector<std::string> removed;
  Result<ViewRegistry> registry = ViewRegistry::open(options.views.empty() ? kViewsDirectory : options.views, removed);
  for (const std::string& line : removed) std::fprintf(stderr, "understudyctl: %s\n", line.c_str());
  return registry;
}

Status run_view(const ControlOptions& options) {
  const std::string verb = options.words.empty() ? "" : options.words[0];
  const bool takes_word = verb == "open" || verb == "close";
  if (!takes_word && verb != "list")
    return Error(ErrorKind::kInvalidArgument,
                 "view needs one of open, list and close" + (verb.empty() ? std::string() : ", not " + quote(verb)));
  if (options.words.size() != (takes_word ? 2u : 1u))
    return Error(ErrorKind::kInvalidArgument, verb == "open"    ? "view open needs one SERVER@POINT"
                                              : verb == "close" ? "view close needs the number of one view"
                                                                : "view list takes nothing behind it");
  if (verb == "open") return open_view(options);
  return verb == "list" ? list_views(options) : close_view(options);
}

}  // namespace understudy
