// SPDX-License-Identifier: Apache-2.0
// "web-1@12:03:17": a server of this receiver and one of its points, as operators write them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/base/result.h"
#include "tools/understudyctl/commands.h"

namespace understudy {

struct ServerPoint {
  std::string server;  // may be empty when --store names the store
  std::string point;   // as resolve_point() (daemon/view/view.h) takes it
};

// Behind the first '@': latest, latest-processed, latest-application, seq:<n> or just <n>, a time, -90s; anything else
// is the name of a mark (which may also be written '@name'). `now_ns` tells times from names. Pure but for TZ.
Result<ServerPoint> parse_server_point(std::string_view text, std::uint64_t now_ns);

struct StorePlace {
  std::string server;
  std::string directory;
  std::string base_directory;  // empty = as the store says
};

// --store, or where the receiver's configuration (--config) says that the server's store is. kNotFound lists the
// servers that there are.
Result<StorePlace> find_store(const ControlOptions& options, const std::string& server);

}  // namespace understudy
