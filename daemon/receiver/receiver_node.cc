// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/receiver_node.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "daemon/base/atomic_file.h"
#include "daemon/base/log.h"
#include "daemon/base/message_ids.h"
#include "daemon/base/text.h"
#include "daemon/wire/frame_codec.h"

namespace understudy {

namespace {

constexpr std::size_t kOrdersBytesMax = 4u << 20;

// [{"server","<member>"}] as a map.
Result<std::map<std::string, std::uint64_t>> read_list(const Json& list, std::string_view member) {
  std::map<std::string, std::uint64_t> all;
  for (const Json& item : list.items()) {
    const std::string server = item.at("server").as_string("");
    const std::uint64_t value = item.at(member).as_unsigned(0);
    if (!is_valid_wire_name(server) || value == 0) {
      return Error(ErrorKind::kInvalidArgument, "orders: " + quote(server) + " with " + std::string(member) + " " +
                                                    std::to_string(value) +
                                                    " is no name of a server with a number of at least 1");
    }
    all[server] = value;
  }
  return all;
}

Json list_json(const std::map<std::string, std::uint64_t>& all, std::string_view member) {
  Json list = Json::array();
  for (const auto& [server, value] : all) {
    Json item = Json::object();
    item["server"] = server;
    item[member] = value;
    list.push_back(std::move(item));
  }
  return list;
}

bool is_listed(const ReceiverConfig& config, const std::string& server) {
  return std::any_of(config.stores.begin(), config.stores.end(),
                     [&](const ReceiverStoreConfig& store) { return store.server == server; });
}

}  // namespace

Result<std::unique_ptr<ReceiverNode>> ReceiverNode::open(const ReceiverConfig& config) {
  std::unique_ptr<ReceiverNode> node(new ReceiverNode(config));
  if (config.orchestrator.address.empty()) return node;
  const auto text = read_file(node->orders_path(), kOrdersBytesMax);
  if (!text.ok()) {
    if (text.error().kind() == ErrorKind::kNotFound) return node;
    return text.error();
  }
  const auto json = Json::parse(*text);
  auto stores =
      json.ok() ? read_list(json->at("stores"), "epoch") : Result<std::map<std::string, std::uint64_t>>(json.error());
  auto removed = json.ok() ? read_list(json->at("removed"), "order") : stores;
  if (!stores.ok() || !removed.ok()) {
    return Error(ErrorKind::kCorrupt, quote(node->orders_path()) + ": " +
                                          (stores.ok() ? removed : stores).error().message() +
                                          "; remove it, and the orchestrator says again which stores there are");
  }
  node->stores_ = std::move(stores).value();
  node->removed_ = std::move(removed).value();
  return node;
}

ReceiverConfig ReceiverNode::with_orders(ReceiverConfig config) const {
  for (const auto& [server, epoch] : stores_) {
    const auto listed =
        std::find_if(config.stores.begin(), config.stores.end(),
                     [&, name = server](const ReceiverStoreConfig& store) { return store.server == name; });
    if (listed != config.stores.end()) {
      listed->epoch = epoch;
      continue;
    }
    ReceiverStoreConfig store;
    store.server = server;
    store.path = config.stores_directory + "/" + server;
    store.delta_cache_bytes_max = config.delta_cache_bytes_max;
    store.epoch = epoch;
    config.stores.push_back(std::move(store));
  }
  return config;
}

Status ReceiverNode::start(ReceiverServer& server, EventLoop& loop, const std::string& software) {
  server_ = &server;
  if (config_.orchestrator.address.empty()) return ok_status();
  NodeClientOptions options;
  options.orchestrator = config_.orchestrator;
  options.identity = {WireRole::kReceiver, config_.name};
  options.tls = config_.tls;
  options.software = software;
  options.report = [this] { return report(); };
  options.desired = [this, &loop](const Json& desired) {
    loop.post([this, desired] {
      if (const Status status = take(desired); !status.ok()) log_error(kMessageOrderFailed, status.error());
      if (client_) client_->report_soon();
    });
  };
  options.on_change = [](const Status& status, const std::string& text) {
    log_message(status.ok() ? LogLevel::kInfo : LogLevel::kNotice, kMessageOrchestratorLink, text);
  };
  ASSIGN_OR_RETURN(client_, NodeClient::start(std::move(options)));
  return ok_status();
}

Status ReceiverNode::take(const Json& desired) {
  ASSIGN_OR_RETURN(auto stores, read_list(desired.at("stores"), "epoch"));
  ASSIGN_OR_RETURN(const auto remove, read_list(desired.at("remove"), "order"));
  std::map<std::string, std::uint64_t> to_remove;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [server, order] : remove) {
      const auto done = removed_.find(server);
      if ((done == removed_.end() || done->second < order) && stores.count(server) == 0) to_remove[server] = order;
    }
  }
  // What is no longer named stays until it is named for removal.
  for (const auto& [server, epoch] : stores_) {
    if (to_remove.count(server) == 0) stores.emplace(server, epoch);
  }
  if (stores == stores_ && to_remove.empty()) return ok_status();
  const auto before = std::exchange(stores_, std::move(stores));
  // Written down first: a store that is there after this must be there again after a restart.
  Status status = save();
  if (status.ok()) {
    auto reloaded = server_->reload(with_orders(config_));
    if (!reloaded.ok()) status = std::move(reloaded).error();
  }
  if (!status.ok()) {
    stores_ = before;
    return status;
  }
  for (const auto& [server, epoch] : stores_) {
    if (before.count(server) != 0) continue;
    log_message(LogLevel::kInfo, kMessageOrderTaken,
                "the store of server " + quote(server) + " is expected in epoch " + std::to_string(epoch) +
                    ", as the orchestrator ordered");
  }
  for (const auto& [server, order] : to_remove) {
    RETURN_IF_ERROR(remove_store(server));
    {
      std::lock_guard lock(mutex_);
      removed_[server] = order;
    }
    RETURN_IF_ERROR(save());
  }
  return ok_status();
}

