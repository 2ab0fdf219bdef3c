// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/server_point.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <vector>

#include "daemon/base/text.h"
#include "daemon/receiver/receiver_config.h"
#include "daemon/view/point_time.h"

namespace understudy {
namespace {

// What resolve_point() understands as it stands; everything else is a mark's name.
std::string point_of(std::string_view text, std::uint64_t now_ns) {
  const bool digits = std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (digits) return "seq:" + std::string(text);
  if (text.starts_with("latest") || text.starts_with("seq:") || text.starts_with('@')) return std::string(text);
  // A time that is none is better told as such than as a mark that does not exist.
  const bool like_time = std::isdigit(static_cast<unsigned char>(text.front())) != 0 || text.front() == '-';
  if (like_time || parse_point_time(text, now_ns)) return std::string(text);
  return "@" + std::string(text);
}

}  // namespace

Result<ServerPoint> parse_server_point(std::string_view text, std::uint64_t now_ns) {
  const auto at = text.find('@');
  if (at == std::string_view::npos || at + 1 == text.size())
    return Error(ErrorKind::kInvalidArgument, quote(text) + " names no point: wanted SERVER@POINT, for example '" +
                                                  printable(text.substr(0, std::min(at, text.size()))) +
                                                  "@latest' or '...@12:03:17'");
  return ServerPoint{std::string(text.substr(0, at)), point_of(text.substr(at + 1), now_ns)};
}

Result<StorePlace> find_store(const ControlOptions& options, const std::string& server) {
  if (!options.store.empty()) {
    std::error_code failed;
    const std::string directory = std::filesystem::absolute(options.store, failed).lexically_normal().string();
    return StorePlace{server, failed ? options.store : directory, ""};
  }
  const std::string path = options.config.empty() ? kReceiverConfig : options.config;
  if (::access(path.c_str(), F_OK) != 0 && options.config.empty())
    return Error(ErrorKind::kNotFound, "server " + quote(server) + ": this machine has no receiver ('" + path +
                                           "' does not exist); name the store with --store DIRECTORY");
  Result<ReceiverConfig> config = load_receiver_config(path);
  if (!config.ok()) return std::move(config).error();
  std::vector<std::string> names;
  for (const ReceiverStoreConfig& store : config->stores) {
    if (store.server == server) return StorePlace{server, store.path, store.base_path};
    names.push_back(store.server);
  }
  const auto near = nearest_word(server, names);
  return Error(ErrorKind::kNotFound,
               "'" + path + "' has no store of server " + quote(server) +
                   (near ? "; did you mean '" + *near + "'?" : "; there are " + quoted_list(names)));
}

}  // namespace understudy
