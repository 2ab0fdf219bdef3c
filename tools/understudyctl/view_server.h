// SPDX-License-Identifier: Apache-2.0
// nbdkit with our plugin on a Unix socket in a view's directory, and nbdfuse on top of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/base/result.h"
#include "tools/understudyctl/server_point.h"
#include "tools/understudyctl/view_registry.h"

namespace understudy {

struct ViewServerOptions {
  StorePlace store;
  std::string point;                // as resolve_point() takes it
  std::optional<std::string> disk;  // slot or name; only this one is served
  // Clients may write: into a temporary file that ends with the server (nbdkit's cow filter, which holds one disk).
  bool overlay = false;
};

// Starts a server whose socket is `<view.directory>/<socket_name>.sock`, adds its disks to `view` and sets point and
// server of it. Returns once the socket takes connections; the server stays when we end. The errors are the plugin's:
// what is wrong with store or point.
Status start_view_server(const ViewServerOptions& options, const std::string& socket_name, OpenView& view);

// Shows a disk of the view as a file; returns its path. Writable when `writable`.
Result<std::string> start_fuse(const OpenView& view, const OpenViewDisk& disk, bool writable);

}  // namespace understudy