// Nobody uses it any more: reload() came before.
Status ReceiverNode::remove_store(const std::string& server) {
  if (is_listed(config_, server)) {
    log_message(LogLevel::kNotice, kMessageOrderTaken,
                "the store of server " + quote(server) + " is kept: the configuration lists it");
    return ok_status();
  }
  const std::string path = config_.stores_directory + "/" + server;
  std::error_code error;
  const std::uintmax_t files = std::filesystem::remove_all(path, error);
  if (error) return Error::from_errno(error.value(), "remove store " + quote(path));
  RETURN_IF_ERROR(fsync_directory(config_.stores_directory));
  log_message(LogLevel::kNotice, kMessageOrderTaken,
              files == 0 ? "there is no store of server " + quote(server) + " to be removed"
                         : "removed store " + quote(path) + ", as the orchestrator ordered");
  return ok_status();
}

Status ReceiverNode::save() const {
  std::error_code error;
  std::filesystem::create_directories(config_.stores_directory, error);
  if (error) return Error::from_errno(error.value(), "make directory " + quote(config_.stores_directory));
  Json json = Json::object();
  json["stores"] = list_json(stores_, "epoch");
  {
    std::lock_guard lock(mutex_);
    json["removed"] = list_json(removed_, "order");
  }
  return write_file_atomically(orders_path(), json.dump_indented() + "\n");
}

// On the node's thread.
Json ReceiverNode::report() const {
  Json json = Json::object();
  json["port"] = std::uint64_t{server_->port()};
  json["stores"] = Json::array();
  for (const StoreReport& report : server_->report()) {
    const StoreStatus& store = report.store;
    Json item = Json::object();
    item["server"] = store.server_name;
    item["state"] = store.state;
    item["reason"] = store.reason;
    item["epoch"] = store.position.epoch;
    item["generation"] = store.position.generation;
    item["durable_seq"] = store.position.seq;
    item["gap_open"] = store.position.gap_open;
    item["initial_copy_done"] = store.position.initial_copy_done;
    item["newest_record_time_ns"] = store.position.last_time_ns;
    item["journal_bytes"] = store.journal_bytes;
    item["base_bytes"] = store.base_bytes;
    item["damages_total"] = store.damages_total;
    item["connected"] = report.connected;
    json["stores"].push_back(std::move(item));
  }
  std::lock_guard lock(mutex_);
  json["removed"] = list_json(removed_, "order");
  return json;
}

}  // namespace understudy
