// SPDX-License-Identifier: Apache-2.0
#include "daemon/receiver/receiver_status.h"

namespace understudy {

namespace {

Json scrub_json(const ScrubStatus& scrub) {
  Json json = Json::object();
  json["running"] = scrub.running;
  json["done_bytes"] = scrub.done_bytes;
  json["total_bytes"] = scrub.total_bytes;
  json["passes"] = scrub.passes;
  json["bytes"] = scrub.bytes;
  json["last_end_time_ns"] = scrub.last_end_wall_ns;
  json["damages_total"] = scrub.damages_total;
  json["damages"] = Json::array();
  for (const std::string& damage : scrub.damages) json["damages"].push_back(damage);
  json["damaged_extents"] = Json::array();
  for (const DamagedExtent& extent : scrub.damaged_extents) {
    Json item = Json::object();
    item["disk"] = std::uint64_t{extent.disk};
    item["offset_bytes"] = extent.offset_bytes;
    item["length_bytes"] = extent.length_bytes;
    json["damaged_extents"].push_back(std::move(item));
  }
  json["damaged_points"] = scrub.damaged_points;
  json["last_error"] = scrub.last_error;
  return json;
}

Json store_json(const StoreReport& report) {
  const StoreStatus& store = report.store;
  const StreamPosition& position = store.position;
  Json json = Json::object();
  json["server"] = store.server_name;
  json["server_id"] = store.identity ? Json(store.identity->server.to_string()) : Json();
  json["directory"] = store.directory;
  json["state"] = store.state;
  json["reason"] = store.reason;
  json["read_only"] = store.state == "read-only";
  json["durable_seq"] = position.seq;
  json["epoch"] = position.epoch;
  json["generation"] = position.generation;
  json["gap_open"] = position.gap_open;
  json["gap_reason"] = position.gap_open ? Json(gap_reason_name(position.gap_reason)) : Json();
  json["initial_copy_done"] = position.initial_copy_done;
  json["newest_record_time_ns"] = position.last_time_ns;
  json["disks"] = Json::array();
  for (const DiskGeometry& disk : position.disks) {
    Json item = Json::object();
    item["slot"] = std::uint64_t{disk.disk};
    item["name"] = disk.name;
    item["size_bytes"] = disk.size_bytes;
    json["disks"].push_back(std::move(item));
  }
  json["journal_bytes"] = store.journal_bytes;
  json["base_bytes"] = store.base_bytes;
  json["chain_head"] = store.chain_head;
  json["batches_in"] = store.batches_in;
  json["bytes_in"] = store.bytes_in;
  json["commits"] = store.commits;
  json["commit_ns_total"] = store.commit_ns_total;
  json["last_commit_time_ns"] = store.last_commit_wall_ns;
  json["queued_bytes"] = store.queued_bytes;
  json["indexes_written"] = store.jobs.indexes_written;
  json["merges"] = store.jobs.merges;
  json["merged_bytes"] = store.jobs.merged_bytes;
  json["journal_files"] = store.jobs.files;
  json["journal_files_kept"] = store.jobs.files_kept;
  json["segments_waiting"] = store.jobs.segments_waiting;
  json["jobs_error"] = store.jobs.last_error;
  json["last_error"] = store.last_error;
  json["damages_total"] = store.damages_total;
  json["damages"] = Json::array();
  for (const std::string& damage : store.damages) json["damages"].push_back(damage);
  json["scrub"] = scrub_json(report.scrub);
  json["connected"] = report.connected;
  if (!report.connected) {
    json["peer"] = Json();
    return json;
  }
  Json peer = Json::object();
  peer["address"] = report.session.address;
  peer["software"] = report.session.software;
  peer["boot_id"] = report.session.boot_id.to_string();
  peer["certificate_sha256"] = report.session.certificate_sha256;
  peer["connected_since_ns"] = report.session.connected_wall_ns;
  peer["streaming"] = report.session.streaming;
  peer["paused"] = report.session.paused;
  peer["wire_bytes_in"] = report.session.wire_bytes_in;
  peer["queued_bytes"] = report.session.queued_bytes;
  peer["delta_cache_bytes"] = report.session.delta_cache_bytes;
  peer["delta_cache_bytes_max"] = report.session.delta_cache_bytes_max;
  peer["delta_batches"] = report.session.delta_batches;
  json["peer"] = std::move(peer);
  return json;
}

}  // namespace

Json receiver_status_json(const std::string& name, const std::string& software, std::uint16_t port,
                          const std::vector<StoreReport>& reports) {
  Json json = Json::object();
  json["program"] = "understudy-receiver";
  json["name"] = name;
  json["software"] = software;
  json["port"] = std::uint64_t{port};
  json["stores"] = Json::array();
  for (const StoreReport& report : reports) json["stores"].push_back(store_json(report));
  return json;
}

}  // namespace understudy
