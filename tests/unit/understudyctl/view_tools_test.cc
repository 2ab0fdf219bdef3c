// SPDX-License-Identifier: Apache-2.0
// What "web-1@..." means, where stores are found, the table of mounts, and the notes of open views.
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "daemon/base/atomic_file.h"
#include "tests/unit/temporary_directory.h"
#include "tools/understudyctl/commands.h"
#include "tools/understudyctl/mount_table.h"
#include "tools/understudyctl/server_point.h"
#include "tools/understudyctl/view_registry.h"

#include <doctest/doctest.h>  // behind our headers: it redefines CHECK

namespace understudy {
namespace {

constexpr std::uint64_t kNow = 1'760'000'000'000'000'000;

TEST_CASE("a server and a point in one word") {
  for (const auto& [text, server, point] :
       std::vector<std::array<std::string, 3>>{{"web-1@latest", "web-1", "latest"},
                                               {"web-1@latest-processed", "web-1", "latest-processed"},
                                               {"web-1@1234", "web-1", "seq:1234"},
                                               {"web-1@seq:1234", "web-1", "seq:1234"},
                                               {"web-1@12:03:17", "web-1", "12:03:17"},
                                               {"web-1@2026-03-01 12:03:17", "web-1", "2026-03-01 12:03:17"},
                                               {"web-1@2026-03-01T12:03:17Z", "web-1", "2026-03-01T12:03:17Z"},
                                               {"web-1@-90s", "web-1", "-90s"},
                                               {"web-1@before-upgrade", "web-1", "@before-upgrade"},
                                               {"web-1@@12:03:17", "web-1", "@12:03:17"},
                                               {"web-1@a@b", "web-1", "@a@b"},
                                               {"@latest", "", "latest"}}) {
    CAPTURE(text);
    const Result<ServerPoint> parsed = parse_server_point(text, kNow);
    REQUIRE(parsed.ok());
    CHECK(parsed->server == server);
    CHECK(parsed->point == point);
  }
  for (const char* text : {"", "web-1", "web-1@", "@"}) {
    CAPTURE(text);
    const Result<ServerPoint> parsed = parse_server_point(text, kNow);
    REQUIRE(!parsed.ok());
    CHECK(parsed.error().kind() == ErrorKind::kInvalidArgument);
    CHECK(parsed.error().message().find("wanted SERVER@POINT") != std::string::npos);
  }
}

TEST_CASE("the store of a server is where the receiver's configuration says") {
  TemporaryDirectory directory;
  ControlOptions options;
  options.config = directory.path() + "/receiver.yaml";
  CHECK(find_store(options, "web-1").error().kind() != ErrorKind::kInternal);  // there is no such file
  REQUIRE(write_file_atomically(options.config,
                                "name: dr-1\ntls: {authority: /a, certificate: /b, key: /c}\nstores:\n"
                                "  - {server: web-1, path: /stores/web-1}\n"
                                "  - {server: db-1, path: /stores/db-1, base_path: /base/db-1}\n")
              .ok());
  const Result<StorePlace> found = find_store(options, "db-1");
  REQUIRE_MESSAGE(found.ok(), found.error().message());
  CHECK(found->directory == "/stores/db-1");
  CHECK(found->base_directory == "/base/db-1");
  CHECK(find_store(options, "web-2").error().message().find("did you mean 'web-1'?") != std::string::npos);
  CHECK(find_store(options, "mail").error().message().find("there are 'web-1' and 'db-1'") != std::string::npos);
  options.store = "/elsewhere/../bare";
  CHECK(find_store(options, "web-2")->directory == "/bare");
}

TEST_CASE("the kernel's table of mounts") {
  const std::vector<MountEntry> mounts = parse_mount_table(
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
      "31 22 0:40 / /run/x/fuse-0 rw shared:2 master:3 - fuse.nbdfuse nbdfuse rw,user_id=0\n"
      "nonsense\n"
      "32 22 7:0 / /mnt/with\\040blank ro - xfs /dev/loop0 ro\n"
      "33 22 0:41 / /mnt/frame ro - tmpfs understudy:/run/x/3 ro\n");
  REQUIRE(mounts.size() == 4);
  CHECK(mounts[0].directory == "/");
  CHECK(mounts[1].type == "fuse.nbdfuse");
  CHECK(mounts[2].directory == "/mnt/with blank");
  CHECK(mounts[2].source == "/dev/loop0");
  CHECK(mounts[3].source == mount_frame_name("/run/x/3"));
}

OpenView example() {
  OpenView view;
  view.number = 3;
  view.directory = "/run/understudy/views/3";
  view.server = "web-1";
  view.store = "/stores/web-1";
  view.seq = 17;
  view.time_ns = kNow;
  view.barrier_aligned = true;
  view.opened_ns = kNow + 1;
  view.disks.push_back({1, "/dev/vdb", 1ull << 40, "/run/x.sock", "nbd+unix:///1?socket=/run/x.sock"});
  view.processes = 1;
  return view;
}

TEST_CASE("a view is noted and read back") {
  OpenView view = example();
  CHECK(json_of(open_view_of(json_of(view)).value()) == json_of(view));
  view.mounted_at = "/mnt";
  const Result<Json> text = Json::parse(json_of(view).dump_indented());
  REQUIRE(text.ok());
  CHECK(json_of(open_view_of(*text).value()) == json_of(view));
  CHECK(describe(view).starts_with("view 3 of web-1 at seq:17, newest write "));
  for (const char* bad : {"null", "[]", "{}", R"({"view": "3"})", R"({"view": 0, "directory": "/x", "processes": 1})"})
    CHECK_MESSAGE(!open_view_of(Json::parse(bad).value()), bad);
}

TEST_CASE("what was never finished, or has lost its processes, is removed") {
  TemporaryDirectory directory;
  const std::string views = directory.path() + "/made/views";
  std::vector<std::string> removed;
  {
    Result<ViewRegistry> registry = ViewRegistry::open(views, removed);
    REQUIRE_MESSAGE(registry.ok(), registry.error().message());
    CHECK(registry->views().empty());
    Result<OpenView> first = registry->reserve();
    REQUIRE(first.ok());
    CHECK(first->number == 1);
    OpenView dead = *first;
    dead.processes = 1;
    dead.server = "web-1";
    REQUIRE(registry->keep(dead).ok());
    CHECK(registry->reserve()->number == 2);
    CHECK(registry->find("1").ok());
    CHECK(registry->find("2").error().message().find("there are '1'") != std::string::npos);
    CHECK(registry->find_mount("/mnt").error().message().find("none is mounted") != std::string::npos);
  }
  CHECK(removed.empty());
  Result<ViewRegistry> registry = ViewRegistry::open(views, removed);
  REQUIRE(registry.ok());
  CHECK(registry->views().empty());
  CHECK(removed.size() == 2);
  CHECK(::access((views + "/1").c_str(), F_OK) != 0);
  CHECK(::access((views + "/2").c_str(), F_OK) != 0);
}

TEST_CASE("a directory of views that is too long for sockets is refused") {
  std::vector<std::string> removed;
  const Result<ViewRegistry> registry = ViewRegistry::open("/" + std::string(100, 'x'), removed);
  REQUIRE(!registry.ok());
  CHECK(registry.error().message().find("longer than 80 bytes") != std::string::npos);
}

}  // namespace
}  // namespace understudy
