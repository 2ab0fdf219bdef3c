// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/mounts.h"

#include <doctest/doctest.h>

namespace understudy {

TEST_CASE("mountinfo is understood, and what is not is passed over") {
  const auto mounts = parse_mounts(
      "36 35 253:2 / /mnt\\040one rw,noatime master:1 - ext4 /dev/dm-2 rw,errors=continue\n"
      "37 35 253:3 /sub /ro ro,noatime - xfs /dev/dm-3 rw\n"
      "38 35 8:1 / /srv rw shared:2 propagate_from:1 - xfs /dev/sda1 ro\n"
      "garbage\n1 2 3\n\n39 35 x:1 / /a rw - ext4 /dev/x rw\n40 35 8:2 / /b rw ext4\n");
  REQUIRE(mounts.size() == 3);
  CHECK(mounts[0].device == (253u << 20 | 2));
  CHECK(mounts[0].directory == "/mnt one");
  CHECK(mounts[0].writable());
  CHECK(mounts[1].root == "/sub");
  CHECK_FALSE(mounts[1].writable());
  CHECK_FALSE(mounts[2].writable());

  CHECK(parse_mounts("").empty());
  const auto found = parse_mounts("30 1 8:16 / /a\\040b\\134c rw,x shared:3 master:1 new:field - xfs /dev/sdb rw\n");
  REQUIRE(found.size() == 1);
  CHECK(found[0].directory == "/a b\\c");
  CHECK(found[0].source == "/dev/sdb");
}

TEST_CASE("a device number is two numbers in their range") {
  CHECK(parse_device_number("8:16") == (8u << 20 | 16));
  for (const char* text : {"", "8", "8:", ":16", "8:16x", "4096:1", "1:1048576", "-1:2"}) {
    CAPTURE(text);
    CHECK(parse_device_number(text) == 0);
  }
}

TEST_CASE("a list of mounts that is not there is an error that names it") {
  const auto mounts = read_mounts("/nowhere/mountinfo");
  REQUIRE_FALSE(mounts.ok());
  CHECK(mounts.error().message().find("/nowhere/mountinfo") != std::string::npos);
}

}  // namespace understudy
