// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent_state.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>

#include "daemon/base/atomic_file.h"
#include "daemon/base/checksum.h"
#include "daemon/control/json.h"

namespace understudy {
namespace {

constexpr std::size_t kStateFileBytesMax = 64 << 10;

Status make_directory(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return Error::from_errno(error.value(), "create state directory '" + directory + "'");
  return ok_status();
}

Result<AgentIdentity> parse_identity(const std::string& path, const std::string& text, const std::string& server_name) {
  const auto bad = [&path](const std::string& what) {
    return Error(ErrorKind::kCorrupt, "identity file '" + path + "': " + what +
                                          "; put back a copy of it, or remove it to begin as a new server");
  };
  const auto json = Json::parse(text);
  if (!json.ok()) return bad(json.error().message());
  const auto server = Uuid::parse(json->at("server_id").as_string(""));
  if (!server.ok() || server->is_nil()) return bad("'server_id' is no UUID");
  AgentIdentity identity;
  identity.server = *server;
  identity.server_name = json->at("server_name").as_string("");
  identity.epoch = json->at("epoch").as_unsigned(0);
  if (identity.epoch == 0) return bad("'epoch' must be at least 1");
  if (identity.server_name != server_name) {
    return Error(ErrorKind::kInvalidConfig, "identity file '" + path + "' belongs to server '" + identity.server_name +
                                                "', but the configuration says server '" + server_name +
                                                "'; give each server a state_directory of its own");
  }
  return identity;
}

std::string first_line(const std::string& path) {
  const auto text = read_file(path, kStateFileBytesMax);
  if (!text.ok()) return "";
  std::string line = text->substr(0, text->find('\n'));
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

// What the disk says of itself; empty when nothing.
std::string hardware_identity(const std::string& sysfs, std::uint32_t device) {
  const std::string number = std::to_string(device >> 20) + ":" + std::to_string(device & 0xfffff);
  const std::string base = sysfs + "/dev/block/" + number;
  for (const char* name : {"/wwid", "/device/wwid", "/serial", "/device/serial", "/dm/uuid", "/md/uuid"}) {
    const std::string line = first_line(base + name);
    if (!line.empty()) return std::string(name) + "=" + line;
  }
  return "";
}

Uuid derived_id(const Uuid& server, const std::string& what) {
  Sha256 hash;
  hash.update(server.bytes);
  hash.update(std::as_bytes(std::span(what)));
  const Sha256Digest digest = hash.digest();
  Uuid id;
  std::memcpy(id.bytes.data(), digest.data(), id.bytes.size());
  id.bytes[6] = (id.bytes[6] & std::byte{0x0f}) | std::byte{0x80};  // RFC 9562: version 8, made by our own rule
  id.bytes[8] = (id.bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  return id;
}

}  // namespace

Result<AgentIdentity> load_or_create_identity(const std::string& directory, const std::string& server_name) {
  const std::string path = directory + "/identity.json";
  const auto text = read_file(path, kStateFileBytesMax);
  if (text.ok()) return parse_identity(path, *text, server_name);
  if (text.error().kind() != ErrorKind::kNotFound) return text.error();
  RETURN_IF_ERROR(make_directory(directory));
  AgentIdentity identity;
  identity.server = Uuid::random();
  identity.server_name = server_name;
  identity.created = true;
  RETURN_IF_ERROR(save_identity(directory, identity));
  return identity;
}

Status save_identity(const std::string& directory, const AgentIdentity& identity) {
  Json json = Json::object();
  json["server_id"] = identity.server.to_string();
  json["server_name"] = identity.server_name;
  json["epoch"] = identity.epoch;
  return write_file_atomically(directory + "/identity.json", json.dump_indented() + "\n");
}

Result<bool> note_capture_id(const std::string& directory, const Uuid& capture_id) {
  const std::string path = directory + "/capture";
  if (first_line(path) == capture_id.to_string()) return true;
  RETURN_IF_ERROR(write_file_atomically(path, capture_id.to_string() + "\n"));
  return false;
}

std::vector<DiskGeometry> disk_geometry(const AgentIdentity& identity, const std::vector<TrackedDisk>& disks,
                                        const std::string& sysfs) {
  std::vector<DiskGeometry> geometry;
  std::set<std::string> seen;
  for (const TrackedDisk& disk : disks) {
    std::string what = hardware_identity(sysfs, disk.device);
    // Clones of virtual disks may carry one serial number: the path then tells them apart.
    if (what.empty() || !seen.insert(what).second) what = "path=" + disk.path;
    DiskGeometry one;
    one.disk = disk.slot;
    one.id = derived_id(identity.server, what);
    one.name = disk.path;
    one.size_bytes = disk.size_bytes;
    one.logical_block_bytes = disk.logical_block_bytes;
    geometry.push_back(one);
  }
  std::sort(geometry.begin(), geometry.end(),
            [](const DiskGeometry& a, const DiskGeometry& b) { return a.disk < b.disk; });
  return geometry;
}

}  // namespace understudy
