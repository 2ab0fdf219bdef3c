// SPDX-License-Identifier: Apache-2.0
// nbdkit plugin `understudy`: the disks of a store at one point, one read-only export each. The protocol, TLS, sockets
// and filters are nbdkit's own. Source: nbdkit-plugin(3), version 1.32, API 2.
//
// nbdkit calls get_ready() before it goes to the background, so that what is wrong with store or point is still said to
// whoever started it; after that it calls from many threads (NBDKIT_THREAD_MODEL_PARALLEL).
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "daemon/base/text.h"
#include "daemon/base/version.h"
#include "tools/nbdkit/served_view.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace understudy {
namespace {

constexpr std::uint32_t kBlockBytesPreferred = 64 << 10;
constexpr std::uint32_t kBlockBytesMax = 32 << 20;

// One view a process: nbdkit loads a plugin once.
ServedView& served() {
  static ServedView view;
  return view;
}

int errno_of(const Error& error) {
  if (error.error_number() != 0) return error.error_number();
  switch (error.kind()) {
    case ErrorKind::kNotFound: return ENOENT;
    case ErrorKind::kInvalidArgument: return EINVAL;
    case ErrorKind::kPermission: return EACCES;
    default: return EIO;
  }
}

int fail(const Error& error) {
  nbdkit_error("%s", error.message().c_str());
  nbdkit_set_error(errno_of(error));
  return -1;
}

// Runs `body` (-> Status) and answers as nbdkit wants it; nothing may be thrown into C.
template <typename Body>
int guarded(Body body) {
  try {
    const Status status = body();
    return status.ok() ? 0 : fail(status.error());
  } catch (const std::exception& error) {
    return fail(Error(ErrorKind::kInternal, error.what()));
  }
}

void report_damage(const Damage& damage) {
  const std::string where = "'" + damage.object + "' at byte " + std::to_string(damage.offset_bytes) + ", " +
                            std::to_string(damage.length_bytes) + " bytes: " + damage.reason;
  if (damage.torn_tail)
    nbdkit_debug("the journal ends in an unfinished batch (normal while it is written): %s, ignoring", where.c_str());
  else
    nbdkit_error("damage: %s; nothing behind it is served", where.c_str());
}

bool store_given = false;

int on_config(const char* key, const char* value) {
  return guarded([&]() -> Status {
    std::string text = value;
    const std::string_view name = key;
    if (name == "store" || name == "base" || name == "info" || name == "cache") {
      // nbdkit changes the directory when it goes to the background.
      char* path = nbdkit_absolute_path(value);
      if (path == nullptr) return Error(ErrorKind::kInvalidArgument, "parameter '" + std::string(key) + "' is no path");
      text = path;
      std::free(path);
      store_given = store_given || name == "store";
    }
    return served().set(name, std::move(text));
  });
}

int on_config_complete() {
  if (store_given) return 0;
  return fail(
      Error(ErrorKind::kInvalidArgument, "parameter 'store' is missing: the directory of a store, with MANIFEST"));
}

int on_get_ready() {
  return guarded([]() -> Status {
    RETURN_IF_ERROR(served().open(report_damage));
    if (!served().cache_problem().empty())
      nbdkit_error("%s; what is decoded is kept in memory only, which makes reading slower; 'cache=DIRECTORY' names a "
                   "place for it",
                   served().cache_problem().c_str());
    return ok_status();
  });
}

int on_list_exports(int, int, nbdkit_exports* exports) {
  for (const ServedDisk& disk : served().disks())
    if (nbdkit_add_export(exports, disk.export_name.c_str(), disk.description.c_str()) != 0) return -1;
  return 0;
}

// Without a name a client gets the only disk; of several it has to name one.
const char* on_default_export(int, int) {
  const std::vector<ServedDisk>& disks = served().disks();
  return disks.size() == 1 ? disks.front().export_name.c_str() : "";
}

const ServedDisk& disk_of(void* handle) { return *static_cast<const ServedDisk*>(handle); }

void* on_open(int) {
  const char* name = nbdkit_export_name();
  const Result<const ServedDisk*> disk = served().find(name == nullptr ? "" : name);
  if (!disk.ok()) {
    fail(disk.error());
    return nullptr;
  }
  return const_cast<ServedDisk*>(*disk);
}

const char* on_export_description(void* handle) { return disk_of(handle).description.c_str(); }
std::int64_t on_get_size(void* handle) { return static_cast<std::int64_t>(disk_of(handle).geometry.size_bytes); }
int on_yes(void*) { return 1; }
int on_no(void*) { return 0; }

int on_block_size(void*, std::uint32_t* minimum, std::uint32_t* preferred, std::uint32_t* maximum) {
  *minimum = 1;
  *preferred = kBlockBytesPreferred;
  *maximum = kBlockBytesMax;
  return 0;
}

int on_pread(void* handle, void* buffer, std::uint32_t count, std::uint64_t offset, std::uint32_t) {
  return guarded(
      [&] { return served().read(disk_of(handle), offset, std::span(static_cast<std::byte*>(buffer), count)); });
}

int on_extents(void* handle, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, nbdkit_extents* extents) {
  int result = 0;
  const auto add = [&](std::uint64_t at, std::uint64_t length, bool zero) {
    result = nbdkit_add_extent(extents, at, length, zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0);
    return result == 0;
  };
  served().extents(disk_of(handle), offset, count, (flags & NBDKIT_FLAG_REQ_ONE) != 0, add);
  return result;
}

nbdkit_plugin make_plugin() {
  nbdkit_plugin plugin{};
  plugin.name = "understudy";
  plugin.longname = "Understudy point-in-time view";
  plugin.version = version().data();  // a literal
  plugin.description = "the disks of a protected server as they were at any second of its journal";
  plugin.config = on_config;
  plugin.config_complete = on_config_complete;
  plugin.config_help =
      "[store=]<DIRECTORY>  (required) Store of a server, the directory with MANIFEST.\n"
      "point=<POINT>        'latest' (default), 'latest-processed', 'latest-application', 'seq:<number>',\n"
      "                     '@<mark>', '2026-03-01T12:03:17Z', '2026-03-01 12:03:17', '12:03:17' or '-90s'.\n"
      "disk=<SLOT|NAME>     Serve only this disk (default: each disk is an export, named by its slot).\n"
      "base=<DIRECTORY>     Base images, when they are not where the store says.\n"
      "info=<FILE>          Write what is served (point and disks) into this file, one thing a line.\n"
      "cache=<DIRECTORY>    Keep what was decoded in a nameless file here (default: TMPDIR, or /var/tmp).\n"
      "cache_bytes=<SIZE>   At most so much of it, and of half of what is free there (default: 2GiB; 0: no file).";
  plugin.magic_config_key = "store";
  plugin.get_ready = on_get_ready;
  plugin.list_exports = on_list_exports;
  plugin.default_export = on_default_export;
  plugin.open = on_open;
  plugin.export_description = on_export_description;
  plugin.get_size = on_get_size;
  plugin.can_multi_conn = on_yes;
  plugin.can_extents = on_yes;
  plugin.is_rotational = on_no;
  plugin.block_size = on_block_size;
  plugin.pread = on_pread;
  plugin.extents = on_extents;
  return plugin;
}

nbdkit_plugin plugin = make_plugin();

}  // namespace
}  // namespace understudy

using understudy::plugin;
NBDKIT_REGISTER_PLUGIN(plugin)
