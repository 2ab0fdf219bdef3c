// SPDX-License-Identifier: Apache-2.0
#include "daemon/base/boot_id.h"

#include <doctest/doctest.h>

#include "daemon/base/atomic_file.h"
#include "tests/unit/temporary_directory.h"

using namespace understudy;

TEST_CASE("the machine's boot identity does not change while it runs") {
  const auto id = read_boot_id();
  REQUIRE(id.ok());
  CHECK_FALSE(id->is_nil());
  CHECK(*id == read_boot_id().value());
}

TEST_CASE("what is no identity is refused with the file's name") {
  const TemporaryDirectory directory;
  REQUIRE(write_file_atomically(directory.file("id"), std::string_view("not an id\n")).ok());
  const auto id = read_boot_id(directory.file("id"));
  REQUIRE_FALSE(id.ok());
  CHECK(id.error().message().find(directory.file("id")) != std::string::npos);
}
