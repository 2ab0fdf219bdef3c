// SPDX-License-Identifier: Apache-2.0
#include "daemon/agent/agent_state.h"

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

namespace fs = std::filesystem;

class Directory {
 public:
  Directory() {
    std::string pattern = (fs::temp_directory_path() / "understudy-agent-state-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Directory() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

void put(const std::string& path, const std::string& text) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path) << text;
}

TrackedDisk tracked(std::uint16_t slot, const std::string& path, std::uint32_t device) {
  TrackedDisk disk;
  disk.slot = slot;
  disk.path = path;
  disk.device = device;
  disk.size_bytes = 1 << 20;
  return disk;
}

}  // namespace

TEST_CASE("identity: made once, then read") {
  const Directory directory;
  const auto first = load_or_create_identity(directory / "state", "web-1");
  REQUIRE(first.ok());
  CHECK(first->created);
  CHECK_FALSE(first->server.is_nil());
  CHECK(first->epoch == 1);
  const auto second = load_or_create_identity(directory / "state", "web-1");
  REQUIRE(second.ok());
  CHECK_FALSE(second->created);
  CHECK(second->server == first->server);
  const auto mode = fs::status(directory / "state/identity.json").permissions();
  CHECK((mode & fs::perms::others_all) == fs::perms::none);
}

TEST_CASE("identity: another server's, or a damaged one, is never replaced") {
  const Directory directory;
  REQUIRE(load_or_create_identity(directory / "state", "web-1").ok());
  const auto other = load_or_create_identity(directory / "state", "web-2");
  REQUIRE_FALSE(other.ok());
  CHECK(other.error().kind() == ErrorKind::kInvalidConfig);
  CHECK(other.error().message().find("'web-1'") != std::string::npos);
  for (const char* text : {"", "{", "{\"server_id\":\"x\"}",
                           "{\"server_id\":\"00000000-0000-0000-0000-000000000000\",\"epoch\":1}"}) {
    put(directory / "state/identity.json", text);
    const auto damaged = load_or_create_identity(directory / "state", "web-1");
    REQUIRE_FALSE(damaged.ok());
    CHECK(damaged.error().kind() == ErrorKind::kCorrupt);
  }
}

TEST_CASE("capture id: a known one is told from a new one") {
  const Directory directory;
  REQUIRE(load_or_create_identity(directory / "state", "web-1").ok());
  const Uuid id = Uuid::random();
  CHECK(note_capture_id(directory / "state", id).value() == false);
  CHECK(note_capture_id(directory / "state", id).value() == true);
  CHECK(note_capture_id(directory / "state", Uuid::random()).value() == false);
}

TEST_CASE("disk ids: stay with the hardware over renames, differ between disks and servers") {
  const Directory directory;
  const std::string sysfs = directory / "sys";
  put(sysfs + "/dev/block/252:16/serial", "SERIAL-A\n");
  put(sysfs + "/dev/block/252:32/serial", "SERIAL-A\n");  // a clone
  put(sysfs + "/dev/block/8:0/device/wwid", "naa.5000   \n");
  AgentIdentity identity;
  identity.server = Uuid::random();
  const std::uint32_t a = 252u << 20 | 16;
  const std::uint32_t b = 252u << 20 | 32;
  const std::uint32_t c = 8u << 20;
  const auto geometry =
      disk_geometry(identity, {tracked(1, "/dev/vdc", b), tracked(0, "/dev/vdb", a), tracked(2, "/dev/sda", c)}, sysfs);
  REQUIRE(geometry.size() == 3);
  CHECK(geometry[0].disk == 0);
  CHECK(geometry[0].id != geometry[1].id);
  CHECK(geometry[1].id != geometry[2].id);
  const auto renamed = disk_geometry(identity, {tracked(2, "/dev/sdz", c)}, sysfs);
  CHECK(renamed[0].id == geometry[2].id);
  CHECK(renamed[0].name == "/dev/sdz");
  identity.server = Uuid::random();
  CHECK(disk_geometry(identity, {tracked(2, "/dev/sda", c)}, sysfs)[0].id != geometry[2].id);
}

}  // namespace understudy
