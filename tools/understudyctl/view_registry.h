// SPDX-License-Identifier: Apache-2.0
// The views that are open on this machine: a directory each below the registry's, named by the view's number, with its
// sockets, logs and view.json. A directory whose processes are gone (kill -9, crash) or that was never finished is a
// leftover; whoever opens the registry next removes it with all its mounts.
//
// Threads: one. The registry holds a lock file as long as it lives; another process waits for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/unique_fd.h"
#include "daemon/control/json.h"

namespace understudy {

struct OpenViewDisk {
  std::uint64_t slot = 0;
  std::string name;
  std::uint64_t size_bytes = 0;
  std::string socket;
  std::string uri;  // "nbd+unix:///0?socket=..."
};

struct OpenView {
  std::uint64_t number = 0;
  std::string directory;  // of its files
  std::string server;
  std::string store;
  std::uint64_t seq = 0;
  std::uint64_t time_ns = 0;  // of the newest write
  bool barrier_aligned = false;
  std::uint64_t opened_ns = 0;  // wall clock
  std::vector<OpenViewDisk> disks;
  std::string mounted_at;       // empty = not mounted
  std::uint64_t processes = 0;  // that serve it
};

Json json_of(const OpenView& view);
// nullopt = not what json_of() wrote.
std::optional<OpenView> open_view_of(const Json& json);
// "view 3 of web-1 at seq:17, newest write 2026-03-01 12:03:17.250, at a barrier"
std::string describe(const OpenView& view);

class ViewRegistry {
 public:
  // Makes the directory (0700) when it is missing, waits for the lock, removes leftovers; `removed` gets a line for
  // each.
  static Result<ViewRegistry> open(const std::string& directory, std::vector<std::string>& removed);

  const std::vector<OpenView>& views() const { return views_; }
  // By number, or by where it is mounted. kNotFound lists what there is.
  Result<OpenView> find(const std::string& name) const;
  Result<OpenView> find_mount(const std::string& mount_directory) const;

  // A number and an empty directory for a new view.
  Result<OpenView> reserve();
  // Notes it as open.
  Status keep(const OpenView& view);
  // Unmounts what is mounted from it, ends its processes, removes its files. kBusy names what is in use; then nothing
  // else happened and it may be repeated. With `by_force` also what is in use.
  Status close(const OpenView& view, bool by_force);

 private:
  ViewRegistry(std::string directory, UniqueFd lock) : directory_(std::move(directory)), lock_(std::move(lock)) {}
  Status load(std::vector<std::string>& removed);

  std::string directory_;
  UniqueFd lock_;
  std::vector<OpenView> views_;  // by number
};

struct ControlOptions;  // commands.h
// The registry at --views or the usual place; tells of removed leftovers on stderr.
Result<ViewRegistry> open_registry(const ControlOptions& options);

}  // namespace understudy
