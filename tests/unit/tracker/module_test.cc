// SPDX-License-Identifier: Apache-2.0
#include "daemon/tracker/module_disks.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "daemon/tracker/capture_event.h"
#include "daemon/tracker/module_tracker.h"

namespace understudy {
namespace {

const std::vector<DmLine> kLinear = {{0, 647168, "linear", "254:0 2048"}, {647168, 8192, "linear", "254:16 2048"}};

TEST_CASE("a linear table becomes one of the module's, and comes back as it was") {
  const DmTable table{"vg-a", kLinear, false, false, false};
  const auto captured = captured_lines(table, "web-1", 3);
  REQUIRE(captured.ok());
  CHECK(*captured == std::vector<DmLine>{{0, 647168, "understudy", "web-1 3 254:0 2048"},
                                         {647168, 8192, "understudy", "web-1 3 254:16 2048"}});
  const DmTable attached{"vg-a", *captured, false, false, false};
  const auto back = linear_lines(attached);
  REQUIRE(back.ok());
  CHECK(*back == kLinear);
  // From another slot to this one at once: what a capture that died left.
  const auto moved = captured_lines(attached, "web-1", 4);
  REQUIRE(moved.ok());
  CHECK(moved->front().arguments == "web-1 4 254:0 2048");
}

TEST_CASE("other tables are refused by the name of what is in them") {
  const auto refusal = [](std::vector<DmLine> lines) {
    const auto result = captured_lines({"vg-a", std::move(lines), false, false, false}, "s", 0);
    REQUIRE(!result.ok());
    CHECK(result.error().kind() == ErrorKind::kUnsupported);
    return result.error().message();
  };
  CHECK(refusal({kLinear[0], {647168, 8, "striped", "2 128 254:0 0 254:16 0"}}).find("'striped'") != std::string::npos);
  CHECK(refusal({{0, 8, "understudy", "web-1"}}).find("'understudy'") != std::string::npos);
  CHECK(refusal({}).find("no table") != std::string::npos);
}

TEST_CASE("without the module, or without device-mapper, the answer says so") {
  const auto module = ModuleDevice::open("/dev/no-such-device");
  REQUIRE(!module.ok());
  CHECK(module.error().kind() == ErrorKind::kUnsupported);
  CHECK(module.error().message().find("modprobe understudy") != std::string::npos);
  // Something that is there and is not it.
  const auto null = ModuleDevice::open("/dev/null");
  REQUIRE(!null.ok());
  CHECK(null.error().message().find("'/dev/null'") != std::string::npos);
}

TEST_CASE("the module's options out of range are refused with the range") {
  const auto refusal = [](auto change) {
    ModuleTrackerOptions options;
    options.server = "x";
    options.disks = {"/dev/null"};
    change(options);
    const auto tracker = open_module_tracker(options);
    REQUIRE(!tracker.ok());
    CHECK(tracker.error().kind() == ErrorKind::kInvalidArgument);
    return tracker.error().message();
  };
  CHECK(refusal([](auto& o) { o.ring_bytes = 3 << 20; }).find("power of two from 1 MiB to 2 GiB") != std::string::npos);
  CHECK(refusal([](auto& o) { o.granule_bytes = 512; }).find("from 4 KiB to 16 MiB") != std::string::npos);
  CHECK(refusal([](auto& o) { o.disks.clear(); }).find("1 to 64 disks, not 0") != std::string::npos);
  CHECK(refusal([](auto& o) { o.server = "a/b"; }).find("'a/b'") != std::string::npos);
  CHECK(refusal([](auto&) {}).find("not a block device") != std::string::npos);
}

TEST_CASE("records of the ring become events; the self-test's and those of unknown disks do not") {
  std::vector<std::byte> bytes(sizeof(understudy_capture_record) + 1024, std::byte{7});
  understudy_capture_record head{};
  head.kind = UNDERSTUDY_CAPTURE_WRITE;
  head.flags = UNDERSTUDY_CAPTURE_PREFLUSH | UNDERSTUDY_CAPTURE_FUA;
  head.disk = 2;
  head.data_bytes = 1024;
  head.sector = 10;
  head.sectors = 2;
  head.time_ns = 5;
  head.loss_count = 6;
  const auto event = [&] {
    std::memcpy(bytes.data(), &head, sizeof(head));
    KnownDisks known{};
    known[2] = true;
    return event_of({bytes, 4096}, known);
  };
  const auto write = event();
  REQUIRE(write.has_value());
  CHECK(write->kind == CaptureKind::kWrite);
  CHECK(write->preflush);
  CHECK(write->fua);
  CHECK(write->offset_bytes == 5120);
  CHECK(write->length_bytes == 1024);
  CHECK(write->data.size() == 1024);
  CHECK(write->data.data() == bytes.data() + sizeof(head));
  CHECK(write->boot_time_ns == 5);
  CHECK(write->loss_count == 6);
  CHECK(write->position == 4096);
  head.disk = 3;
  CHECK(!event().has_value());
  head.disk = 2;
  head.kind = UNDERSTUDY_CAPTURE_PROBE;
  CHECK(!event().has_value());
  head.kind = UNDERSTUDY_CAPTURE_ZERO;
  head.flags = UNDERSTUDY_CAPTURE_DISCARD;
  head.data_bytes = 0;
  const auto zero = event();
  REQUIRE(zero.has_value());
  CHECK(zero->discard);
  CHECK(zero->data.empty());
}

}  // namespace
}  // namespace understudy
